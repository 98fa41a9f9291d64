"""Runs `moorage dev` for ten minutes of a clock that runs thirty times as fast as the machine's.

Only the pauses of periodic work follow that clock.
"""

import asyncio
import os
import signal
from functools import partial
from typing import Any
from unittest.mock import patch

from moorage.cli.main import main
from moorage.gateway import dev
from moorage.gateway.running import GatewayAddresses, GatewayRun

SPEED, SECONDS = 30, 600


def hurried(**options: Any) -> GatewayRun:
    """The run of a gateway that ends by itself."""
    on_ready = options.pop("on_ready")

    def ready(addresses: GatewayAddresses) -> None:
        end = partial(os.kill, os.getpid(), signal.SIGTERM)
        asyncio.get_running_loop().call_later(SECONDS / SPEED, end)
        on_ready(addresses)

    return GatewayRun(on_ready=ready, speed=SPEED, **options)


if __name__ == "__main__":
    with patch.object(dev, "GatewayRun", hurried):
        main()

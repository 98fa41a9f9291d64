"""Runs `moorage`, and notes how long its event loop was at work at a stretch.

Each stretch of a few milliseconds is a line of `stretches` in the data directory. Processor time of
the loop's own thread is counted, so a machine that is busy with other work changes nothing. Steps
that follow each other at once count together: a stretch is never noted shorter than it was.
"""

import asyncio
import sys
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import uvloop

from moorage.cli.main import main

BEAT_SECONDS = 0.001
LEAST_SECONDS = 0.004
RUN = uvloop.run


def measured(gateway: Coroutine[Any, Any, None], noted: Path) -> None:
    """Runs a gateway in a loop whose stretches are noted."""

    async def beating() -> None:
        with noted.open("a", buffering=1) as file:
            beats = asyncio.create_task(note(file))
            try:
                await gateway
            finally:
                beats.cancel()

    async def note(file: Any) -> None:
        since = time.thread_time()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            taken, since = time.thread_time() - since, time.thread_time()
            if taken > LEAST_SECONDS:
                file.write(f"{taken}\n")

    RUN(beating())


if __name__ == "__main__":
    data_dir = next(each for each in sys.argv if each.startswith("--data-dir=")).partition("=")[2]
    with patch.object(uvloop, "run", partial(measured, noted=Path(data_dir) / "stretches")):
        main()

"""How long a gateway with apps takes to serve again."""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from gateway import REPOSITORY, UNLIMITED, example_files
from measure import Row, cpu_seconds, median, spread
from moorage.chains.local.devchain import find_anvil
from support.chains.chain_fixture import running_chains
from support.clients.wallet import Wallet
from support.gateway.gateway_fixture import moorage
from support.gateway.served import ServedGateway

APPS, RESTARTS = 50, 5
RESTART_SECONDS = 2


def run() -> list[Row]:
    """Restarts of a gateway whose apps run on."""
    return [_restarts()]


def _restarts() -> Row:
    """Measures a gateway from `kill -9` until its API answers again."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as directory:
        node = find_anvil([REPOSITORY / "node_modules"])
        with running_chains(Path(directory), node) as chains:
            gateway = ServedGateway(
                Path(directory) / "gateway",
                chains,
                requests_per_minute=int(UNLIMITED),
                memory_overcommit=50,
                disk_overcommit=100,
            )
            gateway.inside = ("env", f"PYTHONPATH={os.pathsep.join(sys.path)}")
            gateway.start()
            try:
                asyncio.run(_deploy(gateway))
                took = [_restart(gateway) for _ in range(RESTARTS)]
            finally:
                gateway.stop()
                stop = ("stop", "--reason", "measured", f"--config={gateway.config}")
                moorage("operator", *stop, env=gateway.environment()).check_returncode()
    seconds, cpu = zip(*took, strict=True)
    return Row(
        f"a gateway with {APPS} apps serves again after kill -9",
        f"{median(seconds):.1f} s",
        f"{RESTART_SECONDS} s",
        median(seconds) <= RESTART_SECONDS,
        f"{spread(seconds, 1)} s; {median(cpu):.1f} s of processor time, imports included",
    )


async def _deploy(gateway: ServedGateway) -> None:
    wallet = await Wallet(gateway).fund(amount=1_000_000_000)
    paid = [
        await wallet.deploy_paid(f"restart-{number}", example_files("hello-node"))
        for number in range(APPS)
    ]
    for each in paid:
        settled = await wallet.settled(each, within_seconds=600)
        assert settled["status"] == "ready", settled


def _restart(gateway: ServedGateway) -> tuple[float, float]:
    """Returns the seconds until it serves, and its processor time by then."""
    gateway.kill()
    begun = time.perf_counter()
    gateway.start()
    return time.perf_counter() - begun, cpu_seconds(gateway.pid)

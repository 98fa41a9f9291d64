"""How long the command line takes to start, and a gateway with apps to serve again."""

import asyncio
import os
import statistics
import subprocess
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

TIMES = 20
TARGET_MS = 150
APPS, RESTARTS = 50, 5
RESTART_SECONDS = 2


def run() -> list[Row]:
    """The command line, then restarts of a gateway whose apps run on."""
    return [*_commands(), _restarts()]


def _commands() -> list[Row]:
    """Measures importing it, and what a command runs."""
    program = [sys.executable, "-c"]
    bare = _median_ms([*program, "pass"])
    rows = []
    for subject, code in (
        ("import the command line", "import moorage.cli.main"),
        ("import what `deploy` runs", "import moorage.cli.deploy"),
    ):
        took = _median_ms([*program, code]) - bare
        note = f"median of {TIMES}, beyond Python's own {bare:.0f} ms"
        is_target = subject == "import the command line"
        rows.append(
            Row(
                subject,
                f"{took:.0f} ms",
                f"{TARGET_MS} ms" if is_target else "",
                took < TARGET_MS if is_target else None,
                note,
            )
        )
    return rows


def _median_ms(command: list[str]) -> float:
    return statistics.median(_once_ms(command) for _ in range(TIMES))


def _once_ms(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - begun) * 1000


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

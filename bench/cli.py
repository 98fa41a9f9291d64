"""How soon each command begins to answer, in a process of its own: its help, and a real answer."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from gateway import example_files, gateway
from measure import Row, median
from moorage.cli.main import all_commands
from support.clients.wallet import Wallet
from support.gateway.gateway_fixture import DevGateway

TIMES = 5
TARGET_MS = 300
MOORAGE = Path(sys.executable).with_name("moorage")
ASKING = ("credits", "projects", "chains", "sizes", "events", "balance", "show first-byte")


def run() -> list[Row]:
    """The help of every command; what asks a gateway."""
    bare = median([_first_byte_ms(["--version"]) for _ in range(TIMES)])
    helps = {
        each.name: median([_first_byte_ms([*each.name.split(), "--help"]) for _ in range(TIMES)])
        for each in all_commands()
    }
    with gateway(pinned=False) as served:
        variables = asyncio.run(_customer(served))
        asked = {
            line: median([_first_byte_ms(line.split(), variables) for _ in range(TIMES)])
            for line in ASKING
        }
    return [_row("help", helps, bare), _row("an answer of a gateway on this machine", asked, bare)]


async def _customer(served: DevGateway) -> dict[str, str]:
    """A wallet with a project, as the environment of a command names it."""
    wallet = await Wallet(served).fund()
    settled = await wallet.settled(
        await wallet.deploy_paid("first-byte", example_files("hello-node"))
    )
    assert settled["status"] == "ready", settled
    return {"MOORAGE_GATEWAY": served.url, "MOORAGE_PRIVATE_KEY": wallet.key}


def _first_byte_ms(arguments: list[str], variables: Mapping[str, str] | None = None) -> float:
    begun = time.perf_counter()
    with subprocess.Popen(
        [MOORAGE, *arguments],
        env=os.environ | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.read(1)
        took = (time.perf_counter() - begun) * 1_000
        program.stdout.read()
    assert program.returncode == 0, arguments
    return took


def _row(subject: str, took: Mapping[str, float], bare: float) -> Row:
    slowest = max(took, key=lambda name: took[name])
    middle = median(list(took.values()))
    return Row(
        f"first byte of {subject}, slowest of {len(took)} commands",
        f"{took[slowest]:.0f} ms",
        f"{TARGET_MS} ms",
        took[slowest] <= TARGET_MS,
        f"`{slowest}`; middle {middle:.0f} ms, `--version` {bare:.0f} ms; medians of {TIMES}",
    )

"""A change of size, and a one-off command, beside a restart of the same app."""

import asyncio
import time
from typing import Any

from gateway import deployed, funded, gateway
from measure import Row, median, spread
from support.clients.wallet import Answer, Wallet
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

ROUNDS = 7
_PAUSE_SECONDS = 0.05  # of what asks whether it is done: both sides pay it alike
_SIZES = ("large", "standard")  # in turn, so that the disk is made larger and smaller


def run() -> list[Row]:
    """Seconds from each request until its outcome stands in the answers, in turn."""
    with gateway(pinned=False) as started:
        resized, ran, restarted = asyncio.run(_rounds(started))
    return [
        _row("change of size → ready ÷ restart → ready", resized, restarted, 3.0),
        _row("run of `true` → succeeded ÷ restart → ready", ran, restarted, 1.5),
    ]


def _row(what: str, ours: list[float], base: list[float], most: float) -> Row:
    ratio = median(ours) / median(base)
    return Row(
        what,
        f"{ratio:.2f}×",
        f"≤ {most:.1f}×",
        ratio <= most,
        f"{median(ours):.2f} s ÷ {median(base):.2f} s; {spread(ours, 2)} and {spread(base, 2)} s",
    )


async def _rounds(started: DevGateway) -> tuple[list[float], list[float], list[float]]:
    wallet = await funded(started)
    answer = await deployed(wallet, "worker-bench", "hello-node")
    path = f"/agent/projects/{answer.body['projectId']}"
    resized, ran, restarted = [], [], []
    for number in range(ROUNDS):
        resized.append(await _changed(wallet, path, {"size": _SIZES[number % 2]}))
        ran.append(await _ran(wallet, path))
        restarted.append(await _changed(wallet, path, {"restart": True}))
    return resized, ran, restarted


async def _changed(wallet: Wallet, path: str, change: dict[str, Any]) -> float:
    began = time.perf_counter()
    changed = await wallet.call("PATCH", path, json=change)
    assert changed.status == 200, changed.body
    settled = await wallet.settled(Answer(200, changed.body, {}), within_seconds=60)
    assert settled["status"] == "ready", settled
    return time.perf_counter() - began


async def _ran(wallet: Wallet, path: str) -> float:
    began = time.perf_counter()
    asked = await wallet.call("POST", f"{path}/runs", json={"command": "true"})
    assert asked.status == 202, asked.body

    async def is_over() -> bool:
        shown = await wallet.call("GET", f"{path}/runs/{asked.body['runId']}")
        return shown.body["status"] not in ("queued", "running")

    await until(is_over, seconds=60, pause_seconds=_PAUSE_SECONDS)
    return time.perf_counter() - began

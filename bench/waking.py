"""Waking a sleeping app by a request, beside starting the same files and asking them."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

from gateway import EXAMPLES, deployed, example_files, funded, gateway
from load import app_at, request_bytes, tcp
from measure import Row, median, spread
from moorage.engines.engine import BuildSpec, InstanceSpec
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.gateway.platform import find_tool
from moorage.hosting.limits import app_limits, build_limits
from moorage.planning.plan import Settings as PlanSettings
from moorage.planning.planner import make_plan
from moorage.records.size import Size
from moorage.settings import Settings
from moorage.uploads.reader import DirectoryTree
from support.clients.wallet import Answer, Wallet
from support.engines.toolboxes import TOOLBOX
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

ROUNDS = 11
_EXAMPLE = "hello-node"
_HOST = "sleeper.localhost"
_PAUSE_SECONDS = 0.002
_SETTINGS = Settings()


def run() -> list[Row]:
    """Seconds to the first 200, of both in turn."""
    with (
        gateway(pinned=False, min_sleep_after_seconds="1") as started,
        tempfile.TemporaryDirectory(prefix="moorage-bench-") as directory,
    ):
        wakes, starts = asyncio.run(_alternate(started, Path(directory)))
    ratio = median(wakes) / median(starts)
    return [
        Row(
            "request → 200 of a sleeping app ÷ start → 200 by hand",
            f"{ratio:.2f}×",
            "≤ 1.5×",
            ratio <= 1.5,
            f"{median(wakes) * 1000:.0f} ms ÷ {median(starts) * 1000:.0f} ms;"
            f" {spread([seconds * 1000 for seconds in wakes], 0)} and"
            f" {spread([seconds * 1000 for seconds in starts], 0)} ms",
        )
    ]


async def _alternate(started: DevGateway, directory: Path) -> tuple[list[float], list[float]]:
    wallet = await funded(started)
    answer = await deployed(wallet, "sleeper", _EXAMPLE)
    path = f"/agent/projects/{answer.body['projectId']}"
    await wallet.call("PATCH", path, json={"sleepAfterSeconds": 1})
    sandbox = Sandbox(
        HostConfiguration(
            state_dir=directory / "apps",
            run_dir=Path(f"/run/moorage/bench-{os.getpid()}"),
            instance_id=f"{os.getpid() & 0xFFFFFF:06x}",
            tools={name: find_tool(name) for name in ("caddy", "uv")},
        )
    )
    await sandbox.open()
    try:
        start = await _built(sandbox)
        wakes, starts = [], []
        for _ in range(ROUNDS):
            await until(lambda: _asleep(wallet, answer), seconds=60, pause_seconds=0.2)
            wakes.append(await asyncio.to_thread(_woken, started.proxy_port))
            starts.append(await _started(sandbox, start))
    finally:
        await sandbox.close(stop_apps=True)
    return wakes, starts


async def _asleep(wallet: Wallet, answer: Answer) -> bool:
    shown = await wallet.call("GET", f"/agent/projects/{answer.body['projectId']}")
    return bool(shown.body["asleep"])


def _woken(port: int) -> float:
    """One request; it is held until the app answers."""
    began = time.perf_counter()
    caller = tcp(port)
    status, _, body = caller.ask(request_bytes("GET", "/", {"Connection": "close"}, host=_HOST))
    caller.close()
    assert status == 200, body
    return time.perf_counter() - began


async def _built(sandbox: Sandbox) -> InstanceSpec:
    sizes = {path: len(text.encode()) for path, text in example_files(_EXAMPLE).items()}
    plan = make_plan(DirectoryTree(EXAMPLES / _EXAMPLE, sizes), PlanSettings(), TOOLBOX)
    await sandbox.build(
        BuildSpec(
            deployment_id="bare",
            source=EXAMPLES / _EXAMPLE,
            plan=plan,
            limits=build_limits(_SETTINGS),
            timeout_seconds=_SETTINGS.build_seconds,
        )
    )
    return InstanceSpec(deployment_id="bare", plan=plan, limits=app_limits(Size()))


async def _started(sandbox: Sandbox, start: InstanceSpec) -> float:
    """Started by a few lines that call the sandbox, asked at its socket, and stopped."""
    began = time.perf_counter()
    instance = await sandbox.start(start, timeout_seconds=_SETTINGS.listen_seconds)
    request = request_bytes("GET", "/", {"Connection": "close"}, host="app")
    while True:
        try:
            caller = app_at(instance.address)
            status, _, _ = caller.ask(request)
            caller.close()
        except ConnectionError:
            status = 0
        if status == 200:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    took = time.perf_counter() - began
    await sandbox.stop("bare")
    return took

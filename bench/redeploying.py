"""A version with an unchanged lock file beside the first, and a rollback beside a bare start."""

import asyncio
import contextlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

from gateway import EXAMPLES, api_port, example_files, funded, gateway
from load import Caller, app_at, request_bytes, tcp
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
from support.clients.wallet import Answer, deploy_body
from support.engines.toolboxes import TOOLBOX
from support.gateway.gateway_fixture import DevGateway

ROUNDS = 5
_EXAMPLES = {"express": "index.js", "fastapi": "main.py"}
_MARK = "● live"  # what a version says of itself, in each example's page
_PAUSE_SECONDS = 0.02  # what asks oftener takes more processor time than what is measured
_LONGEST_SECONDS = 180.0
_SETTINGS = Settings()


def run() -> list[Row]:
    """Seconds until a version answers, each round by a new wallet."""
    rows = []
    with gateway(pinned=False) as started, tempfile.TemporaryDirectory() as directory:
        for example in _EXAMPLES:
            rows += asyncio.run(_rows(started, example, Path(directory) / example))
    return rows


async def _rows(started: DevGateway, example: str, directory: Path) -> list[Row]:
    async with _built(example, directory) as bare:
        rounds = [(*await _versions(started, example), await bare()) for _ in range(ROUNDS)]
    first, second, rollback, by_hand = (list(seconds) for seconds in zip(*rounds, strict=True))
    # What starts slowly by itself can't be a quarter of the first, whose install is short.
    allowed = max(0.25, (median(by_hand) + 0.1) / median(first))
    return [
        _row(f"{example}: second version, same lock file ÷ first", second, first, allowed),
        _row(f"{example}: rollback ÷ start → 200 by hand", rollback, by_hand, 1.5),
    ]


def _row(what: str, ours: list[float], base: list[float], most: float) -> Row:
    ratio = median(ours) / median(base)
    return Row(
        what,
        f"{ratio:.2f}×",
        f"≤ {most:.2f}×",
        ratio <= most,
        f"{median(ours):.2f} s ÷ {median(base):.2f} s; {spread(ours, 2)} and {spread(base, 2)} s",
    )


async def _versions(started: DevGateway, example: str) -> tuple[float, float, float]:
    """Seconds from each request to its version's answer: two deploys, then the way back."""
    wallet = await funded(started)
    name = f"bench-{uuid.uuid4().hex[:8]}"
    asked = await wallet.deploy(name, _files(example, "one"))
    tx = await wallet.pay(int(asked.body["amount_token"]))
    host = f"{name}.{started.info['base_domain']}"

    async def posted(path: str, body: dict[str, object], mark: str, **headers: str) -> float:
        request = request_bytes("POST", path, wallet.signed(**headers), json.dumps(body).encode())
        began = time.perf_counter()
        api = tcp(api_port(started))
        status, _, answer = api.ask(request)
        api.close()
        assert status == 200, answer
        _until(lambda: tcp(started.proxy_port), host, _version(mark))
        took = time.perf_counter() - began
        answers.append(Answer(status, json.loads(answer), {}))
        await wallet.settled(answers[-1])  # it answers a moment before
        return took

    answers: list[Answer] = []
    one, two = (deploy_body(name, _files(example, mark)) for mark in ("one", "two"))
    first = await posted("/agent/deploy", one, "one", **{"X-Payment-Tx": tx})
    second = await posted("/agent/deploy", two, "two")
    project = f"/agent/projects/{answers[0].body['projectId']}"
    rollback = await posted(f"{project}/rollback", {}, "one")
    deleted = await wallet.call("DELETE", project)
    assert deleted.status == 200, deleted.body
    return first, second, rollback


def _files(example: str, mark: str) -> dict[str, str]:
    files, main = example_files(example), _EXAMPLES[example]
    return files | {main: files[main].replace(_MARK, _version(mark))}


def _version(mark: str) -> str:
    return f"version {mark}"


@contextlib.asynccontextmanager
async def _built(example: str, directory: Path) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Starts what is built, by a few lines of Python: seconds to its first answer."""
    sizes = {path: len(text.encode()) for path, text in example_files(example).items()}
    plan = make_plan(DirectoryTree(EXAMPLES / example, sizes), PlanSettings(), TOOLBOX)
    sandbox = Sandbox(
        HostConfiguration(
            state_dir=directory,
            run_dir=Path(f"/run/moorage/bench-{os.getpid()}"),
            instance_id=f"{os.getpid() & 0xFFFFFF:06x}",
            tools={name: find_tool(name) for name in ("caddy", "uv")},
        )
    )
    build = BuildSpec(
        deployment_id="bare",
        source=EXAMPLES / example,
        plan=plan,
        limits=build_limits(_SETTINGS),
        timeout_seconds=_SETTINGS.build_seconds,
    )
    start = InstanceSpec(deployment_id="bare", plan=plan, limits=app_limits(Size()))
    await sandbox.open()
    try:
        await sandbox.build(build)
        yield partial(_started, sandbox, start)
    finally:
        await sandbox.close(stop_apps=True)


async def _started(sandbox: Sandbox, spec: InstanceSpec) -> float:
    began = time.perf_counter()
    instance = await sandbox.start(spec, timeout_seconds=_SETTINGS.listen_seconds)
    _until(lambda: app_at(instance.address), "app", _MARK)
    took = time.perf_counter() - began
    await sandbox.stop(spec.deployment_id)
    return took


def _until(connect: Callable[[], Caller], host: str, mark: str) -> None:
    """Ask on fresh connections until the version that says `mark` answers."""
    request = request_bytes("GET", "/", {"Connection": "close"}, host=host)
    deadline = time.perf_counter() + _LONGEST_SECONDS
    while time.perf_counter() < deadline:
        caller = connect()
        status, _, body = caller.ask(request)
        caller.close()
        if status == 200 and mark.encode() in body:
            return
        time.sleep(_PAUSE_SECONDS)
    raise AssertionError(f"{host} does not answer {mark}")

"""From a paid `POST` to an address that answers, beside doing the same by hand."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from gateway import EXAMPLES, api_port, example_files, funded, gateway
from load import Caller, app_at, request_bytes, tcp
from measure import Row, median, spread
from moorage.engines.engine import BuildSpec, InstanceSpec, Keep
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.gateway.platform import find_tool
from moorage.hosting.limits import app_limits, build_limits
from moorage.planning.plan import Plan
from moorage.planning.plan import Settings as PlanSettings
from moorage.planning.planner import make_plan
from moorage.records.size import Size
from moorage.settings import Settings
from moorage.uploads.reader import DirectoryTree
from support.clients.wallet import deploy_body
from support.engines.toolboxes import TOOLBOX
from support.gateway.gateway_fixture import DevGateway

ROUNDS = 11
ROUNDS_WITH_PACKAGES = 5
_PAUSE_SECONDS = 0.01  # each time the gateway answers in the app's place, amid its work
_LONGEST_SECONDS = 180.0
_SETTINGS = Settings()
_FALLBACK = b"x-moorage-fallback"


def run() -> list[Row]:
    """Seconds until the first 200, the gateway's and the baseline's rounds alternating."""
    with gateway(pinned=False) as started, tempfile.TemporaryDirectory() as directory:
        return asyncio.run(_all(started, Path(directory)))


async def _all(started: DevGateway, directory: Path) -> list[Row]:
    async def ours(example: str) -> float:
        return await through_gateway(started, example_files(example))

    async with _sandbox(directory) as sandbox:
        hello = await _alternate(
            "hello-node", ROUNDS, ours, lambda example: _in_sandbox(sandbox, example)
        )
    rows = _hello_rows(*hello)
    for example, bare in (("express", _npm), ("fastapi", _pip), ("fastapi", _uv)):
        pair = await _alternate(example, ROUNDS_WITH_PACKAGES, ours, bare)
        rows.append(_package_row(example, bare, *pair))
    return rows


def _hello_rows(ours: list[float], by_hand: list[float]) -> list[Row]:
    ratio = median(ours) / median(by_hand)
    return [
        Row(
            "paid POST → 200, hello-node",
            f"{median(ours) * 1000:.0f} ms",
            "< 500 ms",
            median(ours) < 0.5,
            f"{spread([it * 1000 for it in ours])} ms",
        ),
        Row(
            "… ÷ by hand in the same sandbox",
            f"{ratio:.2f}×",
            "≤ 3×",
            ratio <= 3,
            f"by hand {median(by_hand) * 1000:.0f} ms; {spread([it * 1000 for it in by_hand])} ms",
        ),
    ]


def _package_row(
    example: str, bare: Callable[[str], Awaitable[float]], ours: list[float], by_hand: list[float]
) -> Row:
    ratio, words = median(ours) / median(by_hand), (bare.__doc__ or "").partition(",")[0]
    has_target = bare is not _uv
    return Row(
        f"paid POST → 200, {example} ÷ {words} and start",
        f"{ratio:.2f}×",
        "≤ 1.15×" if has_target else "",
        ratio <= 1.15 if has_target else None,
        f"{median(ours):.2f} s ÷ {median(by_hand):.2f} s; {spread(ours, 2)} and"
        f" {min(by_hand):.2f}–{max(by_hand):.2f} s",
    )


async def _alternate(
    example: str,
    rounds: int,
    ours: Callable[[str], Awaitable[float]],
    bare: Callable[[str], Awaitable[float]],
) -> tuple[list[float], list[float]]:
    """Both in turn; what a first round may have to warm up is not counted."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for measure, seconds in zip((ours, bare), found, strict=True):
            took = await measure(example)
            if number:
                seconds.append(took)
    return found


async def through_gateway(started: DevGateway, files: dict[str, str]) -> float:
    """Asked and paid by a new wallet, then timed; deleted afterwards."""
    wallet = await funded(started)
    name = f"bench-{uuid.uuid4().hex[:8]}"
    asked = await wallet.deploy(name, files)
    assert asked.status == 402, asked.body
    tx = await wallet.pay(int(asked.body["amount_token"]))
    body = json.dumps(deploy_body(name, files)).encode()
    request = request_bytes("POST", "/agent/deploy", wallet.signed(**{"X-Payment-Tx": tx}), body)
    host = f"{name}.{started.info['base_domain']}"
    began = time.perf_counter()
    api = tcp(api_port(started))
    status, _, answer = api.ask(request)
    assert status == 200, answer
    _until_200(lambda: tcp(started.proxy_port), host)
    took = time.perf_counter() - began
    api.close()
    deleted = await wallet.call("DELETE", f"/agent/projects/{json.loads(answer)['projectId']}")
    assert deleted.status == 200, deleted.body
    return took


@contextlib.asynccontextmanager
async def _sandbox(directory: Path) -> AsyncIterator[Sandbox]:
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
        yield sandbox
    finally:
        await sandbox.close(stop_apps=True)


async def _in_sandbox(sandbox: Sandbox, example: str) -> float:
    """Built and started by a few lines that call the sandbox, with the gateway's limits."""
    deployment_id, plan = str(uuid.uuid4()), _plan(example)
    build = BuildSpec(
        deployment_id=deployment_id,
        source=EXAMPLES / example,
        plan=plan,
        limits=build_limits(_SETTINGS),
        timeout_seconds=_SETTINGS.build_seconds,
    )
    start = InstanceSpec(deployment_id=deployment_id, plan=plan, limits=app_limits(Size()))
    began = time.perf_counter()
    await sandbox.build(build)
    instance = await sandbox.start(start, timeout_seconds=_SETTINGS.listen_seconds)
    _until_200(lambda: app_at(instance.address), "app")
    took = time.perf_counter() - began
    await sandbox.stop(deployment_id, keep=Keep.NOTHING)
    return took


def _plan(example: str) -> Plan:
    sizes = {path: len(text.encode()) for path, text in example_files(example).items()}
    return make_plan(DirectoryTree(EXAMPLES / example, sizes), PlanSettings(), TOOLBOX)


async def _npm(example: str) -> float:
    """`npm ci`, into an empty cache."""
    with _copied(example) as directory:
        began = time.perf_counter()
        _run(directory, "npm", "ci", "--no-audit", "--no-fund")
        return _started(directory, ["node", "index.js"], began)


async def _pip(example: str) -> float:
    """`pip install`, into a fresh virtual environment made before."""
    with _copied(example) as directory:
        _run(directory, sys.executable, "-m", "venv", ".venv")
        began = time.perf_counter()
        _run(directory, ".venv/bin/pip", "install", "-q", "--no-input", "-r", "requirements.txt")
        return _started(directory, _uvicorn(directory), began)


async def _uv(example: str) -> float:
    """`uv pip install`, which is what the sandbox installs with."""
    with _copied(example) as directory:
        began = time.perf_counter()
        _run(directory, str(find_tool("uv")), "venv", "--quiet", ".venv")
        _run(directory, str(find_tool("uv")), "pip", "install", "-q", "-r", "requirements.txt")
        return _started(directory, _uvicorn(directory), began)


def _uvicorn(directory: Path) -> list[str]:
    return [str(directory / ".venv/bin/uvicorn"), "main:app", "--host=0.0.0.0"]


@contextlib.contextmanager
def _copied(example: str) -> Iterator[Path]:
    """A copy of an example, in a home of its own without any cache."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as home:
        directory = Path(home) / "app"
        shutil.copytree(EXAMPLES / example, directory)
        yield directory


def _environment(directory: Path) -> dict[str, str]:
    passed = ("PATH", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "PIP_CERT")
    inherited = {name: os.environ[name] for name in passed if name in os.environ}
    inherited["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return inherited | {"HOME": str(directory.parent), "LANG": "C.UTF-8", "CI": "1"}


def _run(directory: Path, *argv: str) -> None:
    subprocess.run(
        argv, cwd=directory, env=_environment(directory), check=True, stdout=subprocess.DEVNULL
    )


def _started(directory: Path, argv: list[str], began: float) -> float:
    """Start the app on this machine, see its first 200, end it."""
    port = _free_port()
    arguments = [*argv, f"--port={port}"] if "uvicorn" in argv[0] else argv
    environment = _environment(directory) | {"PORT": str(port), "NODE_ENV": "production"}
    with subprocess.Popen(
        arguments,
        cwd=directory,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _until_200(lambda: tcp(port), "app")
            return time.perf_counter() - began
        finally:
            process.terminate()


def _until_200(connect: Callable[[], Caller], host: str) -> None:
    """Ask on fresh connections until the app itself answers 200."""
    request = request_bytes("GET", "/", {"Connection": "close"}, host=host)
    deadline = time.perf_counter() + _LONGEST_SECONDS
    while time.perf_counter() < deadline:
        with contextlib.suppress(ConnectionError, TimeoutError):
            caller = connect()
            status, head, _ = caller.ask(request)
            caller.close()
            if status == 200 and _FALLBACK not in head.lower():
                return
        time.sleep(_PAUSE_SECONDS)
    raise AssertionError(f"{host} does not answer 200")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

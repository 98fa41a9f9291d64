"""Small apps for a real sandbox: their plans, their files, building and starting them."""

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType

import pytest

from moorage.address import Address
from moorage.engines.engine import BuildSpec, Engine, Instance, InstanceSpec, Limits, log_tail
from moorage.planning.plan import Plan, Stack
from moorage.records.deployment import LogKind
from support.gateway.waiting import until_read

MIB = 1024 * 1024
OWN = str(os.getpid())  # tells processes of this run of the tests from those of another
LIMITS = Limits(memory_bytes=256 * MIB, cpu_millis=1000, pids=64, disk_bytes=64 * MIB)
SERVER = """\
const server = require('http').createServer((request, response) => response.end('hello'));
server.listen(%s);
"""
ON_PORT = SERVER % "process.env.PORT"


def plan(
    *,
    install: str | None = None,
    build: str | None = None,
    start: str = "node index.js",
    install_inputs: tuple[str, ...] = (),
    toolchains: dict[str, str] | None = None,
) -> Plan:
    return Plan(
        stack=Stack.NODE,
        directory="",
        install=install,
        build=build,
        start=start,
        port=3000,
        build_env={"AT_BUILD": "yes"},
        run_env={"AT_RUN": "yes"},
        because=(),
        toolchains=toolchains or {},
        install_inputs=install_inputs,
    )


async def build(
    runtime: Engine,
    source: Path,
    the_plan: Plan,
    *,
    deployment_id: str = "first",
    limits: Limits = LIMITS,
    timeout_seconds: int = 60,
    owner: str = "",
) -> None:
    await runtime.build(
        BuildSpec(
            deployment_id=deployment_id,
            source=source,
            plan=the_plan,
            limits=limits,
            timeout_seconds=timeout_seconds,
            owner=owner,
        )
    )


async def start(
    runtime: Engine,
    the_plan: Plan,
    *,
    deployment_id: str = "first",
    limits: Limits = LIMITS,
    timeout_seconds: float = 30,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Instance:
    spec = InstanceSpec(
        deployment_id=deployment_id, plan=the_plan, limits=limits, variables=variables
    )
    return await runtime.start(spec, timeout_seconds=timeout_seconds)


async def build_and_start(runtime: Engine, source: Path, the_plan: Plan) -> Instance:
    await build(runtime, source, the_plan)
    return await start(runtime, the_plan)


async def is_open(address: Address | None) -> bool:
    """Whether a connection is made to what answers at an app's address."""
    assert address is not None
    try:
        _, writer = await address.connect()
    except OSError:
        return False
    writer.close()
    return True


async def connected(app: Instance) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    assert app.address is not None
    return await app.address.connect()


def get(address: Address | None, path: str = "/") -> str:
    """The body of what answers at an app's address."""
    assert address is not None
    connection = HTTPConnection("app" if address.path else address.text)
    try:
        if address.path is not None:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.connect(str(address.path))
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


async def fetch(address: Address | None) -> str:
    return await asyncio.to_thread(get, address)


async def logged(runtime: Engine, text: str, *, deployment_id: str = "first") -> str:
    """An app's log, once it holds a text: a process of its own brings it there, in its own time."""

    return await until_read(
        lambda: log_tail(runtime, deployment_id, LogKind.RUNTIME), lambda said: text in said
    )


def processes(marker: str) -> list[str]:
    """The command lines of all processes that hold `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except (FileNotFoundError, ProcessLookupError):
                continue
            if marker in line:
                found.append(line)
    return found


def belongings(instance: str) -> dict[str, list[str]]:
    """All on this machine that bears an instance's id."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "mounts": [line for line in mounts if instance in line and "/bin/" not in line],
        "loops": [
            line
            for line in subprocess.check_output(["losetup", "-a"], text=True).splitlines()
            if instance in line
        ],
        "namespaces": [path.name for path in Path("/run/netns").glob(f"*{instance}*")],
        "interfaces": [path.name for path in Path("/sys/class/net").glob(f"*{instance}*")],
        "groups": [
            str(path)
            for controllers in ("", "*/")  # together on version 2, each apart on version 1
            for path in Path("/sys/fs/cgroup").glob(f"{controllers}*{instance}*/*/*/")
        ],
        "sockets": [str(path) for path in Path("/run/moorage").glob(f"{instance}/*.sock")],
        "slots": [path.name for path in slots_of(instance)],
    }


def slots_of(holder: str) -> list[Path]:
    """The files of slots that name a holder; other gateways' come and go."""
    found = []
    for path in Path("/run/moorage/slots").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):
            if holder in path.read_text():
                found.append(path)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "index.js").write_text(ON_PORT)
    return directory

"""Deploys hostile apps straight on the runtime, and talks to them through their doors."""

import asyncio
import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena import PYTHON

from moorage.engines.engine import BuildSpec, Engine, Instance, InstanceSpec, Limits, log_tail
from moorage.planning.plan import Plan, Stack
from moorage.records.deployment import LogKind
from support.engines.small_apps import connected

ATTACKS = Path(__file__).parent / "attacks"
MEBIBYTE = 1 << 20
PORT = 3000
HOSTILE_APP = "exec python3 attacks/hostile_app.py"

LIMITS = Limits(memory_bytes=512 * MEBIBYTE, cpu_millis=2000, pids=128, disk_bytes=128 * MEBIBYTE)
SMALL = Limits(memory_bytes=128 * MEBIBYTE, cpu_millis=1000, pids=48, disk_bytes=64 * MEBIBYTE)

# Bounds that only end a test that hangs: on a busy machine all takes many times as long.
BUILD_SECONDS = 300
START_SECONDS = 60.0
PATIENCE_SECONDS = 60


def plan(start: str = HOSTILE_APP, *, install: str | None = None, build: str | None = None) -> Plan:
    """A plan of explicit commands."""
    return Plan(
        stack=Stack.CUSTOM,
        directory="",
        install=install,
        build=build,
        start=start,
        port=PORT,
        build_env={},
        run_env={},
        because=(),
    )


def upload(directory: Path, **texts: str) -> Path:
    """An upload's files: the attacks, and texts by name (`own` is `own.txt`)."""
    shutil.copytree(ATTACKS, directory / "attacks", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in texts.items():
        (directory / f"{name}.txt").write_text(text)
    return directory


def add_privileged_programs(source: Path) -> None:
    """Programs that give root, or a capability, to whoever runs them: unless that is prevented."""
    setuid = source / "setuid-id"
    shutil.copy("/usr/bin/id", setuid)
    setuid.chmod(0o4755)
    capable = source / "capable-python"
    shutil.copy(PYTHON, capable)
    set_capability(capable)


def set_capability(path: Path) -> None:
    """Mark a program with cap_net_raw, effective and permitted (`struct vfs_cap_data`)."""
    value = b"\x01\x00\x00\x02" + (1 << 13).to_bytes(4, "little") + bytes(12)
    os.setxattr(path, "security.capability", value)


@dataclass(frozen=True)
class Deployer:
    """Builds and starts deployments on a runtime."""

    runtime: Engine

    async def build(
        self, deployment: str, source: Path, what: Plan, limits: Limits = LIMITS
    ) -> None:
        """Build. Raises DeployFailed."""
        await self.runtime.build(
            BuildSpec(
                deployment_id=deployment,
                source=source,
                plan=what,
                limits=limits,
                timeout_seconds=BUILD_SECONDS,
            )
        )

    async def start(self, deployment: str, what: Plan, limits: Limits = LIMITS) -> Instance:
        """Start. Raises DeployFailed."""
        spec = InstanceSpec(deployment_id=deployment, plan=what, limits=limits)
        return await self.runtime.start(spec, timeout_seconds=START_SECONDS)

    async def deploy(
        self, deployment: str, source: Path, what: Plan, limits: Limits = LIMITS
    ) -> Instance:
        """Build and start. Raises DeployFailed."""
        await self.build(deployment, source, what, limits)
        return await self.start(deployment, what, limits)

    async def results(self, deployment: str) -> list[dict[str, Any]]:
        """The attempts' results that a build printed."""
        text = await log_tail(self.runtime, deployment, LogKind.BUILD, max_chars=MEBIBYTE)
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


async def attempts_by_build(
    deployer: Deployer, source: Path, commands: list[list[str]]
) -> list[dict[str, Any]]:
    """Have a build step make attempts; their results, in order."""
    (source / "attempts.json").write_text(json.dumps(commands))
    install = "python3 attacks/batch.py attempts.json"
    await deployer.build("builder", source, plan(install=install))
    return await deployer.results("builder")


async def ask(instance: Instance, path: str = "/", body: object = None) -> Any:
    """The app's JSON answer to a GET, or to a POST of `body`."""
    return json.loads(await ask_text(instance, path, body))


async def ask_text(instance: Instance, path: str = "/", body: object = None) -> str:
    """The app's answer as text. Raises OSError or asyncio.IncompleteReadError."""
    reader, writer = await connected(instance)
    data = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    head = f"{method} {path} HTTP/1.0\r\nHost: app\r\nContent-Length: {len(data)}\r\n\r\n"
    try:
        writer.write(head.encode() + data)
        await writer.drain()
        answer = await reader.read(-1)
    finally:
        writer.close()
    head_bytes, separator, text = answer.partition(b"\r\n\r\n")
    if not separator or b" 200 " not in head_bytes.split(b"\r\n")[0] + b" ":
        raise ConnectionResetError(f"no answer but {head_bytes[:200]!r}")
    return text.decode(errors="replace")


async def answers(instance: Instance) -> bool:
    """Whether the app answers."""
    return bool(await asyncio.wait_for(ask(instance), PATIENCE_SECONDS))


async def set_going(instance: Instance, *command: str) -> None:
    """Have the hostile app do something by itself, which may end it before it has answered."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await ask(instance, "/exec", list(command))


async def attempts(instance: Instance, commands: list[list[str]]) -> list[dict[str, Any]]:
    """Have the hostile app make attempts; their results, in order."""
    text = await ask_text(instance, "/run", commands)
    return [json.loads(line) for line in text.splitlines()]

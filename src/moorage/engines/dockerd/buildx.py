"""Runs `docker buildx build`: its arguments as pure data, and the process."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from moorage.threads import to_its_end

CORE_BYTES = 1  # not 0: so the kernel starts no core_pattern program, as root, either (core(5))
_CHUNK_BYTES = 65_536
_LINE_BYTES = 16_384
_END_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Build:
    """One call of the builder."""

    dockerfile: Path  # an ignore file beside it, if there is one, counts
    context: Path
    tag: str
    labels: Mapping[str, str]
    cgroup_parent: str  # "": the daemon's own choice
    cache_scope: str  # commands with different ones share neither results nor cache mounts
    contexts: Mapping[str, Path] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)  # files, by the secret's id
    pulls: bool = False  # images come from a registry, not from those on this machine

    @property
    def argv(self) -> list[str]:
        """The arguments of the process."""
        return [
            "docker", "buildx", "build", "--builder", "default", "--progress", "plain",
            "--file", str(self.dockerfile), "--tag", self.tag,
            *(["--cgroup-parent", self.cgroup_parent] if self.cgroup_parent else []),
            "--network", "default", "--provenance", "false",
            "--ulimit", f"core={CORE_BYTES}:{CORE_BYTES}",
            "--build-arg", f"BUILDKIT_SANDBOX_HOSTNAME={self.cache_scope}",
            "--build-arg", f"BUILDKIT_CACHE_MOUNT_NS={self.cache_scope}",
            *_options("--label", (f"{name}={value}" for name, value in self.labels.items())),
            *_options("--build-context", (f"{n}={path}" for n, path in self.contexts.items())),
            *_options("--build-arg", (f"{n}={value}" for n, value in self.arguments.items())),
            *_options("--secret", (f"id={name},src={p}" for name, p in self.secrets.items())),
            *(["--pull"] if self.pulls else []),
            str(self.context),
        ]  # fmt: skip


def _options(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


@asynccontextmanager
async def running(argv: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Process]:
    """Runs the builder, and ends it if it is left before its end: Docker then ends the build."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=dict(environment), cwd="/",
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        await to_its_end(_end(process))


async def printed(process: Process) -> AsyncIterator[list[str]]:
    """Gives the complete lines that a process prints, some at a time; long ones are cut."""
    output = cast("asyncio.StreamReader", process.stdout)
    rest = b""
    while chunk := await output.read(_CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[:_LINE_BYTES]
        if lines:
            yield [line[:_LINE_BYTES].decode(errors="replace") for line in lines]
    if rest:
        yield [rest.decode(errors="replace")]


async def _end(process: Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await process.communicate()

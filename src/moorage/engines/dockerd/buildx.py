"""Runs `docker buildx`: its arguments as pure data, and the process."""

import asyncio
import contextlib
import os
import signal
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import cast

from moorage.threads import in_thread, to_its_end

CORE_BYTES = 1  # not 0: so the kernel starts no core_pattern program, as root, either (core(5))
_CHUNK_BYTES = 65_536
_LINE_BYTES = 16_384
_MESSAGE_CHARS = 2000
_END_SECONDS = 10.0
_OWN_SECONDS = 900.0  # for what runs no command of a stranger's, such as a push
_ERROR = "ERROR: "


class BuilderFailed(OSError):
    """The builder does not answer, or failed with what no stranger asked for; with its words."""


class Output(StrEnum):
    """What becomes of what was built."""

    DAEMON = ""  # an image of the Docker daemon
    NONE = "type=cacheonly"  # only the builder's cache has it
    REGISTRY = "type=image,name={image},push=true,store=false"
    ARCHIVE = "type=tar,dest=-"  # a tar file at the process's output


@dataclass(frozen=True, kw_only=True)
class Build:
    """One call of the builder."""

    dockerfile: Path  # an ignore file beside it, if there is one, counts
    context: Path
    cache_scope: str  # commands with different ones share neither results nor cache mounts
    builder: str = "default"  # the Docker daemon's own
    image: str = ""  # its name
    output: Output = Output.DAEMON
    labels: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""  # "": the builder's own choice
    contexts: Mapping[str, str] = field(default_factory=dict)  # directories, or images
    arguments: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)  # files, by the secret's id
    pulls: bool = False  # images come from a registry, not from those that the builder has

    @property
    def argv(self) -> list[str]:
        """The arguments of the process."""
        output = self.output.format(image=self.image)
        return [
            "docker", "buildx", "build", "--builder", self.builder, "--progress", "plain",
            "--file", str(self.dockerfile),
            *(["--output", output] if output else ["--tag", self.image]),
            *(["--cgroup-parent", self.cgroup_parent] if self.cgroup_parent else []),
            "--network", "default", "--provenance", "false",
            "--ulimit", f"core={CORE_BYTES}:{CORE_BYTES}",
            "--build-arg", f"BUILDKIT_SANDBOX_HOSTNAME={self.cache_scope}",
            "--build-arg", f"BUILDKIT_CACHE_MOUNT_NS={self.cache_scope}",
            *_options("--label", (f"{name}={value}" for name, value in self.labels.items())),
            *_options("--build-context", (f"{n}={place}" for n, place in self.contexts.items())),
            *_options("--build-arg", (f"{n}={value}" for n, value in self.arguments.items())),
            *_options("--secret", (f"id={name},src={p}" for name, p in self.secrets.items())),
            *(["--pull"] if self.pulls else []),
            str(self.context),
        ]  # fmt: skip


def prune(builder: str, *, max_bytes: int) -> list[str]:
    """Returns the arguments that have a builder keep no more than this."""
    keep = ("--keep-storage", str(max_bytes))
    return ["docker", "buildx", "prune", "--builder", builder, "--all", "--force", *keep]


def create(builder: str, address: str, certificates: Path | None) -> list[str]:
    """Returns the arguments that give a buildkitd a name; it is not asked for anything."""
    names = ("ca", "cert", "key") if certificates is not None else ()
    options = [f"{'cacert' if it == 'ca' else it}={certificates}/{it}.pem" for it in names]
    given = ["--driver-opt", ",".join(options)] if options else []
    return [
        "docker", "buildx", "create", "--driver", "remote", "--name", builder, *given, address,
    ]  # fmt: skip


def usage(builder: str) -> list[str]:
    """Returns the arguments that ask a builder what it keeps, which fails where it is away."""
    return ["docker", "buildx", "du", "--builder", builder]


def remove(image: str) -> list[str]:
    """Returns the arguments that have a Docker daemon forget an image."""
    return ["docker", "image", "rm", "--force", image]


def _options(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


async def run(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """Runs it to its end; returns what it printed. Raises BuilderFailed."""
    messages = ""
    try:
        async with asyncio.timeout(_OWN_SECONDS), running(argv, environment) as process:
            async for lines in printed(process):
                messages = (messages + "".join(f"{line}\n" for line in lines))[-_MESSAGE_CHARS:]
            code = await process.wait()
    except TimeoutError:
        raise BuilderFailed(f"the builder did not end within {_OWN_SECONDS:g} s") from None
    if code != 0:
        raise BuilderFailed(f"the builder failed: {_why(messages)}")
    return messages


async def write_output(
    argv: Sequence[str], environment: Mapping[str, str], target: Path, *, max_bytes: int
) -> None:
    """Writes what it gives at its output to a file. Raises BuilderFailed, OSError."""
    with (
        target.open("wb") as file,
        tempfile.TemporaryFile() as messages,
    ):
        try:
            async with (
                asyncio.timeout(_OWN_SECONDS),
                running(argv, environment, messages=messages.fileno()) as process,
            ):
                output = cast("asyncio.StreamReader", process.stdout)
                while piece := await output.read(_CHUNK_BYTES):
                    await in_thread(file.write, piece)
                    if file.tell() > max_bytes:
                        raise BuilderFailed(f"the builder gives more than {max_bytes} bytes")
                code = await process.wait()
            messages.seek(0)
            if code != 0:
                raise BuilderFailed(_why(messages.read(_MESSAGE_CHARS).decode(errors="replace")))
        except TimeoutError:
            raise BuilderFailed(f"the builder did not end within {_OWN_SECONDS:g} s") from None


def _why(messages: str) -> str:
    """Returns the builder's own words for why it failed."""
    lines = messages.strip().splitlines()
    errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    return errors[-1] if errors else "\n".join(lines[-1:])


@asynccontextmanager
async def running(
    argv: Sequence[str], environment: Mapping[str, str], *, messages: int = STDOUT
) -> AsyncIterator[Process]:
    """Runs the builder, and ends it if it is left before its end: BuildKit then ends the build.

    What it prints of itself goes to the file `messages`.
    """
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=DEVNULL, stdout=PIPE, stderr=messages, env=dict(environment), cwd="/",
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

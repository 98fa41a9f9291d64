"""One run of the builder for a deployment, and why it failed."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from moorage.engines.dockerd import buildx
from moorage.engines.dockerd.buildx import Build
from moorage.engines.dockerd.dockerfile import BUILD, INSTALL, step_named
from moorage.engines.dockerd.firewall import BuildGroup, ElsewhereGroup
from moorage.engines.engine import BuildSpec
from moorage.engines.failure import failed_with
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Stack
from moorage.threads import in_thread

_LINE = re.compile(r"#(\d{1,6}) (.*)\Z", re.DOTALL)
_STEP = re.compile(r"\[(?:[^\]]* )?\d+/\d+\] ([A-Z].*)\Z", re.DOTALL)
_OUTPUT = re.compile(r"\d+\.\d+ (.*)\Z", re.DOTALL)
_FAILED = re.compile(r"did not complete successfully: exit code: (\d+)")
_ERROR, _SOLVED = "ERROR: ", "failed to solve: "
_NOT_REACHED = "[internal] waiting for connection"
_LOST = re.compile(r"(?:[a-z ]+: )*(?:code = )?Unavailable\b")  # of gRPC: the connection ended


@dataclass
class Progress:
    """The progress of one build, line by line."""

    shown: Callable[[str], str | None]  # a step's line in the log; None for nothing
    failed_step: str = ""  # as in the Dockerfile
    exit_code: int | None = None  # of the failed step, if it is a command
    error: str = ""  # the builder's own words
    has_begun: bool = False  # the builder was reached
    _steps: dict[str, str] = field(default_factory=dict)  # by number; "" for the builder's own

    @property
    def is_lost(self) -> bool:
        """Whether the builder was not there, or has ended before the build."""
        return not self.has_begun or bool(_LOST.match(self.error))

    def read(self, line: str) -> list[str]:
        """Returns the lines that the log gets for one that was printed."""
        match = _LINE.match(line)
        if match is None:
            if line.startswith(_ERROR):
                self.error = line.removeprefix(_ERROR).removeprefix(_SOLVED)
            return []
        number, text = match.groups()
        if number not in self._steps:
            return self._begun(number, text)
        step = self._steps[number]
        if text.startswith(_ERROR):
            self._failed(step, text.removeprefix(_ERROR))
        if not step:
            return []
        if text == "CACHED":
            line_of_step = self.shown(step)
            return [] if line_of_step is None or step.startswith("FROM ") else ["(unchanged: kept)"]
        output = _OUTPUT.match(text)
        return [output[1].rstrip("\r").rpartition("\r")[2]] if output else []

    def _begun(self, number: str, text: str) -> list[str]:
        match = _STEP.match(text)
        self.has_begun = self.has_begun or (number != "0" and text != _NOT_REACHED)
        self._steps[number] = step = match[1] if match else ""
        line = self.shown(step) if step else None
        return [] if line is None else [line]

    def _failed(self, step: str, why: str) -> None:
        code = _FAILED.search(why)
        self.failed_step, self.error = step, why
        self.exit_code = int(code[1]) if code else None


Log = Callable[[Sequence[str]], Awaitable[None]]
"""Writes lines into the log of a build."""

_TAIL_CHARS = 8192
_CHECK_SECONDS = 1.0
_KILLED = 137  # 128 + SIGKILL
_KILLED_WORD = "Killed"  # as shells say
_NO_SPACE = "the gateway's disk is nearly full, and this build was ended: deploy again later"
_LOST_REASON = "the gateway's builder is not there, or has ended: deploy again later"
_FULL_WORDS = ("ENOSPC", "No space left on device", "no space left on device")


@dataclass
class Attempt:
    """The run of one build."""

    spec: BuildSpec
    log: Log
    group: BuildGroup | ElsewhereGroup
    progress: Progress = field(init=False)
    tail: str = ""

    def __post_init__(self) -> None:
        self.progress = Progress(self._shown)

    async def run(
        self, build: Build, environment: Mapping[str, str], has_room: Callable[[], bool]
    ) -> None:
        """Runs the builder to its end, within the time. Raises DeployFailed.

        `has_room` says whether the disk has room for it; it blocks for a moment.
        """
        try:
            async with (
                asyncio.timeout(self.spec.timeout_seconds),
                buildx.running(build.argv, environment) as process,
                _ended_when_full(process, has_room) as was_full,
            ):
                async for lines in buildx.printed(process):
                    await self._log([text for line in lines for text in self.progress.read(line)])
                code = await process.wait()
        except TimeoutError:
            raise self.failure(
                FailureCause.BUILD_TIMEOUT,
                f"the build took longer than {self.spec.timeout_seconds} s",
            ) from None
        except asyncio.CancelledError:
            await self.log(["CANCELLED: the build was ended"])
            raise
        if was_full.is_set():
            raise self.failure(FailureCause.OUT_OF_DISK, _NO_SPACE)
        if code != 0:
            raise await in_thread(self._failed)

    def failure(self, cause: FailureCause, reason: str) -> DeployFailed:
        """Returns a failure with the end of the log."""
        return DeployFailed(cause, reason, log_tail=self.tail)

    def _shown(self, step: str) -> str | None:
        """Returns what the log says of a step that begins; None for nothing."""
        if is_own(self.spec) or step.startswith("FROM "):
            return step
        return f"$ {self._command(step)}" if step_named(step) else None

    def _command(self, step: str) -> str:
        """Returns a step as the deployer knows it."""
        plan = self.spec.plan
        commands = {INSTALL: plan.install, BUILD: plan.build}
        known = None if is_own(self.spec) else commands.get(step_named(step))
        return (known or step).replace("\n", " ")

    async def _log(self, lines: Sequence[str]) -> None:
        if lines:
            self.tail = (self.tail + "".join(f"{line}\n" for line in lines))[-_TAIL_CHARS:]
            await self.log(lines)

    def _failed(self) -> DeployFailed:
        """Returns why the builder failed; blocks for microseconds."""
        step, code = self.progress.failed_step, self.progress.exit_code
        command = self._command(step)
        if self.progress.is_lost:
            return self.failure(FailureCause.NO_CAPACITY, f"{_LOST_REASON} ({self.progress.error})")
        if not step or code is None:
            return self.failure(
                FailureCause.BUILD_FAILED,
                f"the image could not be built: {self.progress.error or 'the builder ended'}",
            )
        is_install = step_named(step) == INSTALL and not is_own(self.spec)
        reason = failed_with(command, code, is_install=is_install)
        if (code == _KILLED or _KILLED_WORD in self.tail) and self.group.was_full():
            return self.failure(
                FailureCause.OUT_OF_MEMORY, f"{reason}: the build ran out of memory"
            )
        if any(word in self.tail for word in _FULL_WORDS):
            return self.failure(FailureCause.OUT_OF_DISK, f"{reason}: the disk is full")
        cause = FailureCause.INSTALL_FAILED if is_install else FailureCause.BUILD_FAILED
        return self.failure(cause, reason)


@asynccontextmanager
async def _ended_when_full(
    process: asyncio.subprocess.Process, has_room: Callable[[], bool]
) -> AsyncIterator[asyncio.Event]:
    """Ends the builder when there is no more room on the disk; the event is set then."""
    was_full = asyncio.Event()

    async def watch() -> None:
        while await in_thread(has_room):  # noqa: ASYNC110 (a disk has no event)
            await asyncio.sleep(_CHECK_SECONDS)
        was_full.set()
        while True:  # one that comes while the builder starts is lost
            process.terminate()
            await asyncio.sleep(_CHECK_SECONDS)

    watching = asyncio.create_task(watch())
    try:
        yield was_full
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError, ProcessLookupError):
            await watching


def is_own(spec: BuildSpec) -> bool:
    """Returns whether it is the upload's own Dockerfile, which a stranger wrote."""
    return spec.plan.stack is Stack.DOCKERFILE

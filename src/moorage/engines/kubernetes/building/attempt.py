"""One run of a build's pod, from its making to its end, and why it failed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from moorage.clock import Clock
from moorage.engines.failure import shown
from moorage.engines.kubernetes.building import outcome
from moorage.engines.kubernetes.building.outcome import Ended, Failure
from moorage.engines.kubernetes.objects import Build, Manifest
from moorage.engines.kubernetes.objects.build import FETCH, INSTALL, KEEP, LAY, PACK
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause
from moorage.threads import to_its_end

Log = Callable[[Sequence[str]], Awaitable[None]]
"""Writes lines into the log of a build."""

_TAIL_CHARS = 8192
_SILENCE = "silence"
_LOOKS_AFTER_OUTPUT = 10  # the pod's status says a moment later that the container has ended

logger = logging.getLogger(__name__)


class NotLaid(Exception):
    """What an earlier build has installed can't be had; the message says why."""


class BuildPods(Protocol):
    """Pods of builds. Methods raise ClusterUnavailable where the cluster's answer is not known."""

    async def start(self, build: Build) -> None:
        """Makes the pod and its Secrets, in place of what an earlier attempt left.

        Raises DeployFailed where the cluster has no room for it.
        """
        ...

    async def look(self, build: Build) -> Manifest | None:
        """Returns the pod as the cluster has it now; None if it is gone."""
        ...

    def output(self, build: Build, container: str) -> AsyncIterator[Sequence[str]]:
        """Gives what a container that has started writes, from its first line until it ends.

        It may be cut off, by ClusterUnavailable or without it.
        """
        ...

    async def remove(self, build: Build) -> None:
        """Ends the pod, and removes it with its Secrets; nothing of it runs when it returns."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a cluster may take before a build's containers run."""

    schedule_seconds: float = 120.0  # until a node has room
    obstacle_seconds: float = 30.0  # with what the kubelet itself tries again, such as a pull
    silence_seconds: float = 60.0  # while the cluster does not answer
    look_seconds: float = 0.3  # between two looks


@dataclass
class Attempt:
    """The run of one build."""

    pods: BuildPods
    build: Build
    log: Log
    clock: Clock
    patience: Patience = field(default_factory=Patience)
    tail: str = ""
    roots: str = ""  # the topmost names of what was installed, in JSON; "" where it isn't kept
    _doing: str = "fetching the files"
    _told: int = 0  # lines of the step's output
    _since: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        """Runs the pod to its end, and removes it.

        Raises NotLaid, DeployFailed, ClusterUnavailable.
        """
        seconds = self.build.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                await self.pods.start(self.build)
                await self._run()
        except TimeoutError:
            raise self._failed(
                FailureCause.BUILD_TIMEOUT,
                f"the build took longer than {seconds} s; it was still {self._doing}",
            ) from None
        except asyncio.CancelledError:
            await self.log(["CANCELLED: the build was ended"])
            raise
        finally:
            await to_its_end(self._remove())

    async def _run(self) -> None:
        if self.build.installed:
            await self._laid()
        await self._own(FETCH)
        for step in self.build.steps:
            if step.writes_tools:
                await self._own(step.name)
                continue
            await self._step(step.name, step.command)
            if step.name == INSTALL and self.build.keep:
                self._doing = "packing what was installed"
                self.roots = await self._program(KEEP)
        self._doing = "packing what was built"
        await self._own(PACK)

    async def _laid(self) -> None:
        """Waits until what an earlier build has installed is there."""
        try:
            await self._own(LAY)
        except DeployFailed as failed:
            if failed.cause is not FailureCause.INTERRUPTED:
                raise
            raise NotLaid(failed.reason) from failed

    async def _own(self, name: str) -> None:
        """Waits for the end of a program that is none of the plan's, and tells what it says."""
        if said := await self._program(name):
            await self.log([said.replace("\n", " ")])

    async def _program(self, name: str) -> str:
        """Waits for the end of a program that is none of the plan's; returns what it says."""
        ended = await self._ended(name)
        self._check(outcome.own_failure(name, ended))
        return ended.message

    async def _step(self, name: str, command: str) -> None:
        self._doing = f"running `{shown(command)}`"
        await self._started(name)
        await self.log([f"$ {shown(command)}"])
        self.tail, self._told = "", 0
        while (ended := await self._followed(name)) is None:  # noqa: ASYNC110 (it was cut off)
            await asyncio.sleep(self.patience.look_seconds)
        self._check(outcome.step_failure(name, command, ended, self.tail))

    async def _followed(self, name: str) -> Ended | None:
        """Tells what a container writes; returns how it ended, None if it was cut off before."""
        seen = 0
        try:
            async for lines in self.pods.output(self.build, name):
                fresh = lines[max(0, self._told - seen) :]
                seen += len(lines)
                await self._tell(fresh)
        except ClusterUnavailable as error:
            logger.info("the output of a build was cut off: %s", error)
            return None
        if (ended := (await self._look(name)).ended) is not None:
            return ended
        for _ in range(_LOOKS_AFTER_OUTPUT):  # its last lines may be missing: it is read again
            await asyncio.sleep(self.patience.look_seconds)
            if (await self._look(name)).ended is not None:
                break
        return None

    async def _tell(self, lines: Sequence[str]) -> None:
        if lines:
            self._told += len(lines)
            self.tail = (self.tail + "".join(f"{it}\n" for it in lines))[-_TAIL_CHARS:]
            await self.log(lines)

    async def _started(self, name: str) -> None:
        while not (await self._look(name)).has_started:  # noqa: ASYNC110 (it may be lost as well)
            await asyncio.sleep(self.patience.look_seconds)

    async def _ended(self, name: str) -> Ended:
        while (ended := (await self._look(name)).ended) is None:  # noqa: ASYNC110 (as above)
            await asyncio.sleep(self.patience.look_seconds)
        return ended

    async def _look(self, name: str) -> outcome.Progress:
        """Returns how far a container is. Raises DeployFailed if it will never be further."""
        pod = await self._pod()
        if pod is None:
            raise self._failed(FailureCause.INTERRUPTED, "the cluster has lost the build's pod")
        found = outcome.progress(pod, name)
        if found.ended is None or found.ended.code:  # it may have ended with its pod
            self._check(outcome.pod_failure(pod))
        if not found.has_started:
            self._check_starting(pod, found.obstacle)
        return found

    async def _pod(self) -> Manifest | None:
        """Returns the pod, once the cluster answers. Raises ClusterUnavailable."""
        while True:
            try:
                found = await self.pods.look(self.build)
            except ClusterUnavailable:
                if self._lasts(_SILENCE) > self.patience.silence_seconds:
                    raise
                await asyncio.sleep(self.patience.look_seconds)
            else:
                self._since.pop(_SILENCE, None)
                return found

    async def _remove(self) -> None:
        """Removes the pod; one that stays ends by its own deadline."""
        try:
            await self.pods.remove(self.build)
        except (ClusterUnavailable, OSError) as error:
            logger.warning("the pod of a build could not be removed: %s", error)

    def _check_starting(self, pod: Manifest, obstacle: str) -> None:
        """Raises DeployFailed when what keeps a container from starting lasts too long."""
        if self._lasts(obstacle) > self.patience.obstacle_seconds:
            raise self._failed(FailureCause.INTERRUPTED, f"the build can't be started: {obstacle}")
        why = outcome.unscheduled(pod)
        if self._lasts(why) > self.patience.schedule_seconds:
            raise self._failed(
                FailureCause.NO_CAPACITY, f"no node has room for the build: {why}. Deploy it later."
            )

    def _lasts(self, what: str) -> float:
        """Returns for how many seconds something goes on, as far as it was seen."""
        now = self.clock.monotonic_seconds()
        return now - self._since.setdefault(what, now) if what else 0.0

    def _check(self, failure: Failure | None) -> None:
        if failure is not None:
            raise self._failed(failure.cause, failure.reason)

    def _failed(self, cause: FailureCause, reason: str) -> DeployFailed:
        return DeployFailed(cause, reason, log_tail=self.tail)

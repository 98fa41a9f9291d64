"""Tasks that run beside the reconciler, one at a time for each subject."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from moorage.clock import Clock
from moorage.errors import DeployFailed, NoCapacity

log = structlog.get_logger()

_CALM_SECONDS = 600.0
_LONGEST_PAUSE_SECONDS = 60.0
_LONGEST_PAUSES_SECONDS = {"start": 300.0}  # of what its owner alone can mend


class SubjectTasks:
    """Tasks by subject, a deployment or a project; one that is asked for again waits, ever longer.

    So what takes a while, or fails, holds nobody up.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._backoff: dict[tuple[str, str], _Backoff] = {}

    def begin(self, what: str, subject: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` in a task of its own, unless its subject has one; not too often."""
        now = self._clock.monotonic_seconds()
        backoff = self._backoff.setdefault((what, subject), _Backoff(what))
        if subject in self._tasks or now < backoff.until:
            return
        backoff.grow(now)
        task = asyncio.create_task(_done(what, subject, work), name=f"{what} {subject}")
        self._tasks[subject] = task
        task.add_done_callback(lambda _: self._tasks.pop(subject, None))

    def wait_seconds(self, what: str, subject: str) -> float:
        """How long it is until something is done again, at the soonest."""
        backoff = self._backoff.get((what, subject))
        until = 0.0 if backoff is None else backoff.until
        return max(0.0, until - self._clock.monotonic_seconds())

    def pause_seconds(self, what: str, subject: str) -> float:
        """How long something was to wait after it was last begun."""
        backoff = self._backoff.get((what, subject))
        return 0.0 if backoff is None else backoff.pause

    def resume(self, what: str, subject: str, *, begun: float, pause_seconds: float) -> None:
        """Take up how often something was done before: last at `begun`, monotonic seconds."""
        self._backoff[what, subject] = _Backoff(what, begun=begun, pause=pause_seconds)

    def of(self, subject: str) -> "asyncio.Task[None] | None":
        """What is done to a subject now."""
        return self._tasks.get(subject)

    def forgive(self, what: str, subject: str) -> None:
        """Forget how often something was done: the next time it is done at once."""
        self._backoff.pop((what, subject), None)

    async def end(self, subject: str) -> None:
        """Cancel what is done to a subject; returns when it has ended."""
        task = self._tasks.get(subject)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def end_all(self) -> None:
        """Cancel everything; returns when it has ended."""
        tasks = self.under_way()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def under_way(self) -> "list[asyncio.Task[None]]":
        """What is being done."""
        return list(self._tasks.values())

    def forget(self, *, but: Collection[str]) -> None:
        """Drop what was known about subjects that are gone."""
        for key in [key for key in self._backoff if key[1] not in but]:
            del self._backoff[key]


async def _done(what: str, subject: str, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except DeployFailed as failure:
        log.warning("app does not come back", deployment=subject, cause=failure.cause)
    except NoCapacity:
        log.warning("no memory to resume an app", deployment=subject)
    except Exception:
        log.exception("reconciliation of one failed", what=what, subject=subject)


class _Backoff:
    """How long to wait before the next try: doubling, and forgotten after a calm while."""

    def __init__(self, what: str, *, begun: float = 0.0, pause: float = 0.0) -> None:
        self.until = begun + pause
        self.pause = pause
        self._begun = begun
        self._longest = _LONGEST_PAUSES_SECONDS.get(what, _LONGEST_PAUSE_SECONDS)

    def grow(self, now: float) -> None:
        calm = now > self._begun + _CALM_SECONDS
        self._begun = now
        self.pause = 1.0 if calm or not self.pause else self.pause * 2
        self.pause = min(self.pause, self._longest)
        self.until = now + self.pause

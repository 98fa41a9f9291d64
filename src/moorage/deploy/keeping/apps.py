"""What this process knows of projects and their apps, and the lock of each project.

Whoever reads a project's rows and then acts on its app or its routes holds the project's lock from
the reading to the end of the act. A start is not done under it, as it may take a minute: whoever
has started an app takes the lock afterwards, and reads again before routing.

Locks are taken in this order: projects, by their ids where one needs several at once; then a
transaction. Nobody waits under a lock for a task that may want it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain

import structlog

from moorage.clock import Clock
from moorage.errors import DeployFailed, NoCapacity

log = structlog.get_logger()

_CALM_SECONDS = 600.0
_MAX_PAUSE_SECONDS = 60.0
_MAX_PAUSES_SECONDS = {"start": 300.0}  # of what its owner alone can mend


class Tasks:
    """Tasks of one app or project, one at a time; what is begun again waits, ever longer.

    So what takes a while, or fails, holds nobody up.
    """

    def __init__(self, subject: str, *, clock: Clock) -> None:
        self._subject = subject
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}
        self.current: asyncio.Task[None] | None = None
        """What is being done."""

    def begin(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Does `work` in a task of its own, unless there is one; not too often."""
        now = self._clock.monotonic_seconds()
        pause = self._pauses.setdefault(what, _Pause(what))
        if self.current is not None or now < pause.until:
            return
        pause.grow(now)
        self.current = asyncio.create_task(
            _done(what, self._subject, work), name=f"{what} {self._subject}"
        )
        self.current.add_done_callback(self._ended)

    def wait_seconds(self, what: str) -> float:
        """How long it is until something is done again, at the soonest."""
        pause = self._pauses.get(what)
        until = 0.0 if pause is None else pause.until
        return max(0.0, until - self._clock.monotonic_seconds())

    def pause_seconds(self, what: str) -> float:
        """How long something was to wait after it was last begun."""
        pause = self._pauses.get(what)
        return 0.0 if pause is None else pause.seconds

    def resume(self, what: str, *, begun: float, pause_seconds: float) -> None:
        """Takes up how often something was done before: last at `begun`, monotonic seconds."""
        self._pauses[what] = _Pause(what, begun=begun, seconds=pause_seconds)

    def forgive(self, what: str) -> None:
        """Forgets how often something was done: the next time it is done at once."""
        self._pauses.pop(what, None)

    @property
    def is_busy(self) -> bool:
        """Whether something is being done."""
        return self.current is not None

    async def end(self) -> None:
        """Cancels what is being done; returns when it has ended."""
        if (task := self.current) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _ended(self, _: "asyncio.Task[None]") -> None:
        self.current = None


class App(Tasks):
    """One deployment's app. Times are monotonic seconds."""

    def __init__(self, deployment_id: str, *, clock: Clock) -> None:
        super().__init__(deployment_id, clock=clock)
        self.is_discarded = False  # it failed, and what it left is gone
        self.used_at: float | None = None  # when it was last in use
        self.drains_until: float | None = None  # it was replaced, and is stopped then
        self.idle_since: float | None = None  # while it drains: since when nobody was with it


class ProjectWork(Tasks):
    """One project's lock, and what is done to it for those who ask."""

    def __init__(self, project_id: str, *, clock: Clock) -> None:
        super().__init__(project_id, clock=clock)
        self._lock = asyncio.Lock()
        self._holders = 0  # and those who wait
        self.waking: asyncio.Task[bool] | None = None
        self.deletion: asyncio.Task[None] | None = None

    @property
    def is_held(self) -> bool:
        """Whether somebody holds the lock, or waits for it."""
        return self._holders > 0

    @property
    def is_busy(self) -> bool:
        """Whether something is being done, also for those who ask."""
        return super().is_busy or self.is_held or bool(self.waking or self.deletion)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Holds the lock."""
        self._holders += 1
        try:
            async with self._lock:
                yield
        finally:
            self._holders -= 1


class Apps:
    """All of them."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._apps: dict[str, App] = {}
        self._projects: dict[str, ProjectWork] = {}

    def app(self, deployment_id: str) -> App:
        """A deployment's."""
        return self._apps.get(deployment_id) or self._apps.setdefault(
            deployment_id, App(deployment_id, clock=self._clock)
        )

    def project(self, project_id: str) -> ProjectWork:
        """A project's."""
        return self._projects.get(project_id) or self._projects.setdefault(
            project_id, ProjectWork(project_id, clock=self._clock)
        )

    @asynccontextmanager
    async def held(self, *project_ids: str) -> AsyncIterator[None]:
        """Holds the locks of these projects."""
        async with AsyncExitStack() as stack:
            for project_id in sorted(set(project_ids)):
                await stack.enter_async_context(self.project(project_id).held())
            yield

    def forget(self, *, keep: Collection[str]) -> None:
        """Forgets deployments and projects that are gone, unless something is done to them."""
        for known in (self._apps, self._projects):
            for name in known.keys() - set(keep):
                if not known[name].is_busy:
                    del known[name]

    def under_way(self) -> "list[asyncio.Task[None]]":
        """What is being done."""
        return [tasks.current for tasks in self._all() if tasks.current is not None]

    async def end_all(self) -> None:
        """Cancels everything; returns when it has ended."""
        tasks = self.under_way()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _all(self) -> Iterator[Tasks]:
        return chain(self._apps.values(), self._projects.values())


async def _done(what: str, subject: str, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except DeployFailed as failure:
        log.warning("app does not come back", deployment=subject, cause=failure.cause)
    except NoCapacity:
        log.warning("no memory to resume an app", deployment=subject)
    except Exception:
        log.exception("reconciliation of one failed", what=what, subject=subject)


class _Pause:
    """How long to wait before the next try: doubling, and forgotten after a calm while."""

    def __init__(self, what: str, *, begun: float = 0.0, seconds: float = 0.0) -> None:
        self.until = begun + seconds
        self.seconds = seconds
        self._begun = begun
        self._max_seconds = _MAX_PAUSES_SECONDS.get(what, _MAX_PAUSE_SECONDS)

    def grow(self, now: float) -> None:
        calm = now > self._begun + _CALM_SECONDS
        self._begun = now
        self.seconds = 1.0 if calm or not self.seconds else self.seconds * 2
        self.seconds = min(self.seconds, self._max_seconds)
        self.until = now + self.seconds

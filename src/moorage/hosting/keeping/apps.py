"""What this process knows of projects and their apps, and the lock of each project.

Code that reads a project's rows and then acts on its app or its routes holds the project's lock
all the while. Only a start is done without the lock, as it may take a minute: after it, take the
lock and read the rows again before routing.

Lock order: projects, sorted by id; then a transaction. Under a lock, never wait for a task that may
take it.
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
_MAX_PAUSES_SECONDS = {"start": 300.0}  # only the owner can repair an app that does not start


class Tasks:
    """Runs one task at a time for one app or project, with growing pauses between repetitions.

    So a task that takes long, or fails, delays no other app.
    """

    def __init__(self, subject: str, *, clock: Clock) -> None:
        self._subject = subject
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}
        self.current: asyncio.Task[None] | None = None
        """The running task."""

    def begin(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` in a task, unless one is running, or `what` has to wait."""
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
        """Returns how long `what` still has to wait."""
        pause = self._pauses.get(what)
        until = 0.0 if pause is None else pause.until
        return max(0.0, until - self._clock.monotonic_seconds())

    def pause_seconds(self, what: str) -> float:
        """Returns the pause that began when `what` was last begun."""
        pause = self._pauses.get(what)
        return 0.0 if pause is None else pause.seconds

    def restore_pause(self, what: str, *, begun: float, pause_seconds: float) -> None:
        """Sets the pause of an earlier process; `begun` is in monotonic seconds."""
        self._pauses[what] = _Pause(what, begun=begun, seconds=pause_seconds)

    def reset_pause(self, what: str) -> None:
        """Ends the pause, so that `what` may begin at once."""
        self._pauses.pop(what, None)

    @property
    def is_busy(self) -> bool:
        """Whether a task is running."""
        return self.current is not None

    async def end(self) -> None:
        """Cancels the running task; returns when it has ended."""
        if (task := self.current) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _ended(self, _: "asyncio.Task[None]") -> None:
        self.current = None


class App(Tasks):
    """What is known of one deployment's app. Times are monotonic seconds."""

    def __init__(self, deployment_id: str, *, clock: Clock) -> None:
        super().__init__(deployment_id, clock=clock)
        self.is_discarded = False  # it failed, and its files were removed
        self.used_at: float | None = None  # when it was last in use
        self.drains_until: float | None = None  # when it is stopped, if it was replaced
        self.sleeps = False  # as far as its project's row said when it was last read
        self.was_woken = False  # by that row, and not started since
        self.requests: int | None = None  # of its project, when it was last about to sleep
        self.idle_since: float | None = None  # while it drains: since when it has no connection


class ProjectWork(Tasks):
    """One project's lock and tasks."""

    def __init__(self, project_id: str, *, clock: Clock) -> None:
        super().__init__(project_id, clock=clock)
        self._lock = asyncio.Lock()
        self._holders = 0  # those who hold the lock or wait for it
        self.waking: asyncio.Task[bool] | None = None
        self.deletion: asyncio.Task[None] | None = None

    @property
    def is_held(self) -> bool:
        """Whether a task holds the lock, or waits for it."""
        return self._holders > 0

    @property
    def is_busy(self) -> bool:
        """Whether any task is running, or the lock is in use."""
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
    """The apps and projects that this process knows."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._apps: dict[str, App] = {}
        self._projects: dict[str, ProjectWork] = {}

    def app(self, deployment_id: str) -> App:
        """Returns a deployment's app; makes it if it is not known yet."""
        return self._apps.get(deployment_id) or self._apps.setdefault(
            deployment_id, App(deployment_id, clock=self._clock)
        )

    def project(self, project_id: str) -> ProjectWork:
        """Returns a project's lock and tasks; makes them if they are not known yet."""
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
        """Forgets all deployments and projects but those in `keep` and those that are busy."""
        for known in (self._apps, self._projects):
            for name in known.keys() - set(keep):
                if not known[name].is_busy:
                    del known[name]

    def under_way(self) -> "list[asyncio.Task[None]]":
        """Returns all running tasks of `Tasks.begin`."""
        return [tasks.current for tasks in self._all() if tasks.current is not None]

    async def end_all(self) -> None:
        """Cancels those tasks; returns when they have ended."""
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
    """How long to wait before the next try: doubles each time, starts again after 10 minutes."""

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

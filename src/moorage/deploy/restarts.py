"""Restarts: apps that ended are started again, ever less often while they do not last.

An app that ends again and again within a while is in a crash loop: its status and its log say so,
and its owner is told once. A run that lasts, or a new version, ends that.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Collection

import msgspec
import structlog

from moorage.clock import Clock
from moorage.deploy.chores import Chores
from moorage.deploy.project import Project
from moorage.events import outbox
from moorage.events.event import EventKind
from moorage.runtimes.runtime import AppExit, Runtime
from moorage.storage.database import Database

log = structlog.get_logger()

WINDOW_SECONDS = 600.0
LOOP_AFTER = 5
"""So many restarts within the window are a crash loop."""

Start = Callable[[str, str], Awaitable[None]]
"""Starts a project's app again (ids of project and deployment), and leads its address there."""


class CrashLoop(msgspec.Struct, frozen=True):
    """How an app that does not last stands."""

    restarts: int  # within the last ten minutes
    exit_code: int | None  # of its last end; None when it can't be known
    out_of_memory: bool
    next_try_ms: int  # Unix time


class Restarts:
    """Counts each app's restarts; what it knows is this process's."""

    def __init__(self, *, db: Database, runtime: Runtime, chores: Chores, clock: Clock) -> None:
        self._db = db
        self._runtime = runtime
        self._chores = chores
        self._clock = clock
        self._histories: dict[str, _History] = {}

    def begin(self, project: Project, serving: str, start: Start) -> None:
        """Start an app that should run and does not, unless its next try is not yet due."""
        self._chores.begin("start", serving, lambda: self._restart(project, serving, start))

    def crash_loop(self, serving: str) -> CrashLoop | None:
        """How an app stands that does not last; None for any other."""
        history = self._histories.get(serving)
        if history is None or not history.is_loop(self._clock.monotonic_seconds()):
            return None
        wait_seconds = self._chores.wait_seconds("start", serving)
        return CrashLoop(
            restarts=len(history.restarts),
            exit_code=history.ended.exit_code,
            out_of_memory=history.ended.out_of_memory,
            next_try_ms=self._clock.now_ms() + round(wait_seconds * 1000),
        )

    def wait_seconds(self, serving: str) -> float:
        """How long it is until an app is started again, at the soonest; 0 while it is."""
        if self._chores.of(serving) is not None:
            return 0.0
        return self._chores.wait_seconds("start", serving)

    def forget(self, *, but: Collection[str]) -> None:
        """Drop what is known of deployments that serve no more."""
        for deployment_id in self._histories.keys() - set(but):
            del self._histories[deployment_id]

    async def _restart(self, project: Project, serving: str, start: Start) -> None:
        if await self._runtime.instance(serving) is None:  # else it was started meanwhile
            await self._count(project, serving)
        await start(project.id, serving)

    async def _count(self, project: Project, serving: str) -> None:
        ended = await self._runtime.exit_reason(serving)
        history = self._histories.setdefault(serving, _History())
        began_to_loop = history.add(
            ended or AppExit(exit_code=None, out_of_memory=False),
            now=self._clock.monotonic_seconds(),
        )
        self._runtime.note(serving, _sentence(ended, restarts=len(history.restarts)))
        if began_to_loop:
            await self._tell(project, serving, history)

    async def _tell(self, project: Project, serving: str, history: "_History") -> None:
        log.warning("app is in a crash loop", deployment=serving)
        self._runtime.note(serving, f"A crash loop: {LOOP_AFTER} restarts within ten minutes.")
        async with self._db.transaction(durable=False) as tx:
            await outbox.record(
                tx,
                wallet=project.wallet,
                kind=EventKind.PROJECT_CRASH_LOOPING,
                data={
                    "project_id": project.id,
                    "deployment_id": serving,
                    "reason": _sentence(history.ended, restarts=len(history.restarts)),
                },
                now_ms=self._clock.now_ms(),
            )


class _History:
    """The restarts of one app; times are monotonic seconds."""

    def __init__(self) -> None:
        self.restarts: deque[float] = deque(maxlen=1000)
        self.ended = AppExit(exit_code=None, out_of_memory=False)
        self._looping = False

    def add(self, ended: AppExit, *, now: float) -> bool:
        """Count a restart; True when it makes a crash loop of what was none."""
        was_loop = self.is_loop(now)
        self.restarts.append(now)
        self.ended = ended
        self._looping = len(self.restarts) >= LOOP_AFTER
        return self._looping and not was_loop

    def is_loop(self, now: float) -> bool:
        """Whether it loops: until it has lasted for as long as the window is."""
        while self.restarts and self.restarts[0] <= now - WINDOW_SECONDS:
            self.restarts.popleft()
        self._looping = self._looping and bool(self.restarts)
        return self._looping


def _sentence(ended: AppExit | None, *, restarts: int) -> str:
    """What happened to the app, for its log."""
    if ended is None:
        how = "The app does not run or listen"
    elif ended.out_of_memory:
        how = "The app was killed at its memory limit"
    elif ended.exit_code is None:
        how = "The app ended"
    else:
        how = f"The app ended with exit code {ended.exit_code}"
    return f"{how}; it is started again, restart {restarts} within ten minutes."

"""Restarts: apps that ended are started again, ever less often while they do not last.

An app that ends again and again within a while is in a crash loop: its status and its log say so,
and its owner is told once. A run that lasts, or a new version, ends that; a gateway that is started
again does not.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence

import msgspec
import structlog

from moorage.clock import Clock
from moorage.deploy.keeping.subject_tasks import SubjectTasks
from moorage.engines.engine import AppExit, Engine
from moorage.errors import DatabaseUnavailable
from moorage.events import outbox
from moorage.records.event import EventKind
from moorage.records.project import Project
from moorage.storage.apps import restarts as stored
from moorage.storage.database import Database

log = structlog.get_logger()

WINDOW_SECONDS = 600.0
LOOP_AFTER = 5
"""So many restarts within the window are a crash loop."""

_UNKNOWN = AppExit(exit_code=None, out_of_memory=False)

Start = Callable[[str, str], Awaitable[None]]
"""Starts a project's app again (ids of project and deployment), and leads its address there."""


class CrashLoop(msgspec.Struct, frozen=True):
    """How an app that does not last stands."""

    restarts: int  # within the last ten minutes
    exit_code: int | None  # of its last end; None when it can't be known
    out_of_memory: bool
    next_try_ms: int  # Unix time


class Kept(msgspec.Struct, frozen=True):
    """What is stored of an app's restarts."""

    times_ms: list[int]  # Unix time, the last one last
    is_loop: bool
    pause_seconds: float  # the wait after the last one
    exit_code: int | None
    out_of_memory: bool


class Restarts:
    """Counts each app's restarts."""

    def __init__(
        self, *, db: Database, runtime: Engine, subject_tasks: SubjectTasks, clock: Clock
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._subject_tasks = subject_tasks
        self._clock = clock
        self._histories: dict[str, _History] = {}

    async def recall(self) -> None:
        """Take up what an earlier process knew; before anything is started."""
        now_ms, now = self._clock.now_ms(), self._clock.monotonic_seconds()
        since_ms = now_ms - round(WINDOW_SECONDS * 1000)
        for deployment_id, text in await stored.since(self._db, since_ms):
            kept = msgspec.json.decode(text, type=Kept)
            # Of a clock that was set back, what seems to be to come was just now.
            times = [now - max(0, now_ms - at_ms) / 1000 for at_ms in kept.times_ms]
            self._histories[deployment_id] = _History(
                times,
                AppExit(exit_code=kept.exit_code, out_of_memory=kept.out_of_memory),
                looping=kept.is_loop,
            )
            self._subject_tasks.resume(
                "start", deployment_id, begun=times[-1], pause_seconds=kept.pause_seconds
            )

    def begin(self, project: Project, serving: str, start: Start) -> None:
        """Start an app that should run and does not, unless its next try is not yet due."""
        self._subject_tasks.begin("start", serving, lambda: self._restart(project, serving, start))

    def crash_loop(self, serving: str) -> CrashLoop | None:
        """How an app stands that does not last; None for any other."""
        history = self._histories.get(serving)
        if history is None or not history.is_loop(self._clock.monotonic_seconds()):
            return None
        wait_seconds = self._subject_tasks.wait_seconds("start", serving)
        return CrashLoop(
            restarts=len(history.restarts),
            exit_code=history.ended.exit_code,
            out_of_memory=history.ended.out_of_memory,
            next_try_ms=self._clock.now_ms() + round(wait_seconds * 1000),
        )

    def wait_seconds(self, serving: str) -> float:
        """How long it is until an app is started again, at the soonest; 0 while it is."""
        if self._subject_tasks.of(serving) is not None:
            return 0.0
        return self._subject_tasks.wait_seconds("start", serving)

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
            ended or _UNKNOWN,
            now=self._clock.monotonic_seconds(),
        )
        await self._runtime.note(serving, _sentence(ended, restarts=len(history.restarts)))
        if began_to_loop:
            await self._tell(project, serving, history)
        try:
            await self._keep(serving, history)
        except DatabaseUnavailable as error:
            log.warning("restart is not remembered", deployment=serving, error=error.message)

    async def _keep(self, serving: str, history: "_History") -> None:
        now_ms, now = self._clock.now_ms(), self._clock.monotonic_seconds()
        kept = Kept(
            times_ms=[now_ms - round((now - at) * 1000) for at in history.restarts],
            is_loop=history.is_loop(now),
            pause_seconds=self._subject_tasks.pause_seconds("start", serving),
            exit_code=history.ended.exit_code,
            out_of_memory=history.ended.out_of_memory,
        )
        async with self._db.transaction(durable=False) as tx:
            await stored.keep(
                tx,
                serving,
                last_ms=now_ms,
                history=msgspec.json.encode(kept).decode(),
                before_ms=now_ms - round(WINDOW_SECONDS * 1000),
            )

    async def _tell(self, project: Project, serving: str, history: "_History") -> None:
        log.warning("app is in a crash loop", deployment=serving)
        await self._runtime.note(
            serving, f"A crash loop: {LOOP_AFTER} restarts within ten minutes."
        )
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

    def __init__(
        self, times: Sequence[float] = (), ended: AppExit = _UNKNOWN, *, looping: bool = False
    ) -> None:
        self.restarts = deque(times, maxlen=1000)
        self.ended = ended
        self._looping = looping

    def add(self, ended: AppExit, *, now: float) -> bool:
        """Count a restart; True when it makes a crash loop of what was none."""
        was_loop = self.is_loop(now)
        self.restarts.append(now)
        self.ended = ended
        self._looping = was_loop or len(self.restarts) >= LOOP_AFTER
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

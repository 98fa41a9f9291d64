"""Restarts: apps that ended are started again, with growing pauses.

An app that ends several times within ten minutes is in a crash loop: its status and its log say so,
and its owner is told once. Ten minutes without a restart, or a new version, end the loop. All of it
is stored, so that every gateway reports the same, also after a restart of its own.
"""

from collections.abc import Awaitable, Callable

import msgspec
import structlog

from moorage.clock import Clock
from moorage.engines.engine import AppExit, Runs
from moorage.errors import DatabaseUnavailable
from moorage.hosting.keeping.apps import Apps
from moorage.records.event import EventKind
from moorage.records.project import Project
from moorage.storage import events
from moorage.storage.apps import deployments as stored
from moorage.storage.database import Database, Source

log = structlog.get_logger()

_WINDOW_MS = 600_000
_MAX_TIMES = 1000
LOOP_AFTER = 5
"""How many restarts within the window make a crash loop."""

Start = Callable[[str, str], Awaitable[None]]
"""Starts a project's app (ids of project and deployment), and routes its address to it."""


class CrashLoop(msgspec.Struct, frozen=True):
    """The state of an app in a crash loop."""

    restarts: int  # within the last ten minutes
    exit_code: int | None  # of its last end; None if unknown
    out_of_memory: bool
    next_try_ms: int  # Unix time


class History(msgspec.Struct, frozen=True):
    """An app's restarts, as they are stored."""

    times_ms: list[int] = []  # Unix time, ascending
    is_loop: bool = False
    pause_seconds: float = 0.0  # the wait after the last one
    exit_code: int | None = None
    out_of_memory: bool = False

    def recent(self, now_ms: int) -> "History":
        """Returns it without restarts before the window; a loop lasts until none is left.

        Times in the future, after the clock was set back, become now.
        """
        times = [min(at_ms, now_ms) for at_ms in self.times_ms if at_ms > now_ms - _WINDOW_MS]
        return msgspec.structs.replace(self, times_ms=times, is_loop=self.is_loop and bool(times))

    def with_restart(
        self, ended: AppExit | None, *, now_ms: int, pause_seconds: float
    ) -> "History":
        """Returns it with one more restart, after the app `ended`."""
        recent = self.recent(now_ms)
        times = [*recent.times_ms, now_ms][-_MAX_TIMES:]
        return History(
            times_ms=times,
            is_loop=recent.is_loop or len(times) >= LOOP_AFTER,
            pause_seconds=pause_seconds,
            exit_code=None if ended is None else ended.exit_code,
            out_of_memory=ended is not None and ended.out_of_memory,
        )

    @property
    def next_try_ms(self) -> int:
        """The earliest time of the next restart."""
        return self.times_ms[-1] + round(self.pause_seconds * 1000) if self.times_ms else 0


async def history_of(source: Source, serving: str, *, now_ms: int) -> History:
    """Returns an app's restarts of the last ten minutes."""
    text = await stored.restarts_of(source, serving)
    return History() if text is None else _decoded(text).recent(now_ms)


async def crash_loop(source: Source, serving: str, *, now_ms: int) -> CrashLoop | None:
    """Returns the state of an app's crash loop, or None if it is in none."""
    history = await history_of(source, serving, now_ms=now_ms)
    if not history.is_loop:
        return None
    return CrashLoop(
        restarts=len(history.times_ms),
        exit_code=history.exit_code,
        out_of_memory=history.out_of_memory,
        next_try_ms=max(history.next_try_ms, now_ms),
    )


async def next_try(source: Source, serving: str, *, now_ms: int) -> tuple[bool, float]:
    """Returns whether an app is in a crash loop, and the seconds until its next try."""
    history = await history_of(source, serving, now_ms=now_ms)
    return history.is_loop, max(0, history.next_try_ms - now_ms) / 1000


class Restarts:
    """Restarts apps that ended, and counts their restarts."""

    def __init__(self, *, db: Database, runtime: Runs, apps: Apps, clock: Clock) -> None:
        self._db = db
        self._runtime = runtime
        self._apps = apps
        self._clock = clock

    async def recall(self) -> None:
        """Restores the pauses of an earlier process; call it before any app is started."""
        now_ms, now = self._clock.now_ms(), self._clock.monotonic_seconds()
        for deployment_id, text in await stored.restarted_since(self._db, now_ms - _WINDOW_MS):
            if times_ms := (history := _decoded(text).recent(now_ms)).times_ms:
                self._apps.app(deployment_id).restore_pause(
                    "start",
                    begun=now - (now_ms - times_ms[-1]) / 1000,
                    pause_seconds=history.pause_seconds,
                )

    def begin(self, project: Project, serving: str, start: Start) -> None:
        """Starts an app that should run and does not, if its next try is due."""
        self._apps.app(serving).begin("start", lambda: self._restart(project, serving, start))

    def wait_seconds(self, serving: str) -> float:
        """Returns how long until this process may restart an app; 0 while it does."""
        app = self._apps.app(serving)
        return 0.0 if app.current is not None else app.wait_seconds("start")

    async def _restart(self, project: Project, serving: str, start: Start) -> None:
        state = await self._runtime.inspect(serving)
        if state.instance is None:  # else it was started meanwhile
            await self._record(project, serving, state.exit)
        await start(project.id, serving)

    async def _record(self, project: Project, serving: str, ended: AppExit | None) -> None:
        now_ms = self._clock.now_ms()
        before = await history_of(self._db, serving, now_ms=now_ms)
        history = before.with_restart(
            ended, now_ms=now_ms, pause_seconds=self._apps.app(serving).pause_seconds("start")
        )
        sentence = _sentence(ended, restarts=len(history.times_ms))
        log.warning(
            "app ended and is started again",
            deployment=serving,
            project=project.id,
            exit_code=history.exit_code,
            out_of_memory=history.out_of_memory,
            restarts=len(history.times_ms),
        )
        await self._runtime.note(serving, sentence)
        try:
            await self._keep(project, serving, history, sentence, was_loop=before.is_loop)
        except DatabaseUnavailable as error:
            log.warning("restart is not remembered", deployment=serving, error=error.message)
            return
        if history.is_loop and not before.is_loop:
            log.warning("app is in a crash loop", deployment=serving)
            await self._runtime.note(
                serving, f"A crash loop: {LOOP_AFTER} restarts within ten minutes."
            )

    async def _keep(
        self, project: Project, serving: str, history: History, sentence: str, *, was_loop: bool
    ) -> None:
        """Stores a restart, and tells the owner if it begins a crash loop."""
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=False) as tx:
            await stored.store_restarts(
                tx,
                serving,
                last_ms=now_ms,
                history=msgspec.json.encode(history).decode(),
                before_ms=now_ms - _WINDOW_MS,
            )
            if history.is_loop and not was_loop:
                await events.record(
                    tx,
                    wallet=project.wallet,
                    kind=EventKind.PROJECT_CRASH_LOOPING,
                    data={
                        "project_id": project.id,
                        "deployment_id": serving,
                        "reason": sentence,
                    },
                    now_ms=now_ms,
                )


def _decoded(text: str) -> History:
    return msgspec.json.decode(text, type=History)


def _sentence(ended: AppExit | None, *, restarts: int) -> str:
    """Returns a sentence on what happened to the app, for its log."""
    if ended is None:
        how = "The app does not run or listen"
    elif ended.out_of_memory:
        how = "The app was killed at its memory limit"
    elif ended.exit_code is None:
        how = "The app ended"
    else:
        how = f"The app ended with exit code {ended.exit_code}"
    return f"{how}; it is started again, restart {restarts} within ten minutes."

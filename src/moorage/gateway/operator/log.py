"""Writes a line of the log for each thing that an operator asks about afterwards.

What happened to wallets and their projects is in the rows of events, and what operators did in
those of acts: lines are written from committed rows alone, so that none tells of what was rolled
back. They have the event's id: where another gateway takes the duty over, it may repeat the last.
"""

import structlog

from moorage.core import Core
from moorage.records.event import Event, EventKind
from moorage.storage import events
from moorage.storage.operation import acts
from moorage.storage.operation.acts import Act

log = structlog.get_logger()

EVERY_SECONDS = 5.0
_LATE_MS = 60_000  # a transaction may commit as long after its event's time

_WORTH_A_WARNING = {
    EventKind.PAYMENT_REVERSED,
    EventKind.PAYMENT_HELD,
    EventKind.PROJECT_CRASH_LOOPING,
    EventKind.VOLUME_MENDED,
}


class OperatorsLog:
    """Logs events and acts once they are in the database, each once."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._begun_ms = self._since_ms = core.clock.now_ms()
        self._logged: dict[str, int] = {}  # the time of each, by what names it

    async def tick(self) -> None:
        """Logs what is new. Raises DatabaseUnavailable."""
        since_ms = max(self._begun_ms, self._since_ms - _LATE_MS)
        now_ms = self._core.clock.now_ms()
        for event in await events.events_since(self._core.db, since_ms):
            if self._is_new(event.id, event.created_at_ms):
                _log_event(event)
        for act in await acts.since(self._core.db, since_ms):
            if self._is_new(f"{act.at_ms} {act.act} {act.subject}", act.at_ms):
                _log_act(act)
        self._since_ms = now_ms
        old_ms = now_ms - 2 * _LATE_MS
        self._logged = {name: at_ms for name, at_ms in self._logged.items() if at_ms > old_ms}

    def _is_new(self, name: str, at_ms: int) -> bool:
        if name in self._logged:
            return False
        self._logged[name] = at_ms
        return True


def _log_event(event: Event) -> None:
    write = log.warning if event.kind in _WORTH_A_WARNING else log.info
    details = {key: value for key, value in event.data.items() if key != "event"}
    write(event.kind.value, wallet=event.wallet, event_id=event.id, **details)


def _log_act(act: Act) -> None:
    log.info("operator acted", who=act.who, act=act.act, subject=act.subject, reason=act.reason)

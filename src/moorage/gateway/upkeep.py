"""What a gateway does for its operator: checks, daily audits, a log of events."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from moorage.certificates import availability
from moorage.clock import iso_utc
from moorage.core import Core
from moorage.errors import MoorageError
from moorage.gateway.alert_channels import Message, loops_of_channels, new_message, title_of
from moorage.gateway.alerts import loops_of_alerts
from moorage.gateway.assembly import Rooms
from moorage.gateway.duplicate_gateway_check import CHECK_SECONDS
from moorage.gateway.operator_port import checks_of, states_of
from moorage.gateway.vital_signs import (
    EVERY_SECONDS,
    Samples,
    ask_nodes,
    note_certificates,
    note_evictions,
    note_parts,
    note_queue,
    note_uncertified,
    note_upkeep,
)
from moorage.loop import Loop, Scope
from moorage.money import decimal_text
from moorage.process import output_of
from moorage.records.event import EventKind
from moorage.settings import Settings
from moorage.storage import events
from moorage.storage.operation import alerts, audit_log, overview, payment_list
from moorage.storage.operation.audit_log import Upkeep, UpkeepDone, kinds_of_upkeep
from moorage.storage.operation.overview import DAY_MS

LOG_SECONDS = 5.0
_LATE_MS = 60_000  # a transaction may commit as long after its event's time

_WORTH_A_WARNING = {
    EventKind.PAYMENT_REVERSED,
    EventKind.PAYMENT_HELD,
    EventKind.PROJECT_CRASH_LOOPING,
    EventKind.VOLUME_MENDED,
    EventKind.VOLUME_LOST,
}


class OperatorsLog:
    """Logs events and operators' commands once they are in the database, each once."""

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
                write = log.warning if event.kind in _WORTH_A_WARNING else log.info
                details = {key: value for key, value in event.data.items() if key != "event"}
                write(event.kind.value, wallet=event.wallet, event_id=event.id, **details)
        for act in await audit_log.since(self._core.db, since_ms):
            if self._is_new(f"{act.at_ms} {act.act} {act.subject}", act.at_ms):
                log.info(
                    "operator acted",
                    who=act.who,
                    act=act.act,
                    subject=act.subject,
                    reason=act.reason,
                )
        self._since_ms = now_ms
        old_ms = now_ms - 2 * _LATE_MS
        self._logged = {name: at_ms for name, at_ms in self._logged.items() if at_ms > old_ms}

    def _is_new(self, name: str, at_ms: int) -> bool:
        if name in self._logged:
            return False
        self._logged[name] = at_ms
        return True


log = structlog.get_logger()

_AUDIT_MS = 24 * 3_600_000
_DIGEST_ALERTS = 20


def loops_of_upkeep(rooms: Rooms, settings: Settings, *, audit: Sequence[str]) -> tuple[Loop, ...]:
    """Returns the loops; `audit` is the command that audits the books, or empty for none.

    Alerts see what is counted from now on. Raises ConfigurationInvalid.
    """
    secured = rooms.certificates

    async def measure() -> None:
        await ask_nodes(rooms.payee.clients.values())
        states = await states_of(checks_of(rooms))
        note_parts(states)
        rooms.api.standing.note(states)
        await note_queue(rooms.core)
        await note_upkeep(rooms.core, offsite=bool(settings.backup_to))
        await note_evictions(rooms.core)
        if secured is not None:
            await note_uncertified(rooms.core)
            await note_certificates(rooms.core, secured.files)

    every, scope = EVERY_SECONDS, Scope.NODE
    loops: tuple[Loop, ...] = (
        Loop(
            "operator's log",
            every_seconds=LOG_SECONDS,
            tick=OperatorsLog(rooms.core).tick,
            scope=Scope.CLUSTER,
        ),
        Loop("vital signs", every_seconds=every, tick=measure, at_once=True, scope=scope),
        *loops_of_alerts(rooms.core, title=title_of(settings, rooms.core.name)),
        *loops_of_channels(rooms.core, settings, partial(daily_digest, rooms, settings)),
    )
    if secured is not None and secured.availability is not None:
        ask, often = secured.ask, availability.AGAIN_SECONDS
        loops = (
            *loops,
            Loop("authority", every_seconds=often, tick=ask, at_once=True, scope=scope),
        )
    if rooms.duplicates is not None:
        see, often = rooms.duplicates.poll, CHECK_SECONDS
        loops = (*loops, Loop("address", every_seconds=often, tick=see, at_once=True, scope=scope))
    if not audit:
        return loops
    daily = DailyAudit(rooms.core, audit).run_if_due
    return (*loops, Loop("audit", every_seconds=3600, tick=daily, scope=Scope.CLUSTER))


async def daily_digest(rooms: Rooms, settings: Settings) -> Message:
    """Returns the report on the day (UTC) that ended last. Raises DatabaseUnavailable."""
    db, now_ms = rooms.core.db, rooms.core.clock.now_ms()
    today_ms = now_ms // DAY_MS * DAY_MS
    day = iso_utc(today_ms - DAY_MS)[:10]
    paid = (await overview.paid_by_day(db, since_ms=today_ms - DAY_MS)).get(today_ms - DAY_MS, 0)
    found = await alerts.recent(db, since_ms=now_ms - DAY_MS)
    done = await audit_log.last_upkeep(db)
    ends_seconds = Samples()("moorage_certificate_end_timestamp_seconds")
    facts = {
        f"paid on {day}": f"${decimal_text(paid, decimals=6)}",
        "payments held": str(await payment_list.count_held(db)),
        "refunds under way": str(await payment_list.count_open_refunds(db)),
        "room": await _room(rooms),
        **{
            f"last {kind}": _last(done.get(kind))
            for kind in kinds_of_upkeep(offsite=bool(settings.backup_to))
        },
        "first certificate ends": iso_utc(round(ends_seconds * 1000)) if ends_seconds else "none",
        "alerts of the day": str(len(found)),
    }
    lines = [
        *(f"{name}: {fact}" for name, fact in facts.items()),
        *(f"- {each.state}: {each.summary}" for each in found[:_DIGEST_ALERTS]),
    ]
    text = "".join(f"{line}\n" for line in lines)
    return new_message("digest", settings, day, text, now_ms=now_ms, facts=facts)


def _last(done: UpkeepDone | None) -> str:
    if done is None:
        return "never"
    when = iso_utc(done.at_ms) if done.at_ms else "never"
    return f"{when}; failed since: {done.problem}" if done.problem else when


async def _room(rooms: Rooms) -> str:
    try:
        room = await rooms.deploy.capacity.room()
    except MoorageError as error:
        return error.message
    memory_mib = (room.memory_bytes - room.memory_sold_bytes) // 2**20
    disk_mib = (room.disk_free_bytes - room.disk_reserve_bytes) // 2**20
    return f"{memory_mib:,} MiB of memory to sell, {disk_mib:,} MiB of disk; {room.apps} apps"


@dataclass(frozen=True)
class DailyAudit:
    """Audits the books each day, in a process of its own, as it reads much."""

    core: Core
    command: Sequence[str]

    async def run_if_due(self) -> None:
        """Does it if it is due, and logs how it ended. Raises DatabaseUnavailable."""
        last = (await audit_log.last_upkeep(self.core.db)).get(Upkeep.AUDIT)
        if last is not None and 0 <= self.core.clock.now_ms() - last.at_ms < _AUDIT_MS:
            return
        told = await output_of(self.command)
        lines = [*told.out.decode(errors="replace").splitlines(), *told.errors.splitlines()]
        if told.code == 0:
            log.info("audited", verdict=lines[-1] if lines else "")
        else:
            log.error("audit", exit_code=told.code, found=lines[-20:])

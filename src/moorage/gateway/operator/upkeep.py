"""What a gateway does for its operator: it looks at itself, and audits its books each day."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from moorage.certificates import availability
from moorage.core import Core
from moorage.gateway.assembly import Rooms
from moorage.gateway.operator import log as operators_log
from moorage.gateway.operator.log import OperatorsLog
from moorage.gateway.operator.port import checks_of, states_of
from moorage.gateway.operator.vital_signs import (
    EVERY_SECONDS,
    ask_nodes,
    note_certificates,
    note_evictions,
    note_parts,
    note_queue,
    note_uncertified,
    note_upkeep,
)
from moorage.gateway.several import lookout
from moorage.loop import Loop, Scope
from moorage.storage.operation import acts
from moorage.storage.operation.acts import Upkeep

log = structlog.get_logger()

_AUDIT_MS = 24 * 3_600_000


def loops_of_upkeep(rooms: Rooms, *, audit: Sequence[str]) -> tuple[Loop, ...]:
    """Returns the loops; `audit` is the command that audits the books, or empty for none."""
    secured = rooms.certificates

    async def look() -> None:
        await ask_nodes(rooms.payee.clients.values())
        states = await states_of(checks_of(rooms))
        note_parts(states)
        rooms.api.standing.note(states)
        await note_queue(rooms.core)
        await note_upkeep(rooms.core)
        await note_evictions(rooms.core)
        if secured is not None:
            await note_uncertified(rooms.core)
            await note_certificates(rooms.core, secured.files)

    every, scope = EVERY_SECONDS, Scope.NODE
    loops: tuple[Loop, ...] = (
        Loop(
            "operator's log",
            every_seconds=operators_log.EVERY_SECONDS,
            tick=OperatorsLog(rooms.core).tick,
            scope=Scope.CLUSTER,
        ),
        Loop("vital signs", every_seconds=every, tick=look, at_once=True, scope=scope),
    )
    if secured is not None and secured.availability is not None:
        ask, often = secured.ask, availability.AGAIN_SECONDS
        loops = (
            *loops,
            Loop("authority", every_seconds=often, tick=ask, at_once=True, scope=scope),
        )
    if rooms.lookout is not None:
        see, often = rooms.lookout.look, lookout.EVERY_SECONDS
        loops = (*loops, Loop("address", every_seconds=often, tick=see, at_once=True, scope=scope))
    if not audit:
        return loops
    daily = DailyAudit(rooms.core, audit).look
    return (*loops, Loop("audit", every_seconds=3600, tick=daily, scope=Scope.CLUSTER))


@dataclass(frozen=True)
class DailyAudit:
    """Audits the books each day, in a process of its own, as it reads much."""

    core: Core
    command: Sequence[str]

    async def look(self) -> None:
        """Does it if it is due, and logs how it ended. Raises DatabaseUnavailable."""
        last = (await acts.last_upkeep(self.core.db)).get(Upkeep.AUDIT)
        if last is not None and 0 <= self.core.clock.now_ms() - last.at_ms < _AUDIT_MS:
            return
        process = await asyncio.create_subprocess_exec(
            *("nice", "-n", "10", *self.command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            raise
        lines = said.decode(errors="replace").splitlines()
        if process.returncode == 0:
            log.info("audited", verdict=lines[-1] if lines else "")
        else:
            log.error("audit", exit_code=process.returncode, found=lines[-20:])

"""Queries over what operators did, and when the books were last audited and saved."""

from enum import StrEnum

import msgspec
from sqlalchemy import Text, bindparam, func, select

from moorage.storage.database import (
    Source,
    Statement,
    Transaction,
    columns_of,
    given,
    insert_of,
    pattern_of,
    upsert_of,
)
from moorage.storage.operation_schema import operator_acts, upkeep


class Upkeep(StrEnum):
    """What is done to a gateway every now and then."""

    AUDIT = "audit"
    BACKUP = "backup"
    OFFSITE = "offsite"  # a backup into the store of `backup_to`
    DRILL = "drill"  # a restore of it, to see that it is one


def kinds_of_upkeep(*, offsite: bool) -> tuple[Upkeep, ...]:
    """Returns what is to be done to each gateway, and with `offsite` what `backup_to` asks for."""
    return tuple(Upkeep) if offsite else (Upkeep.AUDIT, Upkeep.BACKUP)


class UpkeepDone(msgspec.Struct, frozen=True, kw_only=True):
    """The last time that it was done, and what it found."""

    kind: Upkeep
    at_ms: int  # 0: never
    wrong: int = 0  # rows that are not as they must be
    pending: int = 0  # what the gateway fixes by itself
    unknown: int = 0  # chains that could not be asked
    size_bytes: int = 0  # of what was stored off-site
    problem: str = ""  # why it failed since, when it was last tried


_UPKEEP_COLUMNS = columns_of(upkeep, UpkeepDone)
_ALL = Statement(select(*_UPKEEP_COLUMNS))
_DONE = upsert_of(upkeep, UpkeepDone)


async def last_upkeep(source: Source) -> dict[Upkeep, UpkeepDone]:
    """Returns when each was done last, if it ever was."""
    rows = await source.records(UpkeepDone, _ALL)
    return {each.kind: each for each in rows}


async def note_upkeep(tx: Transaction, done: UpkeepDone) -> None:
    """Records that it was done, in place of the time before."""
    await tx.execute(_DONE, **msgspec.structs.asdict(done))


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """A command with which an operator changed something."""

    at_ms: int
    who: str  # the user of the machine, and whom sudo acted for
    act: str  # the command
    subject: str  # whom or what it was done to
    reason: str = ""


_WORDS = (
    operator_acts.c.who
    + " "
    + operator_acts.c.act
    + " "
    + operator_acts.c.subject
    + " "
    + operator_acts.c.reason
)
_COLUMNS = columns_of(operator_acts, Act)
_SINCE = Statement(
    select(*_COLUMNS)
    .where(operator_acts.c.at_ms >= bindparam("since_ms"))
    .order_by(operator_acts.c.id)
)
_PAGE = Statement(
    select(*_COLUMNS)
    .where(
        operator_acts.c.at_ms >= bindparam("since_ms"),
        # Both by the database, as SQLite's `lower` leaves all but ASCII as it is.
        func.lower(_WORDS).like(func.lower(bindparam("pattern", type_=Text)), escape="\\"),
    )
    .order_by(operator_acts.c.id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_ABOUT = Statement(
    select(*_COLUMNS)
    .where(
        operator_acts.c.at_ms >= bindparam("since_ms"), *given(operator_acts, subject="of_subject")
    )
    .order_by(operator_acts.c.id)
    .limit(bindparam("limit"))
)
_ADD = insert_of(operator_acts, Act)


async def add(tx: Transaction, act: Act) -> None:
    """Records a command."""
    await tx.execute(_ADD, **msgspec.structs.asdict(act))


async def since(source: Source, since_ms: int) -> list[Act]:
    """Returns the commands from a time on, the oldest first."""
    return await source.records(Act, _SINCE, since_ms=since_ms)


async def page(
    source: Source, *, limit: int, offset: int = 0, since_ms: int = 0, text: str = ""
) -> list[Act]:
    """Returns commands that have a text in their line, the newest first."""
    return await source.records(
        Act, _PAGE, since_ms=since_ms, pattern=pattern_of(text), limit=limit, offset=offset
    )


async def about(source: Source, subject: str, *, since_ms: int, limit: int) -> list[Act]:
    """Returns the commands on a subject from a time on, the oldest first."""
    return await source.records(Act, _ABOUT, of_subject=subject, since_ms=since_ms, limit=limit)

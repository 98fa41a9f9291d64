"""Queries over what operators did by commands."""

import msgspec
from sqlalchemy import bindparam, insert, select

from moorage.storage.database import Source, Statement, Transaction, struct_of
from moorage.storage.schema import operator_acts


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """A command with which an operator changed something."""

    at_ms: int
    who: str  # the user of the machine, and whom sudo acted for
    act: str  # the command
    subject: str  # whom or what it was done to
    reason: str = ""


_COLUMNS = [operator_acts.c[name] for name in Act.__struct_fields__]
_SINCE = Statement(
    select(*_COLUMNS)
    .where(operator_acts.c.at_ms >= bindparam("since_ms"))
    .order_by(operator_acts.c.id)
)
_ADD = Statement(
    insert(operator_acts).values({name: bindparam(name) for name in Act.__struct_fields__})
)


async def add(tx: Transaction, act: Act) -> None:
    """Records an act."""
    await tx.execute(_ADD, **msgspec.structs.asdict(act))


async def since(source: Source, since_ms: int) -> list[Act]:
    """Returns the acts from a time on, the oldest first."""
    return [struct_of(Act, row) for row in await source.all(_SINCE, since_ms=since_ms)]

"""Queries over the last time that the books were audited, and saved."""

from enum import StrEnum

import msgspec
from sqlalchemy import bindparam, select

from moorage.storage.database import Source, Statement, Transaction, Upsert, struct_of
from moorage.storage.schema import upkeep


class Upkeep(StrEnum):
    """What is done to a gateway every now and then."""

    AUDIT = "audit"
    BACKUP = "backup"


class UpkeepDone(msgspec.Struct, frozen=True, kw_only=True):
    """The last time that it was done, and what it found."""

    kind: Upkeep
    at_ms: int
    wrong: int = 0  # rows that are not as they must be
    pending: int = 0  # what the gateway mends by itself
    unknown: int = 0  # chains that could not be asked


_COLUMNS = [upkeep.c[name] for name in UpkeepDone.__struct_fields__]
_ALL = Statement(select(*_COLUMNS))
_DONE = Statement(
    Upsert(
        table=upkeep,
        values={name: bindparam(name) for name in UpkeepDone.__struct_fields__},
        replaced=[name for name in UpkeepDone.__struct_fields__ if name != "kind"],
    )
)


async def last(source: Source) -> dict[Upkeep, UpkeepDone]:
    """Returns when each was done last, if it ever was."""
    rows = [struct_of(UpkeepDone, row) for row in await source.all(_ALL)]
    return {each.kind: each for each in rows}


async def note(tx: Transaction, done: UpkeepDone) -> None:
    """Records that it was done, in place of the time before."""
    await tx.execute(_DONE, **msgspec.structs.asdict(done))

"""Queries over how far billed time has come."""

import msgspec
from sqlalchemy import bindparam, select

from moorage.storage.database import Database, Statement, Transaction, Upsert
from moorage.storage.schema import meter


class Reading(msgspec.Struct, frozen=True):
    """Billed time at one moment of one run of the machine."""

    billed_ms: int
    monotonic_ms: int
    boot_id: str


_LAST = Statement(select(*(meter.c[name] for name in Reading.__struct_fields__)))
_NOTE = Statement(
    Upsert(
        table=meter,
        values={"id": 1, **{name: bindparam(name) for name in Reading.__struct_fields__}},
        replaced=Reading.__struct_fields__,
    )
)


async def last(db: Database) -> Reading | None:
    """The last reading that was noted."""
    row = await db.one(_LAST)
    return Reading(*row) if row else None


async def note(tx: Transaction, reading: Reading) -> None:
    """Keep this reading in place of the last."""
    await tx.execute(
        _NOTE,
        billed_ms=reading.billed_ms,
        monotonic_ms=reading.monotonic_ms,
        boot_id=reading.boot_id,
    )

"""Queries over each gateway's last reading of billed time."""

import msgspec
from sqlalchemy import bindparam, case, select

from moorage.storage.database import Source, Statement, Transaction, Upsert
from moorage.storage.schema import meters


class Reading(msgspec.Struct, frozen=True):
    """Billed time, and the monotonic time and boot of the machine when it was read."""

    billed_ms: int
    monotonic_ms: int
    boot_id: str


_FIELDS = Reading.__struct_fields__
_LAST = Statement(
    select(*(meters.c[name] for name in _FIELDS))
    .order_by(
        case((meters.c.gateway == bindparam("gateway"), 0), else_=1), meters.c.billed_ms.desc()
    )
    .limit(1)
)
_NOTE = Statement(
    Upsert(
        table=meters,
        values={name: bindparam(name) for name in ("gateway", *_FIELDS)},
        replaced=_FIELDS,
    )
)


async def last(source: Source, gateway: str) -> Reading | None:
    """Returns a gateway's last reading, or, if it has none, the furthest of any gateway."""
    row = await source.one(_LAST, gateway=gateway)
    return Reading(*row) if row else None


async def note(tx: Transaction, gateway: str, reading: Reading) -> None:
    """Replaces a gateway's last reading."""
    await tx.execute(_NOTE, gateway=gateway, **msgspec.structs.asdict(reading))

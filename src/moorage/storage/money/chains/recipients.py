"""Queries over the addresses that were ever `pay_to`."""

import msgspec
from sqlalchemy import bindparam, null, select, update

from moorage.storage.database import Source, Statement, Transaction, Upsert
from moorage.storage.schema import recipients


class Recipient(msgspec.Struct, frozen=True):
    """An address that is `pay_to`, or was."""

    address: str
    since_ms: int
    retired_at_ms: int | None


_ALL = Statement(
    select(recipients.c.address, recipients.c.since_ms, recipients.c.retired_at_ms).order_by(
        recipients.c.since_ms, recipients.c.address
    )
)
_ADD = Statement(
    Upsert(
        table=recipients,
        values={"address": bindparam("address"), "since_ms": bindparam("since_ms")},
        changed={"retired_at_ms": null()},
    )
)
_RETIRE = Statement(
    update(recipients)
    .where(recipients.c.address == bindparam("of"), recipients.c.retired_at_ms.is_(None))
    .values(retired_at_ms=bindparam("at_ms"))
)


async def everyone(source: Source) -> list[Recipient]:
    """Returns every address that was ever `pay_to`, the oldest first."""
    return [Recipient(*row) for row in await source.all(_ALL)]


async def watched(source: Source) -> frozenset[str]:
    """Returns those that are not retired: payments to them are credited."""
    return frozenset(each.address for each in await everyone(source) if each.retired_at_ms is None)


async def add(tx: Transaction, address: str, *, since_ms: int) -> None:
    """Adds an address, unless it is known; one that was retired is watched again."""
    await tx.execute(_ADD, address=address, since_ms=since_ms)


async def retire(tx: Transaction, address: str, *, at_ms: int) -> bool:
    """Marks an address as given up; returns False when it is not known, or was given up before."""
    return await tx.execute(_RETIRE, of=address, at_ms=at_ms) == 1

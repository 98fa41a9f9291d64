"""Queries over the addresses that were ever `pay_to`."""

from sqlalchemy import bindparam, select

from moorage.storage.database import Source, Statement, Transaction, Upsert
from moorage.storage.schema import recipients

_KNOWN = Statement(select(recipients.c.address))
_ADD = Statement(
    Upsert(
        table=recipients,
        values={"address": bindparam("address"), "since_ms": bindparam("since_ms")},
    )
)


async def known(source: Source) -> frozenset[str]:
    """Returns every address that was ever `pay_to`."""
    return frozenset(address for (address,) in await source.all(_KNOWN))


async def add(tx: Transaction, address: str, *, since_ms: int) -> None:
    """Adds an address, unless it is known."""
    await tx.execute(_ADD, address=address, since_ms=since_ms)

"""Queries over the addresses that payments were ever asked to go to."""

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
    """Every address that was ever `pay_to`."""
    return frozenset(address for (address,) in await source.all(_KNOWN))


async def add(tx: Transaction, address: str, *, since_ms: int) -> None:
    """Note that payments are asked to go there, unless that is known."""
    await tx.execute(_ADD, address=address, since_ms=since_ms)

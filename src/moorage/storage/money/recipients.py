"""Queries over the addresses that payments were ever asked to go to."""

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert

from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.schema import recipients

_KNOWN = Statement(select(recipients.c.address))
_ADD = Statement(
    insert(recipients)
    .values(address=bindparam("address"), since_ms=bindparam("since_ms"))
    .on_conflict_do_nothing()
)


async def known(source: Database | Transaction) -> frozenset[str]:
    """Every address that was ever `pay_to`."""
    return frozenset(address for (address,) in await source.all(_KNOWN))


async def add(tx: Transaction, address: str, *, since_ms: int) -> None:
    """Note that payments are asked to go there, unless that is known."""
    await tx.execute(_ADD, address=address, since_ms=since_ms)

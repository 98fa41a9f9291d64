"""Queries over the hosts that may have certificates."""

from sqlalchemy import bindparam, delete, func, insert, select, update

from moorage.storage.database import Source, Statement, Transaction
from moorage.storage.schema import certificates

_ASKED = Statement(
    select(certificates.c.asked_at_ms).where(certificates.c.host == bindparam("host"))
)
_TOUCH = Statement(
    update(certificates)
    .where(certificates.c.host == bindparam("of_host"))
    .values(asked_at_ms=bindparam("now_ms"))
)
_COUNT = Statement(
    select(func.count())
    .select_from(certificates)
    .where(
        certificates.c.wallet == bindparam("wallet"),
        certificates.c.first_at_ms > bindparam("since_ms"),
    )
)
_ADD = Statement(
    insert(certificates).values(
        host=bindparam("host"),
        wallet=bindparam("wallet"),
        first_at_ms=bindparam("first_at_ms"),
        asked_at_ms=bindparam("asked_at_ms"),
    )
)
_FORGET = Statement(delete(certificates).where(certificates.c.asked_at_ms < bindparam("until_ms")))


async def asked_at_ms(source: Source, host: str) -> int | None:
    """Returns when the proxy last asked about a host that may have a certificate, else None."""
    row = await source.one(_ASKED, host=host)
    return None if row is None else int(row[0])


async def touch(tx: Transaction, host: str, *, now_ms: int) -> bool:
    """Records that the proxy asked again; returns whether the host may have a certificate."""
    return bool(await tx.execute(_TOUCH, of_host=host, now_ms=now_ms))


async def count_since(tx: Transaction, wallet: str, *, since_ms: int) -> int:
    """Returns how many hosts of a wallet were first allowed a certificate after `since_ms`."""
    row = await tx.one(_COUNT, wallet=wallet, since_ms=since_ms)
    return 0 if row is None else int(row[0])


async def add(tx: Transaction, host: str, *, wallet: str, now_ms: int) -> None:
    """Allows a new host to have a certificate."""
    await tx.execute(_ADD, host=host, wallet=wallet, first_at_ms=now_ms, asked_at_ms=now_ms)


async def forget(tx: Transaction, *, until_ms: int) -> None:
    """Removes the hosts that were last asked about before `until_ms`."""
    await tx.execute(_FORGET, until_ms=until_ms)

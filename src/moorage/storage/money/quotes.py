"""Queries over quotes."""

from sqlalchemy import BindParameter, bindparam, delete, insert, select, update

from moorage.money import MicroUsd
from moorage.records.payments import Quote
from moorage.storage.database import Source, Statement, Transaction
from moorage.storage.schema import quotes

_COLUMNS = [quotes.c[name] for name in Quote.__struct_fields__]
_now: BindParameter[int] = bindparam("now_ms")

_LIVE_FOR_WALLET = Statement(
    select(*_COLUMNS)
    .where(
        quotes.c.wallet == bindparam("wallet"),
        quotes.c.unique_name == bindparam("unique_name"),
        quotes.c.expires_at_ms > _now,
    )
    .order_by(quotes.c.expires_at_ms.desc())
)
_INSERT = Statement(insert(quotes).values({c.name: bindparam(c.name) for c in quotes.c}))
_RECEIVE = Statement(
    update(quotes)
    .where(
        quotes.c.wallet == bindparam("of_wallet"),
        quotes.c.unique_name == bindparam("of_name"),
        quotes.c.expires_at_ms > _now,
    )
    .values(received_micro_usd=quotes.c.received_micro_usd + bindparam("amount"))
)
_RELEASE = Statement(
    delete(quotes).where(
        quotes.c.wallet == bindparam("wallet"), quotes.c.unique_name == bindparam("unique_name")
    )
)
_PURGE = Statement(delete(quotes).where(quotes.c.expires_at_ms <= bindparam("before_ms")))


async def live(source: Source, *, wallet: str, unique_name: str, now_ms: int) -> list[Quote]:
    """Returns the wallet's unexpired quotes for this name, the last to expire first."""
    rows = await source.all(_LIVE_FOR_WALLET, wallet=wallet, unique_name=unique_name, now_ms=now_ms)
    return [Quote(*row) for row in rows]


async def add(tx: Transaction, quote: Quote) -> None:
    """Stores a new quote."""
    await tx.execute(_INSERT, **{name: getattr(quote, name) for name in Quote.__struct_fields__})


async def receive(
    tx: Transaction, *, wallet: str, unique_name: str, amount: MicroUsd, now_ms: int
) -> None:
    """Adds `amount` to what the wallet's quotes for this name have received."""
    await tx.execute(_RECEIVE, of_wallet=wallet, of_name=unique_name, amount=amount, now_ms=now_ms)


async def release(tx: Transaction, *, wallet: str, unique_name: str) -> None:
    """Deletes the wallet's quotes for this name, which its project now has."""
    await tx.execute(_RELEASE, wallet=wallet, unique_name=unique_name)


async def purge(tx: Transaction, *, before_ms: int) -> int:
    """Deletes quotes that expired by `before_ms`; returns how many."""
    return await tx.execute(_PURGE, before_ms=before_ms)

"""Queries over the block up to which a chain is searched, or its balances are accounted for."""

import msgspec
from sqlalchemy import select

from moorage.records.payments import Cursor, Search
from moorage.storage.database import Source, Statement, Transaction, given, upsert_of
from moorage.storage.schema import chain_marks


class BalanceMark(msgspec.Struct, frozen=True, kw_only=True):
    """What our addresses held together of a token after a block."""

    chain_id: int
    token_address: str
    addresses: str  # in order, with spaces between
    block_number: int
    amount: int  # in the token's atomic units


_ONE = Statement(
    select(chain_marks.c.block_number, chain_marks.c.value).where(
        *given(chain_marks, "chain_id", "subject")
    )
)
_SEARCHES = Statement(
    select(*chain_marks.c).where(chain_marks.c.subject.in_([f"search:{each}" for each in Search]))
)
_PUT = upsert_of(chain_marks)


async def cursor(source: Source, *, chain_id: int, search: Search, node: str = "") -> Cursor | None:
    """Returns how far this search of the chain has come; None before its first block.

    With `node`: how far the safe search has come there.
    """
    row = await source.one(_ONE, chain_id=chain_id, subject=_searched(search, node))
    return Cursor(chain_id, search, *row) if row else None


async def searches(source: Source) -> list[Cursor]:
    """Returns how far each search of each chain has come, whatever single nodes have searched."""
    return [
        Cursor(chain_id, Search(subject.partition(":")[2]), block_number, block_hash)
        for chain_id, subject, block_number, block_hash in await source.all(_SEARCHES)
    ]


async def move(tx: Transaction, cursor: Cursor, *, node: str = "") -> None:
    """Records how far a search has come, in all or at a node."""
    await tx.execute(
        _PUT,
        chain_id=cursor.chain_id,
        subject=_searched(cursor.search, node),
        block_number=cursor.block_number,
        value=cursor.block_hash,
    )


async def balance(source: Source, *, chain_id: int, token_address: str) -> BalanceMark | None:
    """Returns the last mark of a token; None before the first."""
    row = await source.one(_ONE, chain_id=chain_id, subject=f"balance:{token_address}")
    if row is None:
        return None
    amount, _, addresses = row[1].partition(" ")
    return BalanceMark(
        chain_id=chain_id,
        token_address=token_address,
        addresses=addresses,
        block_number=row[0],
        amount=int(amount),
    )


async def put_balance(tx: Transaction, mark: BalanceMark) -> None:
    """Replaces the token's mark."""
    await tx.execute(
        _PUT,
        chain_id=mark.chain_id,
        subject=f"balance:{mark.token_address}",
        block_number=mark.block_number,
        value=f"{mark.amount} {mark.addresses}",
    )


def _searched(search: Search, node: str) -> str:
    return f"node:{node}" if node else f"search:{search}"

"""Queries over how far the chains have been searched."""

import msgspec
from sqlalchemy import bindparam, delete, insert, select

from moorage.records.money.cursor import Cursor, Search
from moorage.storage.database import Source, Statement, Transaction, struct_of
from moorage.storage.schema import watch_cursors

_COLUMNS = [watch_cursors.c[name] for name in Cursor.__struct_fields__]
_this = (
    watch_cursors.c.chain_id == bindparam("chain_id"),
    watch_cursors.c.search == bindparam("search"),
)
_ONE = Statement(select(*_COLUMNS).where(*_this))
_FORGET = Statement(delete(watch_cursors).where(*_this))
_ADD = Statement(
    insert(watch_cursors).values({name: bindparam(name) for name in Cursor.__struct_fields__})
)


async def one(source: Source, *, chain_id: int, search: Search) -> Cursor | None:
    """Returns how far this search of the chain has come; None before its first block."""
    row = await source.one(_ONE, chain_id=chain_id, search=search)
    return struct_of(Cursor, row) if row else None


async def move(tx: Transaction, cursor: Cursor) -> None:
    """Records how far a search has come."""
    await tx.execute(_FORGET, chain_id=cursor.chain_id, search=cursor.search)
    await tx.execute(_ADD, **msgspec.structs.asdict(cursor))

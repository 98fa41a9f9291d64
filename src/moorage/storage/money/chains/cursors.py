"""Queries over how far the chains have been searched."""

import msgspec
from sqlalchemy import bindparam, delete, insert, select

from moorage.records.payments import Cursor, Search
from moorage.storage.database import Source, Statement, Transaction, struct_of
from moorage.storage.schema import node_cursors, watch_cursors

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
_this_node = (
    node_cursors.c.chain_id == bindparam("chain_id"),
    node_cursors.c.node == bindparam("node"),
)
_OF_NODE = Statement(
    select(node_cursors.c.block_number, node_cursors.c.block_hash).where(*_this_node)
)
_FORGET_NODE = Statement(delete(node_cursors).where(*_this_node))
_ADD_NODE = Statement(
    insert(node_cursors).values({column.name: bindparam(column.name) for column in node_cursors.c})
)


async def one(source: Source, *, chain_id: int, search: Search) -> Cursor | None:
    """Returns how far this search of the chain has come; None before its first block."""
    row = await source.one(_ONE, chain_id=chain_id, search=search)
    return struct_of(Cursor, row) if row else None


async def move(tx: Transaction, cursor: Cursor) -> None:
    """Records how far a search has come."""
    await tx.execute(_FORGET, chain_id=cursor.chain_id, search=cursor.search)
    await tx.execute(_ADD, **msgspec.structs.asdict(cursor))


async def of_node(source: Source, *, chain_id: int, node: str) -> Cursor | None:
    """Returns how far the safe search at this node has come; None before its first block."""
    row = await source.one(_OF_NODE, chain_id=chain_id, node=node)
    return Cursor(chain_id, Search.SAFE, *row) if row else None


async def move_node(tx: Transaction, cursor: Cursor, *, node: str) -> None:
    """Records how far the safe search at this node has come."""
    await tx.execute(_FORGET_NODE, chain_id=cursor.chain_id, node=node)
    await tx.execute(
        _ADD_NODE,
        chain_id=cursor.chain_id,
        node=node,
        block_number=cursor.block_number,
        block_hash=cursor.block_hash,
    )

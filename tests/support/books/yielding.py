"""A database at which other tasks get their turn in every statement, as over a network.

SQLite answers at once, so that what relies on a read not giving way works by chance.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from moorage.storage.database import Database, Row, Statement, Transaction, Value
from support.books.faulty_database import FaultyDatabase


class YieldingDatabase(FaultyDatabase):
    """What was read may be old by the time that its reader goes on.

    `committing` is set when a durable transaction's commit begins: see `committing_of`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.committing = asyncio.Event()

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        """As `SqliteDatabase.one`."""
        row = await super().one(statement, **given)
        await asyncio.sleep(0)
        return row

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        """As `SqliteDatabase.all`."""
        rows = await super().all(statement, **given)
        await asyncio.sleep(0)
        return rows

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """As `SqliteDatabase.snapshot`."""
        async with super().snapshot() as snapshot:
            yield _Yielding(snapshot)

    @asynccontextmanager
    async def transaction(
        self, *, durable: bool, of: Collection[str] = ()
    ) -> AsyncIterator[Transaction]:
        """As `SqliteDatabase.transaction`."""
        async with super().transaction(durable=durable, of=of) as tx:
            yield _Yielding(tx)
            if durable:
                self.committing.set()


def committing_of(db: Database) -> asyncio.Event:
    """Set when the commit begins of the next durable transaction that reaches its end."""
    assert isinstance(db, YieldingDatabase)
    db.committing = asyncio.Event()
    return db.committing


class _Yielding(Transaction):
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        row = await self._tx.one(statement, **given)
        await asyncio.sleep(0)
        return row

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        rows = await self._tx.all(statement, **given)
        await asyncio.sleep(0)
        return rows

    async def execute(self, statement: Statement, **given: Value) -> int:
        touched = await self._tx.execute(statement, **given)
        await asyncio.sleep(0)
        return touched

    async def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> None:
        await self._tx.execute_many(statement, rows)

"""A database that lets others write between a transaction's reads and its writes.

SQLite never does, as one writes at a time; PostgreSQL does, where several gateways share it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from moorage.storage.database import Row, Statement, Transaction, Value
from support.books.faulty_database import FaultyDatabase

Overtaking = Callable[[], Awaitable[object]]


class OvertakenDatabase(FaultyDatabase):
    """Another connection to the file at `path`. What `overtaking` does goes before its next write.

    Meanwhile each statement of its transactions sees what was committed before it, and each write
    is committed at once.
    """

    def __init__(self, path: Path, overtaking: Overtaking | None = None) -> None:
        super().__init__(path)
        self.overtaking = overtaking

    @asynccontextmanager
    async def transaction(
        self, *, durable: bool, of: Collection[str] = ()
    ) -> AsyncIterator[Transaction]:
        """A transaction that is overtaken, if it is to be."""
        if self.overtaking is None:
            async with super().transaction(durable=durable, of=of) as tx:
                yield tx
        else:
            yield _Overtaken(self)

    async def write(self, statement: Statement, given: dict[str, Value]) -> int:
        """Let what overtakes happen, then run one write."""
        overtaking, self.overtaking = self.overtaking, None
        if overtaking is not None:
            await overtaking()
        async with super().transaction(durable=False) as tx:
            return await tx.execute(statement, **given)


class _Overtaken(Transaction):
    def __init__(self, db: OvertakenDatabase) -> None:
        self._db = db

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        return await self._db.one(statement, **given)

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        return await self._db.all(statement, **given)

    async def execute(self, statement: Statement, **given: Value) -> int:
        return await self._db.write(statement, given)

    async def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> None:
        for row in rows:
            await self._db.write(statement, dict(row))

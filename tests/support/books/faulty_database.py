"""A database in which a test provokes what a disk or a file system does."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from moorage.errors import CommitUnknown, DatabaseUnavailable
from moorage.storage.database import Transaction
from moorage.storage.sqlite import SqliteDatabase
from moorage.threads import to_its_end


class _NotYet(Exception):
    """Ends a transaction whose commit is to show later."""


class FaultyDatabase(SqliteDatabase):
    """The file at `path`, faultless until it is told otherwise."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.forgets_answers = False
        self.commits_late = False
        self._late: list[str] = []  # statements of a transaction whose commit is under way
        self.refused_reads = 0
        self._refuses_reads = False
        self._answers = asyncio.Event()
        self._answers.set()

    def answer_no_writes(self) -> None:
        """Has every write wait, even if it is cancelled, as for a server out of reach."""
        self._answers.clear()

    def answer_writes(self) -> None:
        self._answers.set()

    def refuse_writes(self) -> None:
        """Has every write fail, as on a full disk."""
        self._writer.execute("PRAGMA query_only = ON")

    def allow_writes(self) -> None:
        self._writer.execute("PRAGMA query_only = OFF")

    def refuse_reads(self, *, after_steps: int = 1) -> None:
        """Has every read outside of transactions fail, once SQLite has gone so many steps."""

        def refuse() -> int:
            self.refused_reads += 1
            return 1

        self._reader.set_progress_handler(refuse, after_steps)
        self._refuses_reads = True

    def allow_reads(self) -> None:
        self._reader.set_progress_handler(None, 0)
        self._refuses_reads = False

    def judge_checkpoints(self, judge: Callable[..., int]) -> None:
        """Asks `judge` about whatever a checkpoint does: see `sqlite3.set_authorizer`."""
        self._checkpointer.set_authorizer(judge)

    def keep_parts(self) -> None:
        """Has every attempt fail to take back a part of a transaction."""

        def judge(action: int, operation: str | None, *_: str | None) -> int:
            is_part = action == sqlite3.SQLITE_SAVEPOINT and operation == "ROLLBACK"
            return sqlite3.SQLITE_DENY if is_part else sqlite3.SQLITE_OK

        self._writer.set_authorizer(judge)

    def delay_commits(self, until: Callable[[], object]) -> None:
        """Has durable commits wait until `until` returns, which is called in another thread."""
        self._thread.submit(until)

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """Lists the statements that it carries out meanwhile, each BEGIN and COMMIT among them."""
        run: list[str] = []
        for connection in (self._reader, self._writer):
            connection.set_trace_callback(run.append)
        yield run
        for connection in (self._reader, self._writer):
            connection.set_trace_callback(None)

    @property
    def is_writing(self) -> bool:
        """Whether a transaction is under way."""
        return self._writer.in_transaction

    def sql(self, text: str, values: tuple[Any, ...] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """Runs a statement beside all that the gateway does; commits it."""
        return self._writer.execute(text, values)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """A read as well."""
        if self._refuses_reads:
            self.refused_reads += 1
            raise DatabaseUnavailable
        async with super().snapshot() as snapshot:
            yield snapshot

    @asynccontextmanager
    async def transaction(
        self, *, durable: bool, of: Collection[str] = ()
    ) -> AsyncIterator[Transaction]:
        """With `forgets_answers`, what was committed is not told: a network's answer is lost.

        With `commits_late`, the next one's commit is not told and still under way: it shows when
        another transaction has waited for it.
        """
        if not self._answers.is_set():
            await to_its_end(self._answers.wait())
        late, self._late = self._late, []
        for statement in late:
            self._writer.execute(statement)
        if self.commits_late:
            async with self._late_transaction(durable=durable, of=of) as tx:
                yield tx
        async with super().transaction(durable=durable, of=of) as tx:
            yield tx
        if self.forgets_answers:
            raise CommitUnknown

    @asynccontextmanager
    async def _late_transaction(
        self, *, durable: bool, of: Collection[str]
    ) -> AsyncIterator[Transaction]:
        """Rolls back, and keeps what it changed for the next one to do first."""
        self.commits_late = False
        run: list[str] = []
        self._writer.set_trace_callback(run.append)
        try:
            async with super().transaction(durable=durable, of=of) as tx:
                yield tx
                raise _NotYet
        except _NotYet:
            self._late = [each for each in run if each.startswith(("INSERT", "UPDATE"))]
            raise CommitUnknown from None
        finally:
            self._writer.set_trace_callback(None)

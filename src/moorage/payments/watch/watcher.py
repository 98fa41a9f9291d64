"""The watcher: finds payments that no request named, and credits their payers.

A client may pay and stop before it says so, or send the wrong headers. Logs only show where to
look: what is credited is read from receipts, as for a payment that a request names.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

import structlog

from moorage.chains.heads import Heads, read_block, read_heads
from moorage.chains.pace import Pace
from moorage.chains.receipt import FoundLog, Receipt, parse_receipt
from moorage.chains.rpc import QUICK_ANSWER_BYTES, AnswerTooLarge, RpcClient, RpcError
from moorage.clock import Clock
from moorage.errors import ChainUnavailable, PaymentPending
from moorage.ledger import ledger
from moorage.ledger.transfer import Transfer, transfers_in, uncreditable_in, worth_of
from moorage.metrics import record_found, record_uncreditable, record_unread, record_unsearched
from moorage.money import MicroUsd
from moorage.payments.taking.screening import Screen, allow, held_back
from moorage.payments.watch.search import Reorganised, TransferSearch
from moorage.payments.watch.set_aside import AT_ONCE, SetAside, TimedScreening, WaitingTransaction
from moorage.records.money.cursor import Cursor, Search
from moorage.records.money.payment import Payment, PaymentStatus
from moorage.storage.database import Database
from moorage.storage.money import payments
from moorage.storage.money.chains import cursors

log = structlog.get_logger()

_MAX_RECEIPTS = 100
_BOOKED_AT_ONCE = 16  # transfers between two chances for other tasks to run
_TRANSFERS_A_COMMIT = 256
_STALLED_SECONDS = 120.0
_TURN_SECONDS = 0.005


@dataclass(frozen=True, kw_only=True)
class _Arrival:
    """The transfers of one transaction, and for payers whose money is held back, why."""

    transfers: tuple[Transfer, ...]
    held: dict[str, str]


class _Turns:
    """Yields to the event loop after every 5 ms of work, so that nothing else has to wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic_seconds()

    async def give(self) -> None:
        """Yields if the work since the last time took longer than that."""
        if self._clock.monotonic_seconds() - self._since > _TURN_SECONDS:
            await asyncio.sleep(0)
            self._since = self._clock.monotonic_seconds()


class Watcher:
    """Searches one chain for transfers of its tokens to us.

    `recipients` are `pay_to` and its former values, as `parse_address` spells them.

    Every block is searched twice: when it is `confirmations` deep, and when it is safe. A
    transaction worth more than `safe_above`, or without a screening verdict, waits for the second
    search. That also finds what a reorganisation moved, or what a node left out at first. What has
    no verdict even then is set aside for `ask_again`; the stored cursor stays before it.
    """

    def __init__(
        self,
        *,
        db: Database,
        client: RpcClient,
        recipients: Collection[str],
        safe_above: MicroUsd,
        clock: Clock,
        screen: Screen = allow,
    ) -> None:
        self._db = db
        self._client = client
        self._chain = client.chain
        self._recipients = frozenset(recipients)
        self._safe_above = safe_above
        self._clock = clock
        self._screen = screen
        self._turns = _Turns(clock)
        self._asking = TimedScreening(screen, clock)  # of the `look` under way
        self._aside = SetAside(clock)
        self._reached: Cursor | None = None  # of the safe search, if beyond the stored cursor
        self._progressed_at = clock.monotonic_seconds()
        self._receipts = Pace(first=_MAX_RECEIPTS, max_=_MAX_RECEIPTS)
        self._transfers = TransferSearch(client, self._recipients)

    @property
    def duty(self) -> str:
        """The name of the search's lease: only one gateway searches."""
        return f"search of {self._chain.name}"

    async def look(self) -> int:
        """Searches the blocks since the last look; returns how many transactions were credited.

        Raises ChainUnavailable, DatabaseUnavailable; the next look continues where this one ended.
        """
        self._asking = TimedScreening(self._screen, self._clock)
        heads = await read_heads(self._client)
        confirmed = max(0, heads.latest - self._chain.confirmations + 1)
        found = 0
        problems: list[ChainUnavailable] = []
        for search, last in ((Search.CONFIRMED, confirmed), (Search.SAFE, heads.safe)):
            cursor = await self._cursor(search, begin=confirmed)
            try:
                found += await self._search(cursor, last=last, heads=heads)
            except ChainUnavailable as problem:  # the other search still runs
                problems.append(problem)
        if problems:
            raise problems[0]
        self._progressed_at = self._clock.monotonic_seconds()
        return found

    async def ask_again(self) -> None:
        """Credits transactions that were set aside and are due, if screening now has a verdict.

        Raises ChainUnavailable, DatabaseUnavailable.
        """
        slots = asyncio.Semaphore(AT_ONCE)
        due = self._aside.take_due()
        ends = await asyncio.gather(
            *(self._credit_aside(tx_hash, one, slots) for tx_hash, one in due),
            return_exceptions=True,
        )
        if self._reached is not None and not self._aside:
            await self._book([], self._reached)
            self._reached = None
        for problem in ends:
            if problem is not None:
                raise problem

    async def _credit_aside(
        self, tx_hash: str, one: WaitingTransaction, slots: asyncio.Semaphore
    ) -> None:
        """Credits one if screening now has a verdict, unless a request has named it meanwhile."""
        if not await self._is_credited(one.logs):
            asking = TimedScreening(self._screen, self._clock, known=one.verdicts, slots=slots)
            async for receipt in self._read([tx_hash]):
                transfers = self._judged(receipt, one.logs)
                try:
                    held = await self._held(transfers, asking)
                except PaymentPending:
                    return
                await self._book([_Arrival(transfers=transfers, held=held)])
                record_found(self._chain.name, 1)
        self._aside.done(tx_hash)

    @property
    def chain_name(self) -> str:
        """The chain that it searches."""
        return self._chain.name

    @property
    def idle_seconds(self) -> float:
        """How long ago the search last made progress, as when no node answers."""
        return self._clock.monotonic_seconds() - self._progressed_at

    async def check(self) -> None:
        """Raises ChainUnavailable when the search has made no progress for two minutes."""
        if self.idle_seconds > _STALLED_SECONDS:
            raise ChainUnavailable(
                f"Payments on {self._chain.name} have not been searched for "
                f"{self.idle_seconds:.0f} s."
            )

    async def _search(self, cursor: Cursor, *, last: int, heads: Heads) -> int:
        """Searches up to block `last`; returns how many transactions were credited."""
        found = 0
        try:
            while cursor.block_number < last and not self._aside.is_full:
                logs, reached = await self._transfers.next(cursor, last=last)
                found += await self._credit(logs, reached)
                cursor = reached
        except Reorganised:
            await self._step_back(cursor, heads)
        finally:
            if cursor.search is Search.CONFIRMED:
                record_unsearched(self._chain.name, max(0, last - cursor.block_number))
        return found

    async def _cursor(self, search: Search, *, begin: int) -> Cursor:
        """Returns where the search is; a first search starts after `begin`, or where configured."""
        if search is Search.SAFE and self._reached is not None:
            return self._reached
        cursor = await cursors.one(self._db, chain_id=self._chain.chain_id, search=search)
        if cursor is None:
            configured = self._chain.watch_from_block
            cursor = await self._cursor_at(search, begin if configured is None else configured - 1)
        return cursor

    async def _step_back(self, cursor: Cursor, heads: Heads) -> None:
        """Moves the search back to a block that was surely final when it was searched.

        The newest finalized block may not be: it may have replaced a block that was searched.
        Nothing is credited twice.
        """
        deep = max(0, cursor.block_number - self._chain.finality_blocks)
        number = min(heads.finalized, deep)
        if cursor.search is Search.SAFE:  # the search will find again what was set aside
            self._reached = None
            self._aside.clear()
        log.warning("chain reorganised", chain=self._chain.name, searched_again_from=number)
        await self._cursor_at(cursor.search, number)

    async def _cursor_at(self, search: Search, number: int) -> Cursor:
        block = await read_block(self._client, number)
        cursor = Cursor(self._chain.chain_id, search, block.number, block.hash)
        async with self._db.transaction(durable=True) as tx:
            await cursors.move(tx, cursor)
        return cursor

    async def _credit(self, logs: Sequence[FoundLog], cursor: Cursor) -> int:
        """Credits the transactions of these logs in bounded parts; the last moves the cursor."""
        arrivals: list[_Arrival] = []
        found = size = 0
        async for arrival in self._arrivals(logs, cursor.search):
            arrivals.append(arrival)
            found += 1
            size += len(arrival.transfers)
            if size >= _TRANSFERS_A_COMMIT:
                await self._book(arrivals)
                arrivals, size = [], 0
        if cursor.search is Search.SAFE and self._aside:
            await self._book(arrivals)
            self._reached = cursor
        else:
            await self._book(arrivals, cursor)
            self._reached = None if cursor.search is Search.SAFE else self._reached
        if found:
            record_found(self._chain.name, found)
            log.info("payments found", chain=self._chain.name, transactions=found)
        return found

    async def _book(self, arrivals: Sequence[_Arrival], cursor: Cursor | None = None) -> None:
        """Credits these transactions, and moves the cursor, in one database transaction.

        A cursor alone need not reach the disk: at worst the same blocks are searched again.
        """
        async with self._db.transaction(durable=bool(arrivals)) as tx:
            for arrival in arrivals:
                for at in range(0, len(arrival.transfers), _BOOKED_AT_ONCE):
                    await ledger.credit_transfers(
                        tx,
                        arrival.transfers[at : at + _BOOKED_AT_ONCE],
                        held=arrival.held,
                        now_ms=self._clock.now_ms(),
                    )
                    await self._turns.give()
            if cursor is not None:
                await cursors.move(tx, cursor)
        self._progressed_at = self._clock.monotonic_seconds()

    async def _arrivals(self, logs: Sequence[FoundLog], search: Search) -> AsyncIterator[_Arrival]:
        """Yields what to credit now of the transactions that these logs belong to."""
        told: dict[str, list[FoundLog]] = {}
        for found in logs:
            told.setdefault(found.tx_hash, []).append(found)
        new = [tx_hash for tx_hash in told if not await self._is_credited(told[tx_hash])]
        async for receipt in self._read(new):
            transfers = self._judged(receipt, told[receipt.tx_hash])
            await self._report_uncreditable(receipt)
            waits = search is Search.CONFIRMED and worth_of(transfers) > self._safe_above
            if not transfers or waits:
                continue
            try:
                held = await self._held(transfers, self._asking)
            except PaymentPending:
                if search is Search.SAFE:
                    self._aside.add(told[receipt.tx_hash])
                continue
            yield _Arrival(transfers=transfers, held=held)

    async def _held(self, transfers: Sequence[Transfer], asking: TimedScreening) -> dict[str, str]:
        booked = await self._booked(transfers[0].tx_hash)
        return await held_back(transfers, asking.ask, booked=booked)

    async def _report_uncreditable(self, receipt: Receipt) -> None:
        """Logs a transfer too large for the books, if every node shows the same receipt.

        The transfer is skipped: the audit reports it as long as it is not recorded.
        """
        if not uncreditable_in(receipt, self._chain, recipients=self._recipients):
            return
        views = await self._client.each([("eth_getTransactionReceipt", [receipt.tx_hash])])
        if any(self._receipt(receipt.tx_hash, answer) != receipt for (answer,) in views):
            raise self._client.contradiction("its nodes tell of different transfers")
        record_uncreditable(self._chain.name)
        log.error("payment too large to credit", chain=self._chain.name, tx_hash=receipt.tx_hash)

    async def _is_credited(self, logs: Sequence[FoundLog]) -> bool:
        """Whether all these logs of a transaction are in the books, from the same block."""
        await self._turns.give()
        booked = {
            (payment.log_index, payment.block_hash)
            for payment in await self._booked(logs[0].tx_hash)
            if payment.status is not PaymentStatus.REVERSED
        }
        return all((found.log.log_index, found.block_hash) in booked for found in logs)

    async def _booked(self, tx_hash: str) -> list[Payment]:
        chain_id = self._chain.chain_id
        return await payments.of_transaction(self._db, chain_id=chain_id, tx_hash=tx_hash)

    async def _read(self, tx_hashes: Sequence[str]) -> AsyncIterator[Receipt]:
        """Yields the receipts, asking for as many at once as the node allows."""
        at = 0
        while at < len(tx_hashes):
            asked = tx_hashes[at : at + self._receipts.size]
            calls = [("eth_getTransactionReceipt", [tx_hash]) for tx_hash in asked]
            try:
                answers = await self._client.batch(
                    calls, max_response_bytes=QUICK_ANSWER_BYTES if len(asked) > 1 else None
                )
            except AnswerTooLarge:
                self._receipts.refused(len(asked))
                if len(asked) == 1:
                    record_unread(self._chain.name)
                    log.error("payment unreadable", chain=self._chain.name, tx_hash=asked[0])
                    at += 1
                continue
            self._receipts.answered(len(asked))
            at += len(asked)
            for tx_hash, answer in zip(asked, answers, strict=True):
                yield self._receipt(tx_hash, answer)
                await self._turns.give()

    def _receipt(self, tx_hash: str, answer: object) -> Receipt:
        if isinstance(answer, RpcError):
            raise answer
        try:
            return parse_receipt(answer, tx_hash=tx_hash)
        except ValueError as problem:
            raise self._client.contradiction(problem) from problem

    def _judged(self, receipt: Receipt, logs: Sequence[FoundLog]) -> tuple[Transfer, ...]:
        """Returns the transfers in a receipt. Raises ChainUnavailable if it lacks one of `logs`."""
        told = {(found.block_hash, found.log) for found in logs}
        if not told <= {(receipt.block_hash, one) for one in receipt.logs}:
            raise self._client.contradiction("a receipt lacks a log that was found")
        try:
            return transfers_in(receipt, self._chain, recipients=self._recipients)
        except ValueError as problem:
            raise self._client.contradiction(problem) from problem

"""The watcher: finds payments that no request named, and credits their payers.

A client may pay and stop before it says so, or send the wrong headers. Logs only show where to
look: what is credited is read from receipts, as for a payment that a request names.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from moorage import metrics
from moorage.chains.chain import Chain
from moorage.chains.heads import Heads, block_call, parse_block, read_block, read_heads
from moorage.chains.receipt import (
    FoundLog,
    Log,
    Receipt,
    parse_found_logs,
    parse_receipt,
    parse_transfer_log,
    transfer_topics,
)
from moorage.chains.rpc import QUICK_ANSWER_BYTES, AnswerTooLarge, Pace, RpcClient, RpcError
from moorage.clock import Clock
from moorage.errors import ChainUnavailable, PaymentPending
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer, transfers_in, uncreditable_in, worth_of
from moorage.money import MicroUsd
from moorage.payments.taking.screening import COMMANDS_AT_ONCE, Screen, allow, held_back
from moorage.payments.taking.verification import DEFAULT_AGREE_ABOVE, Head, Witness, witness
from moorage.records.payments import Cursor, Payment, PaymentStatus, Place, Search
from moorage.storage.database import Database, Transaction
from moorage.storage.money import marks, payments

_FIRST_BLOCKS = 2_000
_MAX_BLOCKS = 10_000


class Reorganised(Exception):
    """The last block that was searched is no longer part of the chain."""


class TransferSearch:
    """Finds transfers of a chain's tokens to `recipients`, in as many blocks as a node allows."""

    def __init__(self, client: RpcClient, recipients: Collection[str]) -> None:
        self._client = client
        self._recipients = recipients
        self._tokens = [token.key for token in client.chain.tokens]
        self._filter = {"address": self._tokens, "topics": transfer_topics(recipients)}
        self._blocks = Pace(first=_FIRST_BLOCKS, max_=_MAX_BLOCKS)

    async def next(self, cursor: Cursor, *, last: int) -> tuple[Sequence[FoundLog], Cursor]:
        """Returns the logs of the next blocks up to `last`, and a cursor at the last of them.

        Searches as many blocks as the node allows in one answer. The same batch asks for the block
        at `cursor` and the last one, so that a node that is behind is noticed. Raises Reorganised,
        ChainUnavailable.
        """
        begin = cursor.block_number + 1
        while True:
            end = min(last, cursor.block_number + self._blocks.size)
            asked = end - cursor.block_number
            span = {"fromBlock": hex(begin), "toBlock": hex(end)}
            try:
                logs, before, after = await self._client.batch(
                    [
                        ("eth_getLogs", [self._filter | span]),
                        block_call(cursor.block_number),
                        block_call(end),
                    ],
                    max_response_bytes=QUICK_ANSWER_BYTES if asked > 1 else None,
                )
            except AnswerTooLarge:
                if asked == 1:
                    raise
                self._blocks.refused(asked)
                continue
            if not isinstance(logs, RpcError):
                break
            if asked == 1:
                raise logs
            self._blocks.refused(asked)
        self._blocks.answered(asked)
        with self._client.reading():
            return self._found(logs, before, after, cursor=cursor, end=end)

    def _found(
        self, logs: object, before: object, after: object, *, cursor: Cursor, end: int
    ) -> tuple[Sequence[FoundLog], Cursor]:
        """The checked logs and the cursor. Raises Reorganised; ValueError for a bad answer."""
        first, last = parse_block(before), parse_block(after)
        if first is None or last is None:
            raise ValueError(f"it has no block {end}, or none {cursor.block_number}")
        if (first.number, last.number) != (cursor.block_number, end):
            raise ValueError("it shows other blocks than were asked for")
        if first.hash != cursor.block_hash:
            raise Reorganised
        found = parse_found_logs(logs)
        if not all(self._was_asked_for(one.log) for one in found):
            raise ValueError("it found other logs than were asked for")
        if any(not cursor.block_number < one.block_number <= end for one in found):
            raise ValueError("it found logs in other blocks")
        return found, Cursor(cursor.chain_id, cursor.search, last.number, last.hash)

    def _was_asked_for(self, found: Log) -> bool:
        transfer = parse_transfer_log(found)
        return (
            transfer is not None
            and transfer.recipient in self._recipients
            and transfer.token_address in self._tokens
        )


def by_transaction(logs: Iterable[FoundLog]) -> dict[str, list[FoundLog]]:
    """Returns the logs of each transaction, by its hash."""
    told: dict[str, list[FoundLog]] = {}
    for found in logs:
        told.setdefault(found.tx_hash, []).append(found)
    return told


def place_of(found: FoundLog, chain: Chain) -> Place:
    """Returns where a log's transaction lies."""
    return Place(chain.chain_id, found.tx_hash, found.block_number, found.block_hash)


def are_booked(logs: Iterable[FoundLog], booked: Iterable[Payment]) -> bool:
    """Whether all these logs of a transaction are in the books, from the same block."""
    standing = {
        (payment.log_index, payment.block_hash)
        for payment in booked
        if payment.status is not PaymentStatus.REVERSED
    }
    return all((found.log.log_index, found.block_hash) in standing for found in logs)


_ASKING_SECONDS = 10.0  # after that no new question is asked; those under way finish
AT_ONCE = COMMANDS_AT_ONCE // 2  # the other half is for requests that wait for their payment
_FIRST_PAUSE_MS = 5_000
_MAX_PAUSE_MS = 600_000
_MAX_WAITING = 10_000  # transactions
_MAX_DUE = 16

Verdicts = dict[tuple[str, str, int], str | None]
"""Verdicts by payer, token and amount."""


class TimedScreening:
    """Asks `screen` for ten seconds in all; after that a transfer without a verdict gets none.

    Verdicts are added to `known` and not asked for again. So a transaction with many payers can be
    screened over several rounds.
    """

    def __init__(
        self,
        screen: Screen,
        clock: Clock,
        *,
        known: Verdicts | None = None,
        slots: asyncio.Semaphore | None = None,
    ) -> None:
        self._screen = screen
        self._clock = clock
        self._known: Verdicts = {} if known is None else known
        self._slots = slots or asyncio.Semaphore(AT_ONCE)
        self._left_seconds = _ASKING_SECONDS

    async def ask(self, transfer: Transfer) -> str | None:
        """Returns why the transfer is held back, or None. Raises PaymentPending if unknown yet."""
        key = (transfer.payer, transfer.token_address, transfer.amount)
        if key in self._known:
            return self._known[key]
        async with self._slots:
            if self._left_seconds <= 0:
                raise PaymentPending
            since = self._clock.monotonic_seconds()
            try:
                self._known[key] = await self._screen(transfer)
            finally:
                self._left_seconds -= self._clock.monotonic_seconds() - since
        return self._known[key]


@dataclass
class WaitingTransaction:
    """A transaction that waits for a verdict: its logs, and the verdicts so far."""

    logs: Sequence[FoundLog]
    due_ms: int
    pause_ms: int = _FIRST_PAUSE_MS
    verdicts: Verdicts = field(default_factory=dict)


class SetAside:
    """The transactions that wait for a verdict; each is due at once, then after growing pauses."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, WaitingTransaction] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether so many wait that the search must stop until some are done."""
        return len(self) >= _MAX_WAITING

    def add(self, logs: Sequence[FoundLog]) -> None:
        """Adds the transaction of these logs."""
        self._waiting[logs[0].tx_hash] = WaitingTransaction(logs, self._clock.now_ms())

    def take_due(self) -> list[tuple[str, WaitingTransaction]]:
        """Returns a few transactions that are due, with their hashes; sets when each is due again.

        Those that were asked about least often come first.
        """
        now_ms = self._clock.now_ms()
        due = [(tx_hash, one) for tx_hash, one in self._waiting.items() if one.due_ms <= now_ms]
        due = sorted(due, key=lambda item: (item[1].pause_ms, item[1].due_ms))[:_MAX_DUE]
        for _, one in due:
            one.due_ms = now_ms + one.pause_ms
            one.pause_ms = min(2 * one.pause_ms, _MAX_PAUSE_MS)
        return due

    def done(self, tx_hash: str) -> None:
        """Removes a transaction."""
        self._waiting.pop(tx_hash, None)

    def clear(self) -> None:
        """Removes all transactions."""
        self._waiting.clear()


log = structlog.get_logger()

_MAX_RECEIPTS = 100
_TRANSFERS_A_COMMIT = 256
_RANGES_A_LOOK = 50  # at one node, so that one that was silent for long holds nobody up
_STALLED_SECONDS = 120.0
_NODE_STALLED_SECONDS = 600.0
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


class _NodeSearch:
    """The search of safe blocks at one node: its own cursor, and what it has set aside.

    `key` names the node's cursor; "" is that of the chain's only node.
    """

    def __init__(
        self, node: RpcClient, *, number: int, key: str, recipients: Collection[str], clock: Clock
    ) -> None:
        self.node = node
        self.number = number  # from 1, as an operator counts the URLs
        self.key = key
        self.transfers = TransferSearch(node, recipients)
        self.aside = SetAside(clock)
        self.reached: Cursor | None = None  # if beyond the stored cursor
        self.progressed_at = clock.monotonic_seconds()


class Watcher:
    """Searches one chain for transfers of its tokens to us.

    `recipients` are `pay_to` and its former values, as `parse_address` spells them.

    Every block is searched when it is `confirmations` deep, and at each node when it is safe there.
    A transaction worth more than `safe_above`, or without a screening verdict, waits for the safe
    search, which also finds what a reorganisation moved, or what a node left out at first. What has
    no verdict even then, or on which nodes do not agree, is set aside for `ask_again`; the stored
    cursor stays before it. A node that was silent is searched from where its own search ended.
    """

    def __init__(
        self,
        *,
        db: Database,
        client: RpcClient,
        recipients: Collection[str],
        safe_above: MicroUsd,
        clock: Clock,
        agree_above: MicroUsd = DEFAULT_AGREE_ABOVE,
        screen: Screen = allow,
    ) -> None:
        self._db = db
        self._client = client
        self._chain = client.chain
        self._recipients = frozenset(recipients)
        self._safe_above = safe_above
        self._agree_above = agree_above
        self._clock = clock
        self._screen = screen
        self._turns = _Turns(clock)
        self._asking = TimedScreening(screen, clock)  # of the `look` under way
        self._progressed_at = clock.monotonic_seconds()
        self._receipts = Pace(first=_MAX_RECEIPTS, max_=_MAX_RECEIPTS)
        self._transfers = TransferSearch(client, self._recipients)
        several = client.quorum > 1
        self._searches = [
            _NodeSearch(
                node,
                number=number,
                key=node.key if several else "",
                recipients=self._recipients,
                clock=clock,
            )
            for number, node in enumerate(client.nodes if several else [client], 1)
        ]
        self._disputed: set[str] = set()  # hashes that a node shows and another denies

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
        try:
            found += await self._look_at_confirmed(confirmed, heads)
        except ChainUnavailable as problem:  # the other search still runs
            problems.append(problem)
        try:
            found += await self._look_at_safe(heads, begin=confirmed)
        except ChainUnavailable as problem:
            problems.append(problem)
        if problems:
            raise problems[0]
        self._progressed_at = self._clock.monotonic_seconds()
        return found

    async def _look_at_confirmed(self, last: int, heads: Heads) -> int:
        cursor = await marks.cursor(
            self._db, chain_id=self._chain.chain_id, search=Search.CONFIRMED
        ) or await self._first_cursor(Search.CONFIRMED, self._client, begin=last)
        found = 0
        try:
            if cursor.block_number > heads.latest + self._chain.finality_blocks:
                raise Reorganised  # where a node that made up blocks had led it
            while cursor.block_number < last:
                logs, reached = await self._transfers.next(cursor, last=last)
                found += await self._credit(logs, reached)
                cursor = reached
        except Reorganised:
            await self._step_back(cursor, heads)
        finally:
            unsearched = max(0, last - cursor.block_number)
            metrics.UNSEARCHED_BLOCKS.labels(self._chain.name).set(unsearched)
        return found

    async def _look_at_safe(self, heads: Heads, *, begin: int) -> int:
        """Searches at each node that answers. Raises ChainUnavailable if none can be searched."""
        if self._client.quorum == 1:
            return await self._look_at_node(self._searches[0], heads, begin=begin)
        found, ends = 0, list[int]()
        views = await self._client.every(read_heads)
        for one, view in zip(self._searches, views, strict=True):
            if isinstance(view, ChainUnavailable):
                continue
            try:
                found += await self._look_at_node(one, view, begin=min(begin, view.latest))
            except ChainUnavailable as problem:
                log.warning(
                    "node not searched",
                    chain=self._chain.name,
                    node=one.number,
                    error=problem.message,
                )
                continue
            ends.append(one.number)
        if not ends:
            raise self._client.silence(views)
        await self._move_lowest(ends)
        return found

    async def _look_at_node(self, one: _NodeSearch, heads: Heads, *, begin: int) -> int:
        cursor = await self._safe_cursor(one, begin=begin)
        found = ranges = 0
        try:
            while cursor.block_number < heads.safe and ranges < _RANGES_A_LOOK:
                if one.aside.is_full:
                    return found
                logs, reached = await one.transfers.next(cursor, last=heads.safe)
                found += await self._credit(logs, reached, at=one)
                cursor, ranges = reached, ranges + 1
        except Reorganised:
            await self._step_back(cursor, heads, at=one)
        one.progressed_at = self._clock.monotonic_seconds()
        return found

    async def _safe_cursor(self, one: _NodeSearch, *, begin: int) -> Cursor:
        if one.reached is not None:
            return one.reached
        chain_id = self._chain.chain_id
        cursor = await marks.cursor(self._db, chain_id=chain_id, search=Search.SAFE, node=one.key)
        if cursor is None:
            cursor = await marks.cursor(self._db, chain_id=chain_id, search=Search.SAFE)
        return cursor or await self._first_cursor(Search.SAFE, one.node, begin=begin, at=one)

    async def _first_cursor(
        self, search: Search, node: RpcClient, *, begin: int, at: _NodeSearch | None = None
    ) -> Cursor:
        """A first search starts after `begin`, or where configured."""
        configured = self._chain.watch_from_block
        number = begin if configured is None else configured - 1
        return await self._cursor_at(search, node, number, at=at)

    async def _move_lowest(self, searched: Collection[int]) -> None:
        """Moves the cursor of the safe search to the lowest of the nodes that were searched."""
        chain_id = self._chain.chain_id
        ends = [
            end
            for one in self._searches
            if one.number in searched
            for end in [
                await marks.cursor(self._db, chain_id=chain_id, search=Search.SAFE, node=one.key)
            ]
            if end is not None
        ]
        lowest = min(ends, key=lambda end: end.block_number)
        if lowest != await marks.cursor(self._db, chain_id=chain_id, search=Search.SAFE):
            async with self._db.transaction(durable=False) as tx:
                await marks.move(tx, lowest)

    async def ask_again(self) -> None:
        """Credits transactions that were set aside and are due, if nothing stands against it now.

        Raises ChainUnavailable, DatabaseUnavailable.
        """
        slots = asyncio.Semaphore(AT_ONCE)
        for one in self._searches:
            due = one.aside.take_due()
            ends = await asyncio.gather(
                *(self._credit_aside(one, tx_hash, waits, slots) for tx_hash, waits in due),
                return_exceptions=True,
            )
            if one.reached is not None and not one.aside:
                await self._book([], one.reached, at=one)
                one.reached = None
            for problem in ends:
                if problem is not None:
                    raise problem

    async def _credit_aside(
        self, one: _NodeSearch, tx_hash: str, waits: WaitingTransaction, slots: asyncio.Semaphore
    ) -> None:
        """Credits one if it now can be, unless a request has named it meanwhile."""
        if not await self._is_credited(waits.logs):
            if one.key and await self._is_gone(waits.logs[0]):
                self._disputed.discard(tx_hash)
                one.aside.done(tx_hash)
                return
            asking = TimedScreening(self._screen, self._clock, known=waits.verdicts, slots=slots)
            async for receipt in self._read([tx_hash], one.node):
                transfers = self._judged(receipt, waits.logs)
                try:
                    if not await self._is_sure(transfers, Search.SAFE):
                        return
                    held = await self._held(transfers, asking)
                except PaymentPending:
                    return
                await self._book([_Arrival(transfers=transfers, held=held)])
                metrics.PAYMENTS_FOUND.labels(self._chain.name).inc()
        self._disputed.discard(tx_hash)
        one.aside.done(tx_hash)

    async def _is_gone(self, found: FoundLog) -> bool:
        """Whether no node shows a transaction that one showed, where it was found."""
        seen = await self._witness(place_of(found, self._chain), "safe")
        return not seen.disputed and not seen.transfers and seen.nodes >= self._client.quorum

    async def _witness(self, place: Place, head: Head) -> Witness:
        return await witness(self._client, place, recipients=self._recipients, head=head)

    @property
    def chain_name(self) -> str:
        """The chain that it searches."""
        return self._chain.name

    @property
    def idle_seconds(self) -> float:
        """How long ago the search last made progress, as when no node answers."""
        return self._clock.monotonic_seconds() - self._progressed_at

    async def check(self) -> None:
        """Raises ChainUnavailable when the search makes no progress, or nodes do not agree."""
        name, now = self._chain.name, self._clock.monotonic_seconds()
        if self.idle_seconds > _STALLED_SECONDS:
            raise ChainUnavailable(
                f"Payments on {name} have not been searched for {self.idle_seconds:.0f} s."
            )
        for one in self._searches:
            if now - one.progressed_at > _NODE_STALLED_SECONDS:
                raise ChainUnavailable(
                    f"Payments on {name} have not been searched for at node {one.number} for "
                    f"{now - one.progressed_at:.0f} s."
                )
        if self._disputed:
            raise ChainUnavailable(
                f"A node of {name} shows {len(self._disputed)} payments that another denies, "
                f"{min(self._disputed)} among them. They are not credited."
            )

    async def _step_back(
        self, cursor: Cursor, heads: Heads, *, at: _NodeSearch | None = None
    ) -> None:
        """Moves the search back to a block that was surely final when it was searched.

        The newest finalized block may not be: it may have replaced a block that was searched.
        Nothing is credited twice.
        """
        deep = max(0, cursor.block_number - self._chain.finality_blocks)
        number = min(heads.finalized, deep)
        if at is not None:  # the search will find again what was set aside
            at.reached = None
            at.aside.clear()
        log.warning("chain reorganised", chain=self._chain.name, searched_again_from=number)
        node = self._client if at is None else at.node
        await self._cursor_at(cursor.search, node, number, at=at)

    async def _cursor_at(
        self, search: Search, node: RpcClient, number: int, *, at: _NodeSearch | None
    ) -> Cursor:
        block = await read_block(node, number)
        cursor = Cursor(self._chain.chain_id, search, block.number, block.hash)
        async with self._db.transaction(durable=True) as tx:
            await _move(tx, cursor, at)
        return cursor

    async def _credit(
        self, logs: Sequence[FoundLog], cursor: Cursor, *, at: _NodeSearch | None = None
    ) -> int:
        """Credits the transactions of these logs in bounded parts; the last moves the cursor."""
        arrivals: list[_Arrival] = []
        found = size = 0
        async for arrival in self._arrivals(logs, at):
            arrivals.append(arrival)
            found += 1
            size += len(arrival.transfers)
            if size >= _TRANSFERS_A_COMMIT:
                await self._book(arrivals)
                arrivals, size = [], 0
        if at is not None and at.aside:
            await self._book(arrivals)
            at.reached = cursor
        else:
            await self._book(arrivals, cursor, at=at)
            if at is not None:
                at.reached = None
        if found:
            metrics.PAYMENTS_FOUND.labels(self._chain.name).inc(found)
            log.info("payments found", chain=self._chain.name, transactions=found)
        return found

    async def _book(
        self,
        arrivals: Sequence[_Arrival],
        cursor: Cursor | None = None,
        *,
        at: _NodeSearch | None = None,
    ) -> None:
        """Credits these transactions, then moves the cursor with the last of them.

        A database transaction books a bounded number of transfers. A cursor alone need not reach
        the disk: at worst the same blocks are searched again.
        """
        small = [one for one in arrivals if len(one.transfers) <= _TRANSFERS_A_COMMIT]
        for large in (one for one in arrivals if len(one.transfers) > _TRANSFERS_A_COMMIT):
            for part in ledger.in_parts(large.transfers):
                async with self._db.transaction(durable=True) as tx:
                    await self._claim(tx, part, large.held)
        async with self._db.transaction(durable=bool(small)) as tx:
            for arrival in small:
                await self._claim(tx, arrival.transfers, arrival.held)
                await self._turns.give()
            if cursor is not None:
                await _move(tx, cursor, at)
        self._progressed_at = self._clock.monotonic_seconds()

    async def _claim(
        self, tx: Transaction, transfers: Sequence[Transfer], held: dict[str, str]
    ) -> None:
        now_ms = self._clock.now_ms()
        await ledger.credit_transfers(tx, transfers, held=held, now_ms=now_ms)

    async def _arrivals(
        self, logs: Sequence[FoundLog], at: _NodeSearch | None
    ) -> AsyncIterator[_Arrival]:
        """Yields what to credit now of the transactions that these logs belong to."""
        node, search = (self._client, Search.CONFIRMED) if at is None else (at.node, Search.SAFE)
        told = by_transaction(logs)
        new = [tx_hash for tx_hash in told if not await self._is_credited(told[tx_hash])]
        async for receipt in self._read(new, node):
            transfers = self._judged(receipt, told[receipt.tx_hash])
            await self._report_uncreditable(receipt)
            if not transfers:
                continue
            try:
                if not await self._is_sure(transfers, search):
                    raise PaymentPending
                held = await self._held(transfers, self._asking)
            except PaymentPending:
                if at is not None:
                    at.aside.add(told[receipt.tx_hash])
                continue
            yield _Arrival(transfers=transfers, held=held)

    async def _is_sure(self, transfers: tuple[Transfer, ...], search: Search) -> bool:
        """Whether as many nodes show a transaction as what it brings asks for; none denies it."""
        worth = worth_of(transfers)
        if search is Search.CONFIRMED and worth > self._safe_above:
            return False
        if self._client.quorum == 1:
            return True
        booked = await self._booked(transfers[0].tx_hash)
        must_agree = worth > self._agree_above or ledger.moves(booked, transfers)
        if search is Search.CONFIRMED and not must_agree:
            return True
        tx_hash = transfers[0].tx_hash
        seen = await self._witness(
            transfers[0].place, "safe" if search is Search.SAFE else "latest"
        )
        is_denied = seen.disputed or seen.transfers != transfers
        if is_denied and search is Search.SAFE:
            if tx_hash not in self._disputed:
                log.error("nodes disagree on a payment", chain=self._chain.name, tx_hash=tx_hash)
            self._disputed.add(tx_hash)
        return not is_denied and seen.nodes >= (self._client.quorum if must_agree else 1)

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
        metrics.PAYMENTS_UNCREDITABLE.labels(self._chain.name).inc()
        log.error("payment too large to credit", chain=self._chain.name, tx_hash=receipt.tx_hash)

    async def _is_credited(self, logs: Sequence[FoundLog]) -> bool:
        """Whether all these logs of a transaction are in the books, from the same block."""
        await self._turns.give()
        return are_booked(logs, await self._booked(logs[0].tx_hash))

    async def _booked(self, tx_hash: str) -> list[Payment]:
        chain_id = self._chain.chain_id
        return await payments.of_transaction(self._db, chain_id=chain_id, tx_hash=tx_hash)

    async def _read(self, tx_hashes: Sequence[str], node: RpcClient) -> AsyncIterator[Receipt]:
        """Yields the receipts, asking for as many at once as the node allows."""
        at = 0
        while at < len(tx_hashes):
            asked = tx_hashes[at : at + self._receipts.size]
            calls = [("eth_getTransactionReceipt", [tx_hash]) for tx_hash in asked]
            try:
                answers = await node.batch(
                    calls, max_response_bytes=QUICK_ANSWER_BYTES if len(asked) > 1 else None
                )
            except AnswerTooLarge:
                self._receipts.refused(len(asked))
                if len(asked) == 1:
                    metrics.PAYMENTS_UNREAD.labels(self._chain.name).inc()
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
        with self._client.reading():
            return parse_receipt(answer, tx_hash=tx_hash)

    def _judged(self, receipt: Receipt, logs: Sequence[FoundLog]) -> tuple[Transfer, ...]:
        """Returns the transfers in a receipt. Raises ChainUnavailable if it lacks one of `logs`."""
        told = {(found.block_hash, found.log) for found in logs}
        if not told <= {(receipt.block_hash, one) for one in receipt.logs}:
            raise self._client.contradiction("a receipt lacks a log that was found")
        with self._client.reading():
            return transfers_in(receipt, self._chain, recipients=self._recipients)


async def _move(tx: Transaction, cursor: Cursor, at: _NodeSearch | None) -> None:
    await marks.move(tx, cursor, node=at.key if at is not None else "")

"""Reads credited payments again when their block is `safe`, and again when it is `finalized`.

A payment that a reorganisation moved is credited again from its new block. One that it removed is
reversed, and apps that are then unpaid are suspended. Where the nodes' answers leave doubt, nothing
changes.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import structlog

from moorage.chains.heads import Block, Heads, block_call, parse_block, read_heads
from moorage.chains.pace import Pace
from moorage.chains.receipt import Receipt, parse_receipt
from moorage.chains.rpc import QUICK_ANSWER_BYTES, AnswerTooLarge, Call, RpcClient, RpcError
from moorage.clock import Clock
from moorage.errors import PaymentPending
from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.ledger.transfer import Transfer, transfers_in
from moorage.metrics import record_moved, record_reversed
from moorage.payments.taking.screening import Screen, allow, held_back
from moorage.records.money.payment import Finality, Payment
from moorage.storage.database import Database, Transaction
from moorage.storage.money import payments

log = structlog.get_logger()

_MAX_AT_ONCE = 50  # payments that are read in one round trip


class _Verdict(Enum):
    STANDS = auto()  # in the block it was credited from, which is part of the chain
    MOVED = auto()  # in another block
    GONE = auto()  # in no block, and its own block is no longer part of the chain
    UNKNOWN = auto()  # the node is behind, or its answers contradict each other


@dataclass(frozen=True, kw_only=True)
class _SeenPayment:
    """A payment's transaction as a node shows it, and the block that now has its block number."""

    receipt: Receipt | None
    transfers: tuple[Transfer, ...]
    canonical: Block | None


class FinalityCheck:
    """Moves the payments of one chain from provisional to finalized, or reverses them.

    `recipients` are `pay_to` and its former values, as `parse_address` spells them.
    """

    def __init__(
        self,
        *,
        db: Database,
        client: RpcClient,
        recipients: Collection[str],
        metering: Metering,
        clock: Clock,
        screen: Screen = allow,
    ) -> None:
        self._db = db
        self._client = client
        self._chain = client.chain
        self._recipients = frozenset(recipients)
        self._metering = metering
        self._clock = clock
        self._screen = screen
        self._pace = Pace(first=_MAX_AT_ONCE, max_=_MAX_AT_ONCE)
        self._missed: set[str] = set()  # postings of payments that were gone at the last check

    async def check(self) -> None:
        """Checks every payment whose block has become safe or finalized since the last check.

        Raises ChainUnavailable, DatabaseUnavailable; the next check does what is left.
        """
        heads = await read_heads(self._client)
        after: Payment | None = None
        while True:
            due = await payments.awaiting_finality(
                self._db,
                chain_id=self._chain.chain_id,
                safe=heads.safe,
                finalized=heads.finalized,
                after=after,
                limit=self._pace.size,
            )
            if not due:
                return
            try:
                sightings = await self._sightings(due)
            except AnswerTooLarge:
                if len(due) > 1:
                    self._pace.refused(len(due))
                else:
                    log.warning("payment unreadable", payment=due[0].posting_id)
                    after = due[0]
                continue
            self._pace.answered(len(due))
            await self._conclude(due, sightings, heads)
            after = due[-1]

    async def _sightings(self, due: Sequence[Payment]) -> list[_SeenPayment]:
        max_bytes = QUICK_ANSWER_BYTES if len(due) > 1 else None
        answers = await self._client.batch(_calls(due), max_response_bytes=max_bytes)
        try:
            return list(self._told(due, answers))
        except ValueError as problem:
            raise self._client.contradiction(problem) from problem

    def _told(self, due: Sequence[Payment], answers: Sequence[object]) -> Iterator[_SeenPayment]:
        """What the answers to `_calls` show. Raises RpcError; ValueError for an invalid answer."""
        for payment, receipt, block in zip(due, answers[::2], answers[1::2], strict=True):
            if isinstance(receipt, RpcError):
                raise receipt
            mined = None if receipt is None else parse_receipt(receipt, tx_hash=payment.tx_hash)
            yield _SeenPayment(
                receipt=mined,
                transfers=self._transfers(payment, mined) if mined else (),
                canonical=parse_block(block),
            )

    def _transfers(self, payment: Payment, mined: Receipt) -> tuple[Transfer, ...]:
        """The transfers of a transaction to our addresses, that of the payment included."""
        own = () if payment.recipient is None else (payment.recipient,)
        return transfers_in(mined, self._chain, recipients=self._recipients.union(own))

    async def _conclude(
        self, due: Sequence[Payment], sightings: Sequence[_SeenPayment], heads: Heads
    ) -> None:
        standing = []
        for payment, sighting in zip(due, sightings, strict=True):
            verdict = _verdict(payment, sighting, heads)
            if verdict is _Verdict.STANDS:
                standing.append(payment)
            if verdict in (_Verdict.MOVED, _Verdict.GONE):
                await self._reconsider(payment, heads)
            else:
                self._missed.discard(payment.posting_id)
        async with self._db.transaction(durable=False) as tx:
            for payment in standing:
                final = payment.block_number <= heads.finalized
                sure = Finality.FINALIZED if final else Finality.SAFE
                await payments.set_finality(tx, payment, sure)

    async def _reconsider(self, payment: Payment, heads: Heads) -> None:
        """Acts on a payment that moved or is gone, if every URL that answers says the same.

        A payment is reversed only if it was gone at two checks in a row.
        """
        views = await self._client.each(_calls([payment]))
        try:
            sightings = [sighting for view in views for sighting in self._told([payment], view)]
        except ValueError as problem:
            raise self._client.contradiction(problem) from problem
        verdicts = {_verdict(payment, seen, heads) for seen in sightings}
        told = {seen.transfers for seen in sightings}
        was_missed = payment.posting_id in self._missed
        self._missed.discard(payment.posting_id)
        if verdicts == {_Verdict.GONE} and was_missed:
            await self._reverse(payment)
        elif verdicts == {_Verdict.GONE}:
            self._missed.add(payment.posting_id)
            log.warning("payment missed", payment=payment.posting_id, was_in=payment.block_hash)
        elif verdicts == {_Verdict.MOVED} and len(told) == 1:
            await self._follow(payment, told.pop())

    async def _follow(self, payment: Payment, transfers: Sequence[Transfer]) -> None:
        """Reverses the payment, and credits the transaction's transfers from its new block.

        Earlier screening verdicts stay. Nothing changes until every other payer has a verdict.
        """
        booked = await payments.of_transaction(
            self._db, chain_id=payment.chain_id, tx_hash=payment.tx_hash
        )
        try:
            held = await held_back(transfers, self._screen, booked=booked)
        except PaymentPending as silence:
            log.warning("moved payment waits", payment=payment.posting_id, error=silence.message)
            return
        async with self._db.transaction(durable=True) as tx:
            if not await _is_unchanged(tx, payment):
                return
            now_ms = self._clock.now_ms()
            await ledger.reverse_payment(tx, payment, now_ms=now_ms)
            gained = await ledger.credit_transfers(tx, transfers, held=held, now_ms=now_ms)
            for payer in {payment.payer, *(who for who, amount in gained.items() if amount < 0)}:
                await self._metering.suspend_unpaid(tx, payer)
        record_moved(self._chain.name)
        log.warning("payment moved", payment=payment.posting_id, was_in=payment.block_hash)

    async def _reverse(self, payment: Payment) -> None:
        async with self._db.transaction(durable=True) as tx:
            if not await _is_unchanged(tx, payment):
                return
            lost = await ledger.reverse_payment(tx, payment, now_ms=self._clock.now_ms())
            await self._metering.suspend_unpaid(tx, payment.payer)
        record_reversed(self._chain.name)
        log.warning(
            "payment reversed", payment=payment.posting_id, payer=payment.payer, micro_usd=lost
        )


def _calls(due: Sequence[Payment]) -> list[Call]:
    """Two calls for each payment: its transaction's receipt, and the block of its number."""
    return [
        call
        for payment in due
        for call in (
            ("eth_getTransactionReceipt", [payment.tx_hash]),
            block_call(payment.block_number),
        )
    ]


def _verdict(payment: Payment, seen: _SeenPayment, heads: Heads) -> _Verdict:
    if seen.canonical is None or seen.canonical.number != payment.block_number:
        return _Verdict.UNKNOWN
    in_its_block = seen.receipt is not None and seen.receipt.block_hash == payment.block_hash
    if seen.canonical.hash == payment.block_hash:
        told = in_its_block and any(_tells_of(one, payment) for one in seen.transfers)
        return _Verdict.STANDS if told else _Verdict.UNKNOWN
    if seen.receipt is None:
        return _Verdict.GONE
    if in_its_block or seen.receipt.block_number > heads.safe:
        return _Verdict.UNKNOWN
    return _Verdict.MOVED if seen.transfers else _Verdict.GONE


def _tells_of(transfer: Transfer, payment: Payment) -> bool:
    return (
        transfer.log_index == payment.log_index
        and transfer.token_address == payment.token_address
        and transfer.payer == payment.payer
        and transfer.amount == payment.amount
        and payment.recipient in (None, transfer.recipient)
    )


async def _is_unchanged(tx: Transaction, payment: Payment) -> bool:
    """Whether the payment is still as it was read: a request may have credited it anew since."""
    return payment == await payments.one(
        tx, chain_id=payment.chain_id, tx_hash=payment.tx_hash, log_index=payment.log_index
    )

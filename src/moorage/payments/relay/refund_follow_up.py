"""Follows refunds to their end: sends them again while they are not mined, or no longer are.

It needs no key, as signed transactions are stored. The gateway runs it; so does the operator's
command, which has a key and can also raise the fees of a stuck transaction. A `refunded` refund is
checked again until its block is `safe`. One that can no longer be mined is undone when every node
says so.
"""

from collections.abc import Sequence
from enum import Enum, auto

import msgspec
import structlog

from moorage.chains.encoding import parse_quantity
from moorage.chains.heads import is_safe, read_heads
from moorage.chains.receipt import Receipt, parse_receipt
from moorage.chains.rpc import Call, RpcClient, RpcError
from moorage.clock import Clock
from moorage.errors import ChainUnavailable
from moorage.ledger import ledger
from moorage.payments.watch.comparison import refund_is_on_chain
from moorage.records.money.refund import Refund, RefundStatus
from moorage.records.money.relay_transaction import RelayTransaction
from moorage.storage.database import Database
from moorage.storage.money import payments, refunds
from moorage.storage.money.chains import relays

log = structlog.get_logger()


class _Outcome(Enum):
    PAID = auto()  # one version is mined, and pays the refund
    USELESS = auto()  # one version is mined, and does not pay it
    REPLACED = auto()  # none can be mined: a safe block has another transaction with the nonce
    WAITS = auto()  # no version is mined, and the nonce is not used
    UNKNOWN = auto()  # another transaction used the nonce, in a block that is not safe yet


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """A refund's transactions, as one answer shows them."""

    outcome: _Outcome
    mined: tuple[RelayTransaction, Receipt] | None = None


class RefundFollowUp:
    """Follows the refunds of one chain."""

    def __init__(self, *, db: Database, client: RpcClient, clock: Clock) -> None:
        self._db = db
        self._client = client
        self._clock = clock

    async def resume(self) -> None:
        """Checks every refund that is not final once. Raises DatabaseUnavailable."""
        for refund in await refunds.to_follow(self._db, chain_id=self._client.chain.chain_id):
            try:
                await self.look(refund)
            except ChainUnavailable as silence:
                log.warning("refund waits", refund=refund.id, error=silence.message)

    async def look(self, refund: Refund) -> RefundStatus:
        """Checks a refund, and sends it again unless it is mined; returns its status.

        Raises ChainUnavailable, DatabaseUnavailable.
        """
        versions = await relays.of_subject(self._db, refund.id)
        if not versions:  # never signed, so it can't be mined
            return refund.status
        answers = await self._client.batch(_calls(versions))
        view = self._view(refund, versions, answers)
        if view.outcome is _Outcome.PAID and view.mined is not None:
            return await self._paid(refund, *view.mined)
        if view.outcome is _Outcome.WAITS:
            return await self._send_again(refund, versions)
        if view.outcome in (_Outcome.USELESS, _Outcome.REPLACED):
            return await self._fail_if_sure(refund, versions, view)
        return refund.status

    def _view(
        self, refund: Refund, versions: Sequence[RelayTransaction], answers: Sequence[object]
    ) -> _View:
        used, used_safe, *told = answers
        for answer in (used, *told):
            if isinstance(answer, RpcError):
                raise answer
        try:
            for version, answer in zip(versions, told, strict=True):
                if answer is not None:
                    receipt = parse_receipt(answer, tx_hash=version.tx_hash)
                    pays = refund_is_on_chain(refund, receipt)
                    outcome = _Outcome.PAID if pays else _Outcome.USELESS
                    return _View(outcome=outcome, mined=(version, receipt))
            nonce = versions[-1].nonce
            if nonce >= parse_quantity(used):
                return _View(outcome=_Outcome.WAITS)
            is_final = not isinstance(used_safe, RpcError) and nonce < parse_quantity(used_safe)
            return _View(outcome=_Outcome.REPLACED if is_final else _Outcome.UNKNOWN)
        except ValueError as problem:
            raise self._client.contradiction(problem) from problem

    async def _paid(
        self, refund: Refund, version: RelayTransaction, receipt: Receipt
    ) -> RefundStatus:
        """Records that the refund is mined, once it is deep enough; final if its block is safe."""
        number = receipt.block_number
        safe = await is_safe(self._client, number=number, block_hash=receipt.block_hash)
        if not safe and await self._depth(number) < self._client.chain.confirmations:
            return refund.status
        async with self._db.transaction(durable=True) as tx:
            await relays.mined(tx, version, succeeded=True, block_number=number)
            await refunds.refunded(
                tx,
                refund.id,
                refund_tx_hash=version.tx_hash,
                is_final=safe,
                now_ms=self._clock.now_ms(),
            )
        return RefundStatus.REFUNDED

    async def _depth(self, block_number: int) -> int:
        return (await read_heads(self._client)).latest - block_number + 1

    async def _send_again(
        self, refund: Refund, versions: Sequence[RelayTransaction]
    ) -> RefundStatus:
        """Sends every version to every node; whichever is mined pays the refund."""
        async with self._db.transaction(durable=True) as tx:
            await relays.reopen(tx, refund.id)
            dropped = await refunds.reopen(tx, refund.id)
        if dropped:
            log.warning("refund dropped from the chain", refund=refund.id)
        raws = [version.raw for version in reversed(versions)]
        await self._client.each([("eth_sendRawTransaction", [raw]) for raw in raws])
        return RefundStatus.SENT

    async def _fail_if_sure(
        self, refund: Refund, versions: Sequence[RelayTransaction], view: _View
    ) -> RefundStatus:
        """Undoes the debit, if `view` is of a safe block and every node that answers agrees."""
        if view.mined is not None:
            _, receipt = view.mined
            number, block_hash = receipt.block_number, receipt.block_hash
            if not await is_safe(self._client, number=number, block_hash=block_hash):
                return refund.status
        answers = await self._client.each(_calls(versions))
        if {self._view(refund, versions, each).outcome for each in answers} != {view.outcome}:
            log.warning("nodes disagree on a refund", refund=refund.id)
            return refund.status
        return await self._fail(refund)

    async def _fail(self, refund: Refund) -> RefundStatus:
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            payment = await payments.one(
                tx, chain_id=refund.chain_id, tx_hash=refund.tx_hash, log_index=refund.log_index
            )
            if payment is not None and await refunds.failed(tx, refund.id, now_ms=now_ms):
                await ledger.undo_refund(
                    tx,
                    payment,
                    refund_id=refund.id,
                    amount=refund.debited_micro_usd,
                    now_ms=now_ms,
                )
        return RefundStatus.FAILED


def _calls(versions: Sequence[RelayTransaction]) -> list[Call]:
    """Asks for the sender's used nonces, newest and safe, and for each version's receipt."""
    counts = [("eth_getTransactionCount", [versions[-1].sender, at]) for at in ("latest", "safe")]
    return [*counts, *(("eth_getTransactionReceipt", [each.tx_hash]) for each in versions)]

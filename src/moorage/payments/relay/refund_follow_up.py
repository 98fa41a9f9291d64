"""Follows refunds to their end: sends them again while they are not mined, or no longer are.

It needs no key, as signed transactions are stored. The gateway runs it; so does the operator's
command, which has a key and can also raise the fees of a stuck transaction. A `refunded` refund is
checked again until its block is `safe`. One that can no longer be mined is undone when every node
says so; one that is an authorization, which anybody may send, once that has ended unused as well.
Nothing is sent again while a node does not show the payment that it sends back.
"""

from collections.abc import Collection, Sequence
from enum import Enum, auto

import msgspec
import structlog

from moorage.chains.authorization_use import find_use, is_used, state_call
from moorage.chains.eip3009 import TransferAuthorization
from moorage.chains.encoding import parse_quantity
from moorage.chains.heads import (
    block_call,
    is_safe,
    parse_block,
    parse_tagged_block,
    read_block,
    read_heads,
)
from moorage.chains.receipt import Receipt, parse_receipt
from moorage.chains.rpc import Call, RpcClient, RpcError
from moorage.clock import Clock
from moorage.errors import ChainUnavailable
from moorage.ledger import ledger
from moorage.payments.relay.refund_search import authorization_of
from moorage.payments.taking.witnesses import is_shown_for_good
from moorage.payments.watch.comparison import payment_problem, refund_is_on_chain
from moorage.records.payments import (
    Payment,
    PaymentStatus,
    Place,
    Refund,
    RefundStatus,
    RelayTransaction,
)
from moorage.storage.database import Database, Source
from moorage.storage.money import payments, refunds
from moorage.storage.money.chains import relays

log = structlog.get_logger()


class _Outcome(Enum):
    PAID = auto()  # one version is mined, and pays the refund
    USELESS = auto()  # one version is mined, and does not pay it
    REPLACED = auto()  # none can be mined: a safe block has another transaction with the nonce
    WAITS = auto()  # no version is mined, and the nonce is not used
    UNKNOWN = auto()  # another transaction used the nonce, in a block that is not safe yet


class _AuthorizationState(Enum):
    USED = auto()  # as one node says; by whom is found out
    ENDED = auto()  # unused at every node, and a safe block is later than its end
    OPEN = auto()  # anybody may still use it


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """A refund's transactions, as one answer shows them."""

    outcome: _Outcome
    mined: tuple[RelayTransaction, Receipt] | None = None


class RefundFollowUp:
    """Follows the refunds of one chain."""

    def __init__(
        self, *, db: Database, client: RpcClient, recipients: Collection[str], clock: Clock
    ) -> None:
        """`recipients` are the addresses that payments went to."""
        self._recipients = recipients
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
        authorization = authorization_of(versions[-1])
        if authorization is not None and view.outcome is not _Outcome.UNKNOWN:
            state = await self._state(authorization)
            if state is _AuthorizationState.USED:
                return await self._used(refund, authorization)
            if state is _AuthorizationState.ENDED:  # whatever of it is mined now does nothing
                return await self._fail(refund)
            if view.outcome is not _Outcome.WAITS:
                return refund.status
        if view.outcome is _Outcome.WAITS:
            return await self._send_again(refund, versions)
        if view.outcome in (_Outcome.USELESS, _Outcome.REPLACED):
            return await self._fail_if_sure(refund, versions, view)
        return refund.status

    async def withheld(self) -> set[str]:
        """Returns the refunds that must not be sent now: not every node shows their payment."""
        waiting = await refunds.to_follow(self._db, chain_id=self._client.chain.chain_id)
        return {each.id for each in waiting if not await self._payment_stands(each)}

    async def _payment_stands(self, refund: Refund) -> bool:
        """Whether the payment is in the books, and every node that answers shows it."""
        payment = await self._payment(self._db, refund)
        if payment is None or payment.status is PaymentStatus.REVERSED:
            return False
        return not any(
            payment_problem(payment, each, recipients=self._recipients)
            for each in await self._receipts_of(refund.tx_hash)
        )

    async def _state(self, authorization: TransferAuthorization) -> _AuthorizationState:
        """Whether it was used, as a node says, or has ended unused for good, as every node says.

        Two must, where two are configured.
        """
        views = await self._client.each(
            [state_call(authorization, "latest"), block_call("safe"), block_call("latest")]
        )
        states = [is_used(self._client, state) for state, _, _ in views]
        if any(states):
            return _AuthorizationState.USED
        if len(views) < self._client.quorum:
            return _AuthorizationState.OPEN
        deep = self._client.chain.finality_blocks
        for _, safe, latest in views:
            try:
                block, newest = parse_tagged_block(safe), parse_block(latest)
            except ValueError as problem:
                raise self._client.contradiction(problem) from problem
            if block is None and newest is not None:
                block = await read_block(self._client, max(0, newest.number - deep))
            if block is None or block.time < authorization.valid_before:
                return _AuthorizationState.OPEN
        return _AuthorizationState.ENDED

    async def _used(self, refund: Refund, authorization: TransferAuthorization) -> RefundStatus:
        """Ends a refund whose authorization another transaction has used: it is paid, or useless.

        Anybody may send an authorization that was seen; and the same nonce was used before, if the
        books were restored from an older backup.
        """
        payment = await self._payment(self._db, refund)
        first = 0 if payment is None else payment.block_number
        use = await find_use(self._client, authorization, from_block=first)
        if use is None:
            log.warning("refund paid, but nobody knows by what", refund=refund.id)
            return refund.status
        receipts = await self._receipts_of(use.tx_hash)
        pays = {refund_is_on_chain(refund, each) for each in receipts}
        receipt = receipts[0]
        if receipt is None or len(pays) > 1:
            log.warning("nodes disagree on a refund", refund=refund.id)
            return refund.status
        if pays == {True}:
            return await self._paid(refund, None, receipt)
        number, block_hash = receipt.block_number, receipt.block_hash
        if None in receipts or len(receipts) < self._client.quorum:
            return refund.status
        safe = await is_safe(self._client, number=number, block_hash=block_hash)
        return await self._fail(refund) if safe else refund.status

    async def _receipts_of(self, tx_hash: str) -> list[Receipt | None]:
        """Returns a transaction's receipt, as each node that answers shows it."""
        views = await self._client.each([("eth_getTransactionReceipt", [tx_hash])])
        answers = [answer for (answer,) in views if not isinstance(answer, RpcError)]
        try:
            return [
                None if answer is None else parse_receipt(answer, tx_hash=tx_hash)
                for answer in answers
            ] or [None]
        except ValueError as problem:
            raise self._client.contradiction(problem) from problem

    async def _payment(self, source: Source, refund: Refund) -> Payment | None:
        return await payments.one(
            source, chain_id=refund.chain_id, tx_hash=refund.tx_hash, log_index=refund.log_index
        )

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
        self, refund: Refund, version: RelayTransaction | None, receipt: Receipt
    ) -> RefundStatus:
        """Records that the refund is mined, once it is deep enough; final if its block is safe.

        Without a `version` it was not we who sent it.
        """
        number = receipt.block_number
        safe = await self._is_paid_for_good(refund, receipt)
        if not safe and await self._depth(number) < self._client.chain.confirmations:
            return refund.status
        async with self._db.transaction(durable=True) as tx:
            if version is not None:
                await relays.mined(tx, version, succeeded=True, block_number=number)
            await refunds.refunded(
                tx,
                refund.id,
                refund_tx_hash=receipt.tx_hash,
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
        if not await self._payment_stands(refund):
            log.warning("refund waits: its payment is not on the chain", refund=refund.id)
            return refund.status
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
        """Undoes the debit, if every node that answers says that a safe block decides so."""
        if not await self._is_sure(refund, versions, view.outcome):
            return refund.status
        return await self._fail(refund)

    async def _is_paid_for_good(self, refund: Refund, receipt: Receipt) -> bool:
        """Whether two nodes, where there are two, show it in a safe block, and none denies it."""
        place = Place(refund.chain_id, receipt.tx_hash, receipt.block_number, receipt.block_hash)
        return await is_shown_for_good(
            self._client, place, lambda seen: refund_is_on_chain(refund, seen)
        )

    async def _is_sure(
        self, refund: Refund, versions: Sequence[RelayTransaction], outcome: _Outcome
    ) -> bool:
        """Whether every node that answers tells of `outcome`, in a safe block if it is mined.

        Two must, where two are configured.
        """

        async def look(node: RpcClient) -> bool:
            view = self._view(refund, versions, await node.batch(_calls(versions)))
            if view.outcome is not outcome or view.mined is None:
                return view.outcome is outcome
            number, block_hash = view.mined[1].block_number, view.mined[1].block_hash
            return await is_safe(node, number=number, block_hash=block_hash)

        told = [one for one in await self._client.every(look) if isinstance(one, bool)]
        if len(set(told)) > 1:
            log.warning("nodes disagree on a refund", refund=refund.id)
        return all(told) and len(told) >= self._client.quorum

    async def _fail(self, refund: Refund) -> RefundStatus:
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            payment = await self._payment(tx, refund)
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

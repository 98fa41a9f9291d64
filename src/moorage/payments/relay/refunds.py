"""Refunds: send the tokens of a payment back to its payer once, from a key of the operator.

One database transaction stores the debit, the refund and the signed transaction before anything is
sent. From then on the refund has one nonce, so that it can't be paid twice. Its outcome is read
from the chain. A refund that can no longer be mined is undone by a compensating entry. Books that
were restored from an older backup may not know of a refund that was paid: it is looked for first,
and recorded instead of sent again.
"""

import contextlib
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum, auto

import msgspec
import structlog

from moorage.chains.authorization_use import find_use, is_used, state_call
from moorage.chains.balances import token_balances
from moorage.chains.chain import Token
from moorage.chains.eip3009 import TransferAuthorization
from moorage.chains.eip3009 import transfer_calldata as authorized_calldata
from moorage.chains.heads import (
    block_call,
    is_safe,
    parse_block,
    parse_tagged_block,
    read_block,
    read_heads,
)
from moorage.chains.receipt import (
    Receipt,
    parse_quantity,
    parse_receipt,
    transfer_calldata,
)
from moorage.chains.rpc import Call, RpcClient, RpcError
from moorage.clock import Clock, boot_id
from moorage.errors import ChainUnavailable, DatabaseUnavailable, RefundRefused
from moorage.failpoints import failpoint
from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.metrics import TREASURY_TOKENS
from moorage.money import (
    NOTHING,
    AtomicUnits,
    MicroUsd,
    credit_from_atomic_units,
    decimal_text,
    usd_number,
    usd_text,
)
from moorage.payments.relay.refund_search import (
    FoundRefund,
    authorization_of,
    sent_before,
    taken_nonces,
)
from moorage.payments.relay.relayer import Relayer
from moorage.payments.taking.verification import (
    Head,
    is_shown_for_good,
    payment_problem,
    refund_is_on_chain,
    witness,
)
from moorage.records.event import EventData, EventKind
from moorage.records.payments import (
    Finality,
    Payment,
    PaymentStatus,
    Place,
    Refund,
    RefundStatus,
    RelayTransaction,
)
from moorage.storage import events
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import accounts, payments, refunds, relays


async def tell(
    tx: Transaction, refund: Refund, kind: EventKind, *, because: str = "", now_ms: int
) -> None:
    """Records an event about a refund for its payer."""
    data: EventData = {
        "refund_id": refund.request_id or refund.id,
        "chain_id": refund.chain_id,
        "tx_hash": refund.tx_hash,
        "amount_token": refund.amount_atomic,
        "amount_usd": usd_number(refund.debited_micro_usd),
    }
    if because:
        data = {**data, "reason": because}
    await events.record(tx, wallet=refund.recipient, kind=kind, data=data, now_ms=now_ms)


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
        payment = await payments.one(self._db, payments.key_of(refund))
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
            with self._client.reading():
                block, newest = parse_tagged_block(safe), parse_block(latest)
            if block is None and newest is not None:
                block = await read_block(self._client, max(0, newest.number - deep))
            if block is None or block.time < authorization.valid_before:
                return _AuthorizationState.OPEN
        return _AuthorizationState.ENDED

    async def _used(self, refund: Refund, authorization: TransferAuthorization) -> RefundStatus:
        """Ends a refund whose authorization another transaction has used: it is paid, or useless.

        Anybody may send an authorization that they saw. After a restore from an older backup the
        gateway itself may have used the nonce.
        """
        payment = await payments.one(self._db, payments.key_of(refund))
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
        with self._client.reading():
            return [
                None if answer is None else parse_receipt(answer, tx_hash=tx_hash)
                for answer in answers
            ] or [None]

    def _view(
        self, refund: Refund, versions: Sequence[RelayTransaction], answers: Sequence[object]
    ) -> _View:
        used, used_safe, *told = answers
        for answer in (used, *told):
            if isinstance(answer, RpcError):
                raise answer
        with self._client.reading():
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
            await self.paid(tx, refund, by=receipt.tx_hash, is_final=safe)
        return RefundStatus.REFUNDED

    async def paid(self, tx: Transaction, refund: Refund, *, by: str, is_final: bool) -> None:
        """Records that a transaction has paid a refund, and tells its payer what is new of it."""
        now_ms = self._clock.now_ms()
        before = await refunds.one(tx, refund.id)
        await refunds.refunded(tx, refund.id, refund_tx_hash=by, is_final=is_final, now_ms=now_ms)
        if before is not None and (is_final or before.status is not RefundStatus.REFUNDED):
            kind = EventKind.REFUND_FINAL if is_final else EventKind.REFUND_MINED
            await tell(tx, refund, kind, now_ms=now_ms)

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
        async with self._db.transaction(durable=True) as tx:
            await give_up(tx, refund, now_ms=self._clock.now_ms())
        return RefundStatus.FAILED


async def give_up(tx: Transaction, refund: Refund, *, because: str = "", now_ms: int) -> None:
    """Ends a refund that can't be paid any more, and gives what it took back, once."""
    payment = await payments.one(tx, payments.key_of(refund))
    if payment is not None and await refunds.failed(tx, refund.id, now_ms=now_ms):
        await ledger.undo_refund(
            tx,
            payment,
            refund_id=refund.id,
            amount=refund.debited_micro_usd,
            gas=refund.gas_micro_usd,
            now_ms=now_ms,
        )
        await tell(tx, refund, EventKind.REFUND_FAILED, because=because, now_ms=now_ms)


def _calls(versions: Sequence[RelayTransaction]) -> list[Call]:
    """Asks for the sender's used nonces, newest and safe, and for each version's receipt."""
    counts = [("eth_getTransactionCount", [versions[-1].sender, at]) for at in ("latest", "safe")]
    return [*counts, *(("eth_getTransactionReceipt", [each.tx_hash]) for each in versions)]


log = structlog.get_logger()

_QUEUED_AT_ONCE = 20
_REVERSED = "The payment is not on its chain any more."
_FOUND = "Another amount of the payment was sent back before: it was found on the chain."
_CHANGED = "The payment has just changed. Look at it, and try again."
_OTHERS = "Others are being sent back at the same time: try again."

_VALID_SECONDS = 3_600
"""How long an authorization can be used: a refund can't be undone before that."""
_GIVEN_BACK = (PaymentStatus.CREDITED, PaymentStatus.HELD)


class Refunds:
    """Sends payments on one chain back, with the key of `relayer`, whose address is `sender`.

    `recipients` are the addresses that payments went to.
    """

    def __init__(
        self,
        *,
        db: Database,
        client: RpcClient,
        relayer: Relayer,
        sender: str,
        recipients: Collection[str],
        clock: Clock,
    ) -> None:
        self._db = db
        self._client = client
        self._chain = client.chain
        self._relayer = relayer
        self.sender = sender
        self._recipients = recipients
        self._clock = clock
        self._tried: Refund | None = None  # where more are queued than are tried at once
        self._metering = Metering(db=db, clock=clock, boot_id=boot_id())
        self._follow_up = RefundFollowUp(db=db, client=client, recipients=recipients, clock=clock)

    async def begin(
        self,
        payment: Payment,
        *,
        amount: AtomicUnits | None,
        reason: str,
        note: Callable[[Transaction], Awaitable[None]],
    ) -> Refund:
        """Sends `amount` of a payment back to its payer; None sends all that is left of it.

        The transaction that stores the refund does `note` as well.

        Raises RefundRefused, with nothing sent, for more than is left of the payment, more than the
        payer has credits for, a payment whose block is not safe yet, and a transfer that the token
        refuses. Raises ChainUnavailable, also with nothing sent.
        """
        token = self._token(payment)
        earlier = await refunds.of_payment(self._db, payments.key_of(payment))
        if amount is None:
            amount = left_of(payment, earlier)
        await self._require_safe(payment)
        _require_left(payment, earlier, amount, token)
        before = await sent_before(
            self._db,
            self._client,
            payment,
            token,
            amount=amount,
            earlier=earlier,
            senders=await self._senders(),
        )
        if before.found is not None:
            return await self._record(payment, token, before.found, reason=reason, note=note)
        await self._metering.time.resume(self._db)

        async def store(tx: Transaction) -> Refund:
            refund = await self._intend(tx, payment, token, amount=amount, reason=reason)
            await note(tx)
            return refund

        return await self._sign_and_send(payment, token, amount, before.unused, store)

    async def resume(self) -> None:
        """Looks after what was signed, then sends what is queued and may be sent.

        Raises ChainUnavailable, DatabaseUnavailable.
        """
        await self._relayer.tend(withheld=await self._follow_up.withheld())
        waiting = await refunds.to_send(
            self._db, self._tried, chain_id=self._chain.chain_id, limit=_QUEUED_AT_ONCE
        )
        self._tried = waiting[-1] if len(waiting) == _QUEUED_AT_ONCE else None
        for each in waiting:
            try:
                await self.send(each)
            except RefundRefused as refusal:
                await self._wait(each, refusal.message)
        await self._follow_up.resume()

    async def check_balances(self) -> None:
        """Reads the gas and the tokens that refunds are sent from. Raises ChainUnavailable."""
        await self._relayer.check_balance()
        for token, held in await token_balances(self._client, self._chain, self.sender):
            units = held / 10**token.decimals
            TREASURY_TOKENS.labels(self._chain.name, token.name).set(units)

    async def send(self, queued: Refund) -> Refund:
        """Sends a queued refund, which was debited when it was queued.

        One whose payment has left the chain is given up. Raises RefundRefused and ChainUnavailable,
        with nothing sent, and the refund queued as before.
        """
        payment = await payments.one(self._db, payments.key_of(queued))
        if payment is None or payment.status is PaymentStatus.REVERSED:
            async with self._db.transaction(durable=True) as tx:
                if await refunds.take_up(tx, queued.id):  # else another gateway has just signed it
                    await give_up(tx, queued, because=_REVERSED, now_ms=self._clock.now_ms())
            return queued
        token = self._token(payment)
        await self._require_safe(payment)
        earlier = await refunds.of_payment(self._db, payments.key_of(payment))
        others = [each for each in earlier if each.id != queued.id]
        _require_left(payment, others, queued.amount, token)
        before = await sent_before(
            self._db,
            self._client,
            payment,
            token,
            amount=queued.amount,
            earlier=earlier,
            senders=await self._senders(),
        )
        if before.found is not None:
            await self._record_queued(payment, token, queued, before.found)
            return queued

        async def store(tx: Transaction) -> Refund:
            current = await payments.one(tx, payments.key_of(payment))
            if current is None or current.status is not payment.status:
                raise RefundRefused(_CHANGED)
            if not await refunds.take_up(tx, queued.id):
                raise RefundRefused("It is being sent already.")
            return queued

        return await self._sign_and_send(payment, token, queued.amount, before.unused, store)

    async def _wait(self, queued: Refund, because: str) -> None:
        """Records why a refund is not sent yet, and tells its payer when that is new."""
        async with self._db.transaction(durable=True) as tx:
            if await refunds.wait(tx, queued.id, because=because):
                now_ms = self._clock.now_ms()
                await tell(tx, queued, EventKind.REFUND_HELD, because=because, now_ms=now_ms)

    async def _record_queued(
        self, payment: Payment, token: Token, queued: Refund, found: FoundRefund
    ) -> None:
        """Records that a queued refund was paid before, as after a restore; sends nothing.

        If another amount of the payment was, that is recorded instead, and this one is given up.
        """
        _require_safe_find(found)
        log.warning("refund found on the chain", payment=payment.tx_hash, tx_hash=found.tx_hash)
        async with self._db.transaction(durable=True) as tx:
            if found.amount == queued.amount:
                await self._follow_up.paid(tx, queued, by=found.tx_hash, is_final=True)
                return
            now_ms = self._clock.now_ms()
            await give_up(tx, queued, because=_FOUND, now_ms=now_ms)
            await self._intend(
                tx, payment, token, amount=found.amount, reason=_FOUND, paid_by=found.tx_hash
            )

    async def _sign_and_send(
        self,
        payment: Payment,
        token: Token,
        amount: AtomicUnits,
        unused_nonces: Sequence[str],
        store: Callable[[Transaction], Awaitable[Refund]],
    ) -> Refund:
        """Simulates a refund's transaction, signs it in the transaction that stores it, sends it.

        Raises RefundRefused and ChainUnavailable, with nothing stored and nothing sent.
        """
        valid_before = await self._valid_before()
        unused = unused_nonces or (None,)
        for name in unused:
            calldata = self._calldata(payment, token, amount, name, valid_before)
            prepared, _ = await self._relayer.prepare(payment.token_address, calldata)
            if prepared.refusal is None:
                break
            taken = await taken_nonces(
                self._db, await refunds.of_payment(self._db, payments.key_of(payment))
            )
            if name not in taken:  # not because another part was sent meanwhile
                raise RefundRefused(f"The transfer would fail: {prepared.refusal}.")
        else:
            raise RefundRefused(_OTHERS)
        async with self._db.transaction(durable=True) as tx:
            refund = await store(tx)
            nonce = await self._relayer.claim_nonce(tx, prepared, subject_id=refund.id)
            taken = await taken_nonces(tx, await refunds.of_payment(tx, payments.key_of(payment)))
            name = next((each for each in unused if each not in taken), None)
            calldata = self._calldata(payment, token, amount, name, valid_before)
            prepared = msgspec.structs.replace(prepared, data=calldata)
            relayed = await self._relayer.sign(tx, prepared, nonce=nonce, subject_id=refund.id)
            await tell(tx, refund, EventKind.REFUND_SENT, now_ms=self._clock.now_ms())
        failpoint("refund_signed")
        # From here on the refund may be mined, even if sending fails: `follow` finds out.
        with contextlib.suppress(ChainUnavailable, DatabaseUnavailable):
            await self._relayer.send(relayed)
            async with self._db.transaction(durable=True) as tx:
                await refunds.sent(tx, refund.id, refund_tx_hash=relayed.tx_hash)
        failpoint("refund_sent")
        return refund

    async def follow(self, refund: Refund) -> RefundStatus:
        """Checks a refund, and sends it again or with higher fees if it is not mined.

        Raises ChainUnavailable; RefundRefused if another key signed it.
        """
        versions = await relays.of_subject(self._db, refund.id)
        if any(version.sender != self.sender for version in versions):
            raise RefundRefused(
                f"Refund {refund.id} was signed by the key of {versions[0].sender}: name that key."
            )
        withheld = await self._follow_up.withheld()
        await self._relayer.tend(withheld=withheld)
        return await self._follow_up.look(refund)

    async def _record(
        self,
        payment: Payment,
        token: Token,
        found: FoundRefund,
        *,
        reason: str,
        note: Callable[[Transaction], Awaitable[None]],
    ) -> Refund:
        """Records a refund that the chain has and no row tells of; sends nothing."""
        _require_safe_find(found)
        log.warning("refund found on the chain", payment=payment.tx_hash, tx_hash=found.tx_hash)
        async with self._db.transaction(durable=True) as tx:
            refund = await self._intend(
                tx, payment, token, amount=found.amount, reason=reason, paid_by=found.tx_hash
            )
            await note(tx)
        return refund

    def _calldata(
        self,
        payment: Payment,
        token: Token,
        amount: AtomicUnits,
        nonce: str | None,
        valid_before: int,
    ) -> str:
        """Returns the call that sends the tokens; one that the token takes once, if it has those.

        Raises RefundRefused if it has, and there is no nonce left.
        """
        if token.authorization is None:
            return transfer_calldata(payment.payer, amount)
        if nonce is None:
            raise RefundRefused(_OTHERS)
        unsigned = TransferAuthorization(
            chain_id=payment.chain_id,
            token_address=payment.token_address,
            payer=self.sender,
            recipient=payment.payer,
            value=amount,
            valid_after=0,
            valid_before=valid_before,
            nonce=nonce,
            signature=b"",
        )
        authorization = self._relayer.authorize(unsigned, token.authorization)
        return authorized_calldata(authorization, by_key=True)

    async def _valid_before(self) -> int:
        """Returns when an authorization of now ends, by the chain's clock; Unix seconds."""
        method, parameters = block_call("latest")
        with self._client.reading():
            newest = parse_block(await self._client.call(method, parameters))
        if newest is None:
            raise self._client.contradiction("there is no newest block")
        return max(newest.time, self._clock.now_ms() // 1000) + _VALID_SECONDS

    async def _take(self, tx: Transaction, payment: Payment, refund: Refund) -> bool:
        """Takes a refund from what there is after all that burned; suspends what is left unpaid."""
        holder = await ledger.holder_of(tx, payment)
        if payment.status is not PaymentStatus.HELD:
            await self._metering.settle(tx, holder)
            if refund.status is not RefundStatus.REFUNDED and payment.given_to is None:
                await self._require_backed(tx, payment, holder, refund.debited_micro_usd)
        taken = await ledger.refund(
            tx,
            payment,
            refund_id=refund.id,
            amount=refund.debited_micro_usd,
            now_ms=refund.created_at_ms,
        )
        await self._metering.suspend_unpaid(tx, holder)
        return taken

    async def _require_backed(
        self, tx: Transaction, payment: Payment, holder: str, debit: MicroUsd
    ) -> None:
        """Raises RefundRefused if credits that were given, or are not final, would go as tokens.

        The payment itself is final enough: the chain was just asked. That there are so many credits
        at all is the ledger's to say.
        """
        if debit > await accounts.balance(tx, holder):
            return
        purse = payment.purse if holder != payment.payer else None
        clients = {self._chain.chain_id: self._client}
        paid, unsure = await backing(tx, payment.payer, purse, clients=clients)
        if may_be_taken_back(payment.finality, self._client):
            earlier = await refunds.of_payment(tx, payments.key_of(payment))
            unsure = MicroUsd(unsure - brought_of(payment, earlier))
        if debit > paid - unsure:
            raise RefundRefused(
                f"{usd_text(MicroUsd(max(0, paid - unsure)))} of its payer's credits were paid for "
                "and are final: what was given, or may be reversed, does not go back as tokens."
            )

    async def _intend(
        self,
        tx: Transaction,
        seen: Payment,
        token: Token,
        *,
        amount: AtomicUnits,
        reason: str,
        paid_by: str | None = None,
    ) -> Refund:
        """Debits the payer and stores the refund, after checking again what may have changed.

        What burned until now is booked first, so that it is not given back.
        """
        payment = await payments.one(tx, payments.key_of(seen))
        if payment is None or msgspec.structs.replace(payment, finality=seen.finality) != seen:
            raise RefundRefused(_CHANGED)
        earlier = await refunds.of_payment(tx, payments.key_of(payment))
        _require_left(payment, earlier, amount, token)
        now_ms = self._clock.now_ms()
        refund = Refund(
            id=str(uuid.uuid4()),
            chain_id=payment.chain_id,
            tx_hash=payment.tx_hash,
            log_index=payment.log_index,
            recipient=payment.payer,
            token_address=payment.token_address,
            amount_atomic=str(amount),
            debited_micro_usd=debit_of(payment, earlier, amount, decimals=token.decimals),
            reason=reason,
            status=RefundStatus.REFUNDED if paid_by else RefundStatus.INTENDED,
            refund_tx_hash=paid_by,
            created_at_ms=now_ms,
            ended_at_ms=now_ms if paid_by else None,
            finality=Finality.SAFE if paid_by else Finality.PROVISIONAL,
        )
        if not await self._take(tx, payment, refund):
            raise RefundRefused(
                f"{payment.payer} has fewer credits than that: what was burned stays burned."
            )
        await refunds.add(tx, refund)
        return refund

    async def _require_safe(self, payment: Payment) -> None:
        """Raises RefundRefused unless the chain confirms the payment for good.

        With two nodes or more, two show it in a finalized block and none denies it; with one, it
        shows it in a safe block.
        """
        if payment.status not in _GIVEN_BACK:
            raise RefundRefused(f"The payment is {payment.status} already.")
        own = () if payment.recipient is None else (payment.recipient,)
        head: Head = "finalized" if self._client.quorum > 1 else "safe"
        recipients = {*self._recipients, *own}
        seen = await witness(self._client, payment.place, recipients=recipients, head=head)
        if seen.disputed or (seen.nodes and not seen.shows(payment)):
            raise RefundRefused(
                "The chain does not bear the payment out: "
                f"{'its nodes disagree' if seen.disputed else 'it shows no such transfer'}."
            )
        if seen.nodes < self._client.quorum:
            raise RefundRefused(
                f"Its block {payment.block_number} is not {head} yet, "
                f"as {'two nodes say' if self._client.quorum > 1 else 'its node says'}: "
                "try again in some minutes."
            )

    async def _senders(self) -> set[str]:
        """Returns the addresses that may have sent refunds: also those of earlier keys."""
        known = await relays.senders_of_refunds(self._db, chain_id=self._chain.chain_id)
        return {self.sender, *self._recipients, *known}

    def _token(self, payment: Payment) -> Token:
        token = self._chain.token_at(payment.token_address)
        if token is None:
            raise RefundRefused(
                f"{payment.token} is not configured for {self._chain.name} any more."
            )
        return token


def left_of(payment: Payment, earlier: Iterable[Refund]) -> AtomicUnits:
    """Returns what of a payment was not sent back yet, regardless of its payer's balance."""
    return AtomicUnits(payment.amount - sum(item.amount for item in _standing(earlier)))


def brought_of(payment: Payment, earlier: Iterable[Refund]) -> MicroUsd:
    """Returns the credits that a payment brought, less what went back of it."""
    back = sum(each.debited_micro_usd for each in _standing(earlier))
    return MicroUsd(payment.credited_micro_usd - back)


def may_be_taken_back(finality: Finality, client: RpcClient | None) -> bool:
    """Whether a payment is not final yet: at every node, where two are configured."""
    if client is not None and client.quorum > 1:
        return finality is not Finality.FINALIZED
    return finality is Finality.PROVISIONAL


async def backing(
    source: Source,
    wallet: str,
    purse: str | None,
    *,
    clients: Mapping[int, RpcClient],
    burned: MicroUsd = NOTHING,
) -> tuple[MicroUsd, MicroUsd]:
    """Returns how much of a wallet's credits and purses was paid for, and how much is unsure.

    What was given is not paid for, and burns first. Unsure is what a chain may still take back.
    With `purse`, a project that a payment alone opened, it is about that purse only. `burned` is
    not booked yet.
    """
    unsure = sum(
        left
        for chain_id, finality, left in await payments.not_final(source, wallet, purse=purse)
        if may_be_taken_back(finality, clients.get(chain_id))
    )
    if purse is not None:
        has, given = await accounts.balance(source, accounts.purse_of(purse)), NOTHING
    else:
        own = await accounts.balance(source, wallet)
        has = MicroUsd(own + await accounts.purses_have(source, wallet))
        given = await accounts.left_of_given(source, wallet)
    return MicroUsd(has - burned - max(0, given - burned)), MicroUsd(unsure)


def _require_safe_find(found: FoundRefund) -> None:
    """Raises RefundRefused unless two nodes, where there are two, show it in a safe block."""
    if not found.is_safe:
        raise RefundRefused(
            f"{found.tx_hash} paid it back already, as a node says, and not every node shows "
            "it in a safe block yet: try again in some minutes, and it is recorded. Nothing is "
            "sent."
        )


def _require_left(
    payment: Payment, earlier: Iterable[Refund], amount: AtomicUnits, token: Token
) -> None:
    """Raises RefundRefused unless `amount` of the payment may be sent back."""
    left = left_of(payment, earlier)
    if left <= 0 or amount <= 0:
        raise RefundRefused("There is nothing left of it to send back, or nothing was asked for.")
    if amount > left or (payment.status is PaymentStatus.HELD and amount != left):
        raise RefundRefused(
            f"{decimal_text(left, decimals=token.decimals)} {token.name} are left of it"
            f"{', and a held payment goes back as a whole' if amount < left else ''}."
        )


def debit_of(
    payment: Payment, earlier: Sequence[Refund], amount: AtomicUnits, *, decimals: int
) -> MicroUsd:
    """Returns the credits that sending `amount` back takes from the payer.

    The rest's worth is rounded down, as the payment's was. So parts that add up to the payment take
    exactly the credits that it brought.
    """
    stays = AtomicUnits(left_of(payment, earlier) - amount)
    taken = sum(item.debited_micro_usd for item in _standing(earlier))
    worth = credit_from_atomic_units(stays, decimals=decimals)
    return MicroUsd(payment.credited_micro_usd - taken - worth)


def _standing(earlier: Iterable[Refund]) -> list[Refund]:
    return [item for item in earlier if item.status is not RefundStatus.FAILED]

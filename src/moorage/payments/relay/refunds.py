"""Refunds: send the tokens of a payment back to its payer once, from a key of the operator.

One database transaction stores the debit, the refund and the signed transaction before anything is
sent. From then on the refund has one nonce, so that it can't be paid twice. Its outcome is read
from the chain. A refund that can no longer be mined is undone by a compensating entry. Books that
were restored from an older backup may not know of a refund that was paid: it is looked for first,
and recorded instead of sent again.
"""

import contextlib
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

import msgspec
import structlog

from moorage.chains.chain import Token
from moorage.chains.eip3009 import TransferAuthorization
from moorage.chains.eip3009 import transfer_calldata as authorized_calldata
from moorage.chains.erc20 import transfer_calldata
from moorage.chains.heads import block_call, parse_block
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock, boot_id
from moorage.errors import ChainUnavailable, DatabaseUnavailable, RefundRefused
from moorage.failpoints import failpoint
from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.money import AtomicUnits, MicroUsd, credit_from_atomic_units, decimal_text
from moorage.payments.relay.refund_follow_up import RefundFollowUp
from moorage.payments.relay.refund_search import (
    FoundRefund,
    sent_before,
    taken_nonces,
)
from moorage.payments.relay.relayer import Relayer
from moorage.payments.taking.witnesses import Head, witness
from moorage.records.payments import Finality, Payment, PaymentStatus, Refund, RefundStatus
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import payments, refunds
from moorage.storage.money.chains import relays

log = structlog.get_logger()

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
        self._sender = sender
        self._recipients = recipients
        self._clock = clock
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
        earlier = await self._earlier(self._db, payment)
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
            senders={self._sender, *self._recipients},
        )
        if before.found is not None:
            return await self._record(payment, token, before.found, reason=reason, note=note)
        await self._metering.time.resume(self._db)
        valid_before = await self._valid_before()
        unused = before.unused or (None,)
        calldata = self._calldata(payment, token, amount, unused[0], valid_before)
        prepared, _ = await self._relayer.prepare(payment.token_address, calldata)
        if prepared.refusal is not None:
            raise RefundRefused(f"The transfer would fail: {prepared.refusal}.")
        async with self._db.transaction(durable=True) as tx:
            refund = await self._intend(tx, payment, token, amount=amount, reason=reason)
            await note(tx)
            nonce = await self._relayer.claim_nonce(tx, prepared, subject_id=refund.id)
            taken = await taken_nonces(tx, await self._earlier(tx, payment))
            name = next((each for each in unused if each not in taken), None)
            calldata = self._calldata(payment, token, amount, name, valid_before)
            prepared = msgspec.structs.replace(prepared, data=calldata)
            relayed = await self._relayer.sign(tx, prepared, nonce=nonce, subject_id=refund.id)
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
        if any(version.sender != self._sender for version in versions):
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
        if not found.is_safe:
            raise RefundRefused(
                f"{found.tx_hash} paid it back already, as a node says, and not every node shows "
                "it in a safe block yet: try again in some minutes, and it is recorded. Nothing is "
                "sent."
            )
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
            raise RefundRefused("Others are being sent back at the same time: try again.")
        unsigned = TransferAuthorization(
            chain_id=payment.chain_id,
            token_address=payment.token_address,
            payer=self._sender,
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
        try:
            newest = parse_block(await self._client.call(method, parameters))
        except ValueError as problem:
            raise self._client.contradiction(problem) from problem
        if newest is None:
            raise self._client.contradiction("there is no newest block")
        return max(newest.time, self._clock.now_ms() // 1000) + _VALID_SECONDS

    async def _take(self, tx: Transaction, payment: Payment, refund: Refund) -> bool:
        """Takes a refund from what there is after all that burned; suspends what is left unpaid."""
        holder = await ledger.holder_of(tx, payment)
        if payment.status is not PaymentStatus.HELD:
            await self._metering.settle(tx, holder)
        taken = await ledger.refund(
            tx,
            payment,
            refund_id=refund.id,
            amount=refund.debited_micro_usd,
            now_ms=refund.created_at_ms,
        )
        await self._metering.suspend_unpaid(tx, holder)
        return taken

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
        payment = await _paid(tx, seen)
        if payment is None or msgspec.structs.replace(payment, finality=seen.finality) != seen:
            raise RefundRefused("The payment has just changed. Look at it, and try again.")
        earlier = await self._earlier(tx, payment)
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

    def _token(self, payment: Payment) -> Token:
        token = self._chain.token_at(payment.token_address)
        if token is None:
            raise RefundRefused(
                f"{payment.token} is not configured for {self._chain.name} any more."
            )
        return token

    async def _earlier(self, source: Source, payment: Payment) -> list[Refund]:
        return await refunds.of_payment(
            source,
            chain_id=payment.chain_id,
            tx_hash=payment.tx_hash,
            log_index=payment.log_index,
        )


def left_of(payment: Payment, earlier: Iterable[Refund]) -> AtomicUnits:
    """Returns what of a payment was not sent back yet, regardless of its payer's balance."""
    return AtomicUnits(payment.amount - sum(item.amount for item in _standing(earlier)))


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


async def _paid(tx: Transaction, item: Payment) -> Payment | None:
    return await payments.one(
        tx, chain_id=item.chain_id, tx_hash=item.tx_hash, log_index=item.log_index
    )

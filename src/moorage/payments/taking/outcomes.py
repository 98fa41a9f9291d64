"""Says what became of the payments that come with requests, after crediting what has arrived."""

import contextlib
from collections.abc import Mapping

from moorage.chains.chain import Chain
from moorage.errors import (
    ChainUnavailable,
    DatabaseUnavailable,
    MoorageError,
    PaymentAlreadyUsed,
    PaymentError,
    PaymentPending,
)
from moorage.money import MicroUsd
from moorage.payments.protocols.evidence import AuthorizationEvidence, Evidence, TransactionEvidence
from moorage.payments.taking.outcome import (
    PaymentOutcome,
    PaymentReceipt,
    outcome_of,
    state_after,
    state_in_books,
    tokens_of,
)
from moorage.payments.taking.paywall import NOTHING_CREDITED, Paywall, booked
from moorage.records.payments import Payment, PaymentStatus
from moorage.storage.database import Database
from moorage.wire.problems import PaymentState

_OF_THE_PAYMENT = (PaymentError, ChainUnavailable, DatabaseUnavailable)
"""Refusals that say what became of the payment, or that this is not known now."""

_NOT_LOOKED = PaymentPending()


class Outcomes:
    """Tells the outcomes of payments."""

    def __init__(self, *, db: Database, paywall: Paywall, chains: Mapping[str, Chain]) -> None:
        self._db = db
        self._paywall = paywall
        self._chains = chains

    async def after_refusal(
        self, evidence: Evidence, *, wallet: str, refusal: MoorageError
    ) -> PaymentOutcome:
        """Returns what became of a payment that came with a refused request of `wallet`.

        Unless the payment itself was refused, a transaction is credited first, as for a top-up: its
        money has moved, whatever is wrong with the request. An authorization is not spent.
        """
        is_open = refusal.receipt is None and not isinstance(refusal, _OF_THE_PAYMENT)
        if is_open and isinstance(evidence, TransactionEvidence):
            refusal = await self._credited(evidence, wallet) or _NOT_LOOKED
        return await self.known(evidence, wallet=wallet, refusal=refusal)

    async def of_repeated(
        self, evidence: Evidence, *, wallet: str, unique_name: str | None = None
    ) -> PaymentOutcome:
        """Returns what became of the payment of a repeated request, whose answer stays the first.

        A transaction is credited; one that can't be now is credited later, by the watcher or when
        its hash comes again. An authorization is not spent.
        """
        failure: MoorageError | None = None
        if isinstance(evidence, TransactionEvidence):
            failure = await self._credited(evidence, wallet, unique_name)
        return await self.known(evidence, wallet=wallet, refusal=failure or _NOT_LOOKED)

    async def known(
        self, evidence: Evidence, *, wallet: str, refusal: MoorageError
    ) -> PaymentOutcome:
        """Returns the outcome that the books show; where they don't, that of the refusal.

        Asks no chain, and credits nothing.
        """
        if isinstance(refusal.payment, PaymentOutcome):
            return refusal.payment
        if isinstance(refusal.receipt, PaymentReceipt):
            return outcome_of(refusal.receipt)
        if isinstance(evidence, TransactionEvidence):
            return await self._in_books(
                evidence, evidence.tx_hash, wallet, otherwise=state_after(refusal)
            )
        return await self._of_authorization(evidence, wallet, refusal)

    async def _credited(
        self, evidence: TransactionEvidence, wallet: str, unique_name: str | None = None
    ) -> MoorageError | None:
        """Credits a transaction; returns why it could not be, if so."""
        try:
            await self._paywall.take(
                evidence, wallet=wallet, body_digest="", unique_name=unique_name
            )
        except MoorageError as failure:
            return failure
        return None

    async def _of_authorization(
        self, evidence: AuthorizationEvidence, wallet: str, refusal: MoorageError
    ) -> PaymentOutcome:
        state = PaymentState.PENDING
        with contextlib.suppress(DatabaseUnavailable):
            settled_by = await self._paywall.settled_by(evidence)
            if settled_by is None and isinstance(refusal, PaymentAlreadyUsed):
                settled_by = refusal.used_by
            if settled_by is not None:
                return await self._in_books(evidence, settled_by, wallet, otherwise=state)
            is_new = not await self._paywall.knows(evidence)
            was_used = isinstance(refusal, PaymentAlreadyUsed)  # perhaps by somebody else
            if isinstance(refusal, NOTHING_CREDITED) or (is_new and not was_used):
                state = PaymentState.UNUSED
        chain, token = evidence.means.chain.name, evidence.means.token.name
        return PaymentOutcome(tx_hash=None, chain=chain, token=token, state=state)

    async def _in_books(
        self, evidence: Evidence, tx_hash: str, wallet: str, *, otherwise: PaymentState
    ) -> PaymentOutcome:
        chain, found = evidence.means.chain, list[Payment]()
        with contextlib.suppress(DatabaseUnavailable):
            chain, found = await booked(
                self._db, named=chain, chains=self._chains.values(), tx_hash=tx_hash
            )
        own = [one for one in found if one.payer == wallet]
        brought = [one for one in own if one.status is PaymentStatus.CREDITED]
        return PaymentOutcome(
            tx_hash=tx_hash,
            chain=chain.name,
            token=tokens_of(brought or own) or evidence.means.token.name,
            state=state_in_books(found, wallet) or otherwise,
            credited=MicroUsd(sum(one.credited_micro_usd for one in brought)),
        )

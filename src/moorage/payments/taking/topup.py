"""Top-ups: credits bought without a deploy."""

import msgspec

from moorage.clock import Clock
from moorage.errors import (
    AuthorizationRefused,
    DatabaseUnavailable,
    PaymentAlreadyUsed,
    PaymentError,
    PaymentMalformed,
    PaymentPending,
)
from moorage.ledger import ledger
from moorage.money import MicroUsd
from moorage.payments.price.quotes import QUOTE_LIFETIME_MS
from moorage.payments.protocols.evidence import AuthorizationEvidence, Evidence, PaymentMeans
from moorage.payments.taking.outcome import PaymentReceipt
from moorage.payments.taking.payment_required import Demand, PaymentRequired, purchase
from moorage.payments.taking.paywall import NOTHING_CREDITED, Paywall
from moorage.storage import idempotency
from moorage.storage.apps import projects
from moorage.storage.database import Database, Source
from moorage.storage.idempotency import Claim
from moorage.storage.money import accounts, billing, payments

_UNRECORDED = (
    "Your payment is credited; what it paid for could not be recorded yet. "
    "Do not pay again: send the same payment again."
)
_USED_OTHERWISE = (
    "What this payment brought is among the credits of the wallet that paid, and was used or sent "
    "back already: it can't be given to another wallet any more. Do not pay again for that."
)


class TopUpRequest(msgspec.Struct, frozen=True):
    """A wallet's request for credits of `amount`, with or without a payment."""

    wallet: str
    amount: MicroUsd
    means: PaymentMeans
    evidence: Evidence | None
    body_digest: str
    refused: AuthorizationRefused | PaymentMalformed | None = None
    """Why the payment that came along counts for nothing, if so."""
    is_proved: bool = True
    """Whether the wallet, or a token of its project, sent it; else a payment alone speaks."""
    given_to: str | None = None
    """The other wallet that the credits are for, if so."""
    project_id: str | None = None
    """The project whose token sent it: its purse is filled, while it lives from one."""

    @property
    def tells(self) -> bool:
        """Whether its answer tells of the wallet's credits: to the wallet itself alone."""
        return self.is_proved and self.project_id is None


class Credited(msgspec.Struct, frozen=True):
    """What a top-up brought."""

    receipt: PaymentReceipt
    balance: MicroUsd
    """The balance with this payment: the wallet's, or that of the purse."""
    purse: str | None = None
    """The project whose purse it filled."""


class TopUp:
    """Sells credits. What arrived is credited, even if it is more or less than was asked for."""

    def __init__(self, *, db: Database, paywall: Paywall, clock: Clock) -> None:
        self._db = db
        self._paywall = paywall
        self._clock = clock

    async def take(self, request: TopUpRequest, *, claim: Claim | None = None) -> Credited:
        """Credits the payment. If its payer sends the same payment again, nothing new is credited.

        Raises PaymentRequired without a payment, or with one that credited nothing; also what
        `Paywall.take` raises.
        """
        if request.evidence is None:
            raise await self.demand(request, because=request.refused)
        if isinstance(request.evidence, AuthorizationEvidence):
            await self._check_worth(request, request.evidence)
        try:
            receipt = await self._paywall.take(
                request.evidence,
                wallet=request.wallet,
                body_digest=request.body_digest,
                purse=await self._purse(self._db, request.project_id),
            )
        except NOTHING_CREDITED as error:
            raise await self.demand(request, because=error) from error
        try:
            return await self._bind(receipt, claim, request)
        except DatabaseUnavailable as fault:
            pending = PaymentPending(_UNRECORDED)
            pending.receipt = receipt
            raise pending from fault

    async def _purse(self, source: Source, project_id: str | None) -> str | None:
        """Returns the project if a payment alone opened it and it is not adopted."""
        if project_id is None:
            return None
        return project_id if await ledger.opened_apart(source, project_id) else None

    async def _check_worth(self, request: TopUpRequest, offered: AuthorizationEvidence) -> None:
        """Refuses an authorization for less than the amount, as settling it costs gas."""
        if offered.worth < request.amount and not await self._paywall.knows(offered):
            short = AuthorizationRefused("it is for less than the amount")
            raise await self.demand(request, because=short)

    async def _bind(
        self, receipt: PaymentReceipt, claim: Claim | None, request: TopUpRequest
    ) -> Credited:
        """Records that the payment was used for a top-up, so that it can't pay for a deployment."""
        names = {receipt.payer, receipt.tx_hash, request.given_to or receipt.payer}
        async with self._db.transaction(durable=True, of=names) as tx:
            uses = await payments.uses_of(tx, chain_id=receipt.chain_id, tx_hash=receipt.tx_hash)
            is_new = receipt.payer not in uses
            if request.tells:
                await self._paywall.gather(tx, receipt)
            if request.given_to is not None and not await self._paywall.give(
                tx, receipt, request.given_to, is_new=is_new
            ):
                raise PaymentAlreadyUsed(_USED_OTHERWISE)
            purse = await self._purse(tx, receipt.purse)
            if purse is not None and not await self._paywall.fill(tx, receipt):
                purse = None
            holder = receipt.payer if purse is None else accounts.purse_of(purse)
            credited = Credited(receipt, await accounts.balance(tx, holder), purse)
            if is_new:  # else one payment, repeated under new idempotency keys, would fill the disk
                await idempotency.carried_out(tx, claim, credited)
                await payments.add_use(
                    tx,
                    chain_id=receipt.chain_id,
                    tx_hash=receipt.tx_hash,
                    wallet=receipt.payer,
                    project_id=None,
                    deployment_id=None,
                )
            return credited

    async def demand(
        self, request: TopUpRequest, *, because: PaymentError | PaymentMalformed | None = None
    ) -> PaymentRequired:
        """Returns the demand for the amount; of the payer where a payment alone speaks.

        Raises PaymentPending while another payment of the wallet is being settled.
        """
        wallet = request.wallet if request.tells else ""
        await self._paywall.refuse_while_unsettled(wallet)
        balance = await accounts.balance(self._db, wallet)
        burning = await billing.open_of_wallet(self._db, wallet)
        now_ms = self._clock.now_ms()
        demand = Demand(
            amount=request.amount,
            buys=purchase(
                MicroUsd(balance + request.amount),
                [each.monthly_price_micro_usd for each in burning],
                now_ms=now_ms,
            ),
            balance=balance,
            active_projects=await projects.sharing_credits(self._db, wallet),
            means=request.means,
            expires_at_ms=now_ms + QUOTE_LIFETIME_MS,
            wallet=request.wallet if request.is_proved else None,
            body_digest=request.body_digest,
            because=because,
        )
        return PaymentRequired(demand)

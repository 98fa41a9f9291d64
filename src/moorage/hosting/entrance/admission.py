"""Admission: from a checked request to a queued deployment, or a demand for payment."""

import uuid
from collections.abc import Callable
from contextlib import suppress

import msgspec

from moorage.clock import Clock
from moorage.errors import (
    AuthorizationRefused,
    ChainUnavailable,
    CommitUnknown,
    DatabaseUnavailable,
    DelegateLimit,
    InvalidField,
    MoorageError,
    NameUnavailable,
    PaymentAlreadyUsed,
    PaymentError,
    PaymentMalformed,
    PaymentPending,
    PaymentShort,
    ProjectBlocked,
    RateLimited,
    SignatureNeeded,
    TokenInvalid,
    TooManyProjects,
    UniqueViolation,
    WalletNotListed,
    WriteConflict,
)
from moorage.failpoints import failpoint
from moorage.hosting.entrance.attempt import (
    Admitted,
    DeployAttempt,
    DryRun,
    Situation,
    of_attempt,
    of_request,
    open_risks,
    read_situation,
    with_risks,
)
from moorage.hosting.entrance.capacity import Capacity, Quotas
from moorage.hosting.entrance.configuration import configured, queue_deployment, refuse_blocked
from moorage.hosting.entrance.written import begins_empty
from moorage.hosting.sources import Sources
from moorage.ledger import ledger
from moorage.ledger.delegated import left_of, require_as_cheap
from moorage.ledger.metering import Metering
from moorage.ledger.running_costs import hour_of
from moorage.money import NOTHING, MicroUsd, usd_number, usd_text
from moorage.payments.price.quotes import (
    QUOTE_LIFETIME_MS,
    QuoteRequest,
    Quotes,
    honoured,
    taken_openly,
)
from moorage.payments.protocols.evidence import AuthorizationEvidence
from moorage.payments.taking.outcome import PaymentReceipt
from moorage.payments.taking.payment_required import (
    Demand,
    PaymentRequired,
    Purchase,
    credits_fall_short,
    purchase,
)
from moorage.payments.taking.paywall import NOTHING_CREDITED, Paywall
from moorage.records.deployment import Deployment, DeploymentStatus, kept
from moorage.records.event import EventData, EventKind
from moorage.records.payments import Quote
from moorage.records.project import SHARING_STATUSES, Kind, Project, ProjectStatus
from moorage.records.size import STANDARD, PriceList, Size, SizePrice, Sizes
from moorage.storage import events, idempotency
from moorage.storage.apps import deployments, names, projects
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import accounts, payments, quotes
from moorage.storage.vault import Vault
from moorage.uploads.reader import Upload
from moorage.uploads.request import DeployRequest, PurseTerms


class Shortfall(msgspec.Struct, frozen=True):
    """Why a payment is demanded."""

    shares: bool = False
    """Whether only because the existing credits would be shared."""
    lacking: MicroUsd = NOTHING
    """What credits that pay the price lack for an hour of all projects that would share them."""


class Pricing(msgspec.Struct, frozen=True):
    """Decides by the price list and the sizes of apps."""

    prices: PriceList
    sizes: Sizes

    def by_list(self, attempt: DeployAttempt, size: str) -> MicroUsd:
        """Returns today's price. Raises InvalidField for a size that there is not."""
        found = self.sizes.of(size, field="settings.size")
        return self.prices.deploy(found, months=attempt.request.months)

    def size(self, attempt: DeployAttempt, situation: Situation) -> Size:
        """Returns the size that it asks for, or that the project has. Raises InvalidField."""
        own = situation.own
        return self.sizes.chosen(
            situation.size(attempt),
            now=situation.now.size,
            has_volume=own is not None and own.volume,
            field="settings.size",
        )

    def price(self, attempt: DeployAttempt, situation: Situation) -> MicroUsd:
        """Returns today's price, or the lower one that a valid quote promises."""
        return honoured(
            situation.living,
            months=attempt.request.months,
            size=situation.size(attempt),
            price=self.by_list(attempt, situation.size(attempt)),
        )

    def month(self, attempt: DeployAttempt, situation: Situation, price: MicroUsd) -> SizePrice:
        """Returns what a month burns: at most what was promised, so that `price` lasts."""
        size, promised = self.size(attempt, situation), -(-price // attempt.request.months)
        return SizePrice(
            MicroUsd(min(size.month, promised)), MicroUsd(min(size.asleep_month, promised))
        )

    def shortfall(
        self, attempt: DeployAttempt, situation: Situation, price: MicroUsd, *, paid: bool
    ) -> Shortfall | None:
        """Returns why a payment is demanded, or None; `paid`: the request brought one.

        Without a signature it is settled only if it is for the whole price.
        """
        if attempt.is_open:
            return None if paid else Shortfall()
        if situation.own is not None:
            return None if situation.balance > 0 else Shortfall()
        lacking = self.lacking(attempt, situation, price)
        if situation.balance < price:
            return Shortfall(lacking=lacking if attempt.request.purse else NOTHING)
        if lacking:
            return Shortfall(lacking=lacking)
        if situation.active and not (paid or attempt.use_existing_credits):
            return Shortfall(shares=True)
        return None

    def lacking(self, attempt: DeployAttempt, situation: Situation, price: MicroUsd) -> MicroUsd:
        """Returns what the credits lack for an hour of a new app and of all that share them.

        A purse is filled first, and pays the hour of its own project.
        """
        if situation.own is not None:
            return NOTHING
        purse, hour = attempt.request.purse, hour_of(self.month(attempt, situation, price).month)
        own = hour if purse is None else max(purse.amount, hour)
        needed = own + hour_of(*situation.sharing) + situation.owes
        return MicroUsd(max(0, needed - situation.balance))

    def buys(
        self, attempt: DeployAttempt, situation: Situation, amount: MicroUsd, *, now_ms: int
    ) -> Purchase:
        """Returns what paying `amount` buys: how long the new app and all others run then."""
        left = MicroUsd(situation.balance + amount - situation.owes)
        monthly = list(situation.sharing)
        if situation.own is None or situation.own.status not in SHARING_STATUSES:
            price = self.price(attempt, situation)
            monthly.append(self.month(attempt, situation, price).month)
        sizes = {
            each.name: self.prices.deploy(each, months=attempt.request.months)
            for each in self.sizes.listed
            if each.sold
        }
        size = self.size(attempt, situation)
        return purchase(left, monthly, now_ms=now_ms, size=size, sizes=sizes)

    def dry_run(self, attempt: DeployAttempt, situation: Situation, *, now_ms: int) -> DryRun:
        """Returns what this deploy would cost, and whether a payment would be demanded."""
        price = self.price(attempt, situation)
        short = self.shortfall(attempt, situation, price, paid=False)
        amount = price if situation.own is None else NOTHING
        if short is not None:
            rest = due(price, received=situation.received, balance=situation.balance)
            amount = max(rest, short.lacking)
        told = situation.told(attempt)
        return DryRun(
            amount=amount,
            balance=told.balance,
            active_projects=told.active,
            payment_required=short is not None,
            shares=short is not None and short.shares,
            warnings=of_attempt(attempt, situation),
            risks=open_risks(attempt, situation),
            variables=situation.now.with_settings(attempt.request.settings),
            volume=situation.will_have_volume(attempt),
            health_path=attempt.request.settings.health_path or situation.now.health_path,
            size=situation.size(attempt),
            buys=self.buys(attempt, told, amount if short else NOTHING, now_ms=now_ms),
            redeploys=situation.own is not None,
            is_price=amount == price,
        )


def due(price: MicroUsd, *, received: MicroUsd, balance: MicroUsd) -> MicroUsd:
    """Returns what to pay: the price, or the rest of it after a part payment, plus any debt."""
    return price if received <= 0 <= balance else missing(price, balance)


def missing(price: MicroUsd, balance: MicroUsd) -> MicroUsd:
    """Returns what the balance lacks for the price; the whole price if it lacks nothing."""
    return MicroUsd(price - balance) if balance < price else price


async def demand_of(
    tx: Transaction,
    attempt: DeployAttempt,
    situation: Situation,
    short: Shortfall,
    *,
    pricing: Pricing,
    paywall: Paywall,
    quotes: Quotes,
    now_ms: int,
    receipt: PaymentReceipt | None = None,
    because: PaymentError | PaymentMalformed | None = None,
) -> Demand:
    """Returns the demand for the quote's price, or for the rest of it, plus any debt.

    The quote is stored in `tx`. `receipt` is that of a payment that was too small; `because` says
    why a payment was refused. Raises NameUnavailable, RateLimited, and PaymentPending while another
    payment is being settled.

    Without a signature the demand holds no name and no price, so that strangers can hold none
    for free, and tells nothing of any wallet.
    """
    size, told = situation.size(attempt), situation.told(attempt)
    price = pricing.by_list(attempt, size)
    if attempt.is_open:
        await names.release(tx, wallet=attempt.wallet, unique_name=attempt.request.unique_name)
        amount, quote, reason = price, None, ""
    else:
        await paywall.refuse_while_unsettled(attempt.wallet, source=tx)
        asked = QuoteRequest(
            wallet=attempt.wallet,
            unique_name=attempt.request.unique_name,
            months=attempt.request.months,
            size=size,
            price=price,
            received=NOTHING if receipt is None else situation.balance,
            stranger_at=attempt.stranger_at,
        )
        quote = await quotes.offer(tx, situation.living, asked)
        amount = _amount(quote, short, balance=situation.balance)
        is_price = because is None and receipt is None and amount == quote.price_micro_usd
        reason = credits_fall_short(situation.balance, price=amount) if is_price else ""
    return Demand(
        amount=amount,
        buys=pricing.buys(attempt, told, amount, now_ms=now_ms),
        purpose=_purpose(attempt),
        reference="" if quote is None else quote.id,
        balance=told.balance,
        active_projects=told.active,
        means=attempt.means,
        expires_at_ms=now_ms + QUOTE_LIFETIME_MS if quote is None else quote.expires_at_ms,
        wallet=None if quote is None else attempt.wallet,
        body_digest=attempt.request_digest,
        warn_of_sharing=quote is not None and short.shares,
        credited=None if receipt is None else receipt.credited,
        because=because if receipt is None else PaymentShort(),
        warnings=of_request(attempt) if quote is None else with_risks(attempt, situation),
        reason=reason,
    )


def _amount(quote: Quote, short: Shortfall, *, balance: MicroUsd) -> MicroUsd:
    rest = due(quote.price_micro_usd, received=quote.received_micro_usd, balance=balance)
    return max(short.lacking, rest)


def _purpose(attempt: DeployAttempt) -> str:
    months = attempt.request.months
    return f"Deploy {attempt.request.unique_name}, {months} month{'s' * (months != 1)}"


def after_payment(error: MoorageError, receipt: PaymentReceipt) -> MoorageError:
    """Returns the error for a client whose payment has just been credited."""
    if isinstance(error, DatabaseUnavailable):
        error = PaymentPending(
            "Your payment is credited; the deployment could not be recorded yet. "
            "Do not pay again: send the same payment again."
        )
    error.receipt = receipt
    return error


class AcceptedAttempt(msgspec.Struct, frozen=True):
    """An attempt that will be carried out."""

    attempt: DeployAttempt
    situation: Situation
    deployment_id: str
    """The id of its deployment, unless one with the same body is under way already."""
    monthly: SizePrice
    """What a month of the project burns, if it is new."""
    receipt: PaymentReceipt | None
    now_ms: int


async def enter(
    tx: Transaction, accepted: AcceptedAttempt, vault: Vault
) -> tuple[Admitted, tuple[str, ...]]:
    """Queues the deployment; also returns the ids of the deployments that it supersedes.

    Raises UniqueViolation when the payment has paid for another deployment, or another wallet has
    the name; IdempotencyInProgress when another request has the key.
    """
    attempt, situation = accepted.attempt, accepted.situation
    own, under_way = situation.own, situation.now.under_way
    project = configured(
        own or _new_project(accepted),
        situation.now,
        attempt.request.settings,
        vault,
        plan=attempt.plan,
    )
    if own is None:
        await projects.add(tx, project)
        await _fill_purse(tx, accepted, project)
        await quotes.release(tx, wallet=project.wallet, unique_name=project.unique_name)
        await _tell_payer(tx, accepted, project)
    same = [each.id for each in under_way if each.request_digest == attempt.request_digest]
    others = situation.active - (own is not None and own.status in SHARING_STATUSES)
    admitted = Admitted(
        project.id,
        same[0] if same else accepted.deployment_id,
        0 if attempt.is_veiled else others,
        redeploys=own is not None and not same,
        months=attempt.request.months,
        by_choice=attempt.use_existing_credits and attempt.evidence is None,
        receipt=accepted.receipt,
        warnings=with_risks(attempt, situation),
    )
    await _use_up(tx, admitted, attempt.wallet)
    await idempotency.carried_out(tx, attempt.claim, admitted)
    if same:
        return admitted, ()
    if own is not None:
        await _reconfigure(tx, attempt.request, project)
        if project.volume:
            is_empty = begins_empty(attempt.written, situation.successor(attempt))
            await projects.give_volume(tx, project.id, is_empty=is_empty)
    plan = attempt.plan
    return admitted, await queue_deployment(
        tx,
        project,
        _new_deployment(accepted, project),
        in_place_of=under_way,
        builds=bool(plan.install or plan.build),
    )


async def _fill_purse(tx: Transaction, accepted: AcceptedAttempt, project: Project) -> None:
    """Gives a new project the purse that was asked for; its wallet was found to have that."""
    terms, now_ms = accepted.attempt.request.purse, accepted.now_ms
    if terms is None:
        return
    await accounts.open_purse(tx, project.id, wallet=project.wallet, adopted=True, now_ms=now_ms)
    holder = accounts.purse_of(project.id)
    if not await ledger.move(tx, project.wallet, holder, terms.amount, now_ms=now_ms):
        raise WriteConflict
    await accounts.set_terms(tx, project.id, shared=terms.shared, limit=terms.limit)


async def _tell_payer(tx: Transaction, accepted: AcceptedAttempt, project: Project) -> None:
    """Tells the wallet of a project that a payment alone has opened: it may not know of it."""
    receipt = accepted.receipt
    if receipt is None or not accepted.attempt.is_open:
        return
    data: EventData = {
        "project_id": project.id,
        "name": project.unique_name,
        "amount_usd": usd_number(receipt.credited),
        "chain": receipt.chain,
        "tx_hash": receipt.tx_hash,
    }
    await events.record(
        tx,
        wallet=project.wallet,
        kind=EventKind.DEPLOYED_BY_PAYMENT,
        data=data,
        now_ms=accepted.now_ms,
    )


async def _use_up(tx: Transaction, admitted: Admitted, wallet: str) -> None:
    """Records what the request's payment paid for."""
    if admitted.receipt is not None:
        await payments.add_use(
            tx,
            chain_id=admitted.receipt.chain_id,
            tx_hash=admitted.receipt.tx_hash,
            wallet=wallet,
            project_id=admitted.project_id,
            deployment_id=admitted.deployment_id,
        )


def _new_project(accepted: AcceptedAttempt) -> Project:
    request, receipt = accepted.attempt.request, accepted.receipt
    purse = receipt.purse if receipt is not None and accepted.attempt.is_open else None
    return Project(
        id=purse or str(uuid.uuid4()),
        wallet=accepted.attempt.wallet,
        unique_name=request.unique_name,
        display_name=request.display_name,
        description=request.description or "",
        status=ProjectStatus.QUEUED,
        monthly_price_micro_usd=accepted.monthly.month,
        asleep_price_micro_usd=accepted.monthly.asleep_month,
        size=accepted.situation.size(accepted.attempt),
        serving_deployment_id=None,
        created_at_ms=accepted.now_ms,
        months=request.months,
        kind=Kind.WEB if accepted.attempt.plan.listens else Kind.WORKER,
    )


async def _reconfigure(tx: Transaction, request: DeployRequest, project: Project) -> None:
    """Gives an existing project the names and configuration of its new version."""
    await projects.describe(
        tx, project.id, display_name=request.display_name, description=request.description
    )
    await projects.configure(
        tx, project.id, variables=project.variables, health_path=project.health_path
    )
    await projects.set_sleep_after(tx, project.id, project.sleep_after_seconds)


def _new_deployment(accepted: AcceptedAttempt, project: Project) -> Deployment:
    return Deployment(
        id=accepted.deployment_id,
        project_id=project.id,
        status=DeploymentStatus.QUEUED,
        request_digest=accepted.attempt.request_digest,
        plan=msgspec.json.encode(accepted.attempt.plan).decode(),
        findings=msgspec.json.encode(kept(accepted.attempt.findings)).decode(),
        note="",
        reason=None,
        reason_code=None,
        log_tail="",
        created_at_ms=accepted.now_ms,
        health_path=project.health_path,
        variables=project.variables,
        size=accepted.situation.size(accepted.attempt),
    )


_USED = (
    "What this payment brought is in the credits of the wallet that paid, for longer than it may "
    "open a project by itself, or has been used. Do not pay again: sign the request with that "
    "wallet."
)
_APART = (
    "What this payment brought is in the credits of the wallet that paid, and this project lives "
    "from a purse of its own. Do not pay again: POST /agent/projects/{}/adopt, signed by that "
    "wallet, lets the project use them."
)
_SETTLING_MS = 60_000
"""How long a name is held while its payment is settled, if nothing else holds it."""

_TAKEN_MEANWHILE = (
    "This name was taken before your payment was settled. The project that has it is unchanged."
)


class Admission:
    """Decides on each attempt by the contract's tables 1.2 and 1.3: price, pay, enter.

    Each step is a transaction, which reads the attempt's situation once.
    """

    def __init__(
        self,
        *,
        db: Database,
        quotes: Quotes,
        paywall: Paywall,
        pricing: Pricing,
        sources: Sources,
        capacity: Capacity,
        quotas: Quotas,
        metering: Metering,
        vault: Vault,
        clock: Clock,
        on_queued: Callable[[], None],
        on_superseded: Callable[[str], None],
    ) -> None:
        self._db = db
        self._quotes = quotes
        self._paywall = paywall
        self._pricing = pricing
        self._sources = sources
        self._capacity = capacity
        self._quotas = quotas
        self._metering = metering
        self._vault = vault
        self._clock = clock
        self._on_queued = on_queued
        self._on_superseded = on_superseded

    async def admit(self, attempt: DeployAttempt, upload: Upload) -> Admitted:
        """Queues it. Raises PaymentRequired, NameUnavailable, NoCapacity, PaymentError.

        The same payment and body again, without a signature, give what they opened.
        """
        attempt = self._endowed(attempt)
        try:
            return await self._admit(attempt, upload)
        except (NameUnavailable, PaymentAlreadyUsed) as refusal:
            again = await self._opened_before(attempt)
            if again is not None:
                return again
            if isinstance(refusal, NameUnavailable) and await self._has_moved_openly(attempt):
                meanwhile = taken_openly(refusal.held_until_ms, _TAKEN_MEANWHILE)
                meanwhile.receipt = refusal.receipt
                raise meanwhile from refusal
            if isinstance(refusal, PaymentAlreadyUsed) and attempt.is_open:
                refusal.project_id = refusal.deployment_id = None
                if refusal.for_another:  # its message names the project
                    raise PaymentAlreadyUsed from refusal
            raise

    async def _has_moved_openly(self, attempt: DeployAttempt) -> bool:
        return attempt.is_open and await self._paywall.may_have_moved(attempt.evidence)

    async def _opened_before(self, attempt: DeployAttempt) -> Admitted | None:
        """Returns what a payment that speaks alone has opened, if it was for this very body."""
        evidence = attempt.evidence
        if not attempt.is_open or not isinstance(evidence, AuthorizationEvidence):
            return None
        used = await self._paywall.used_openly(evidence, body_digest=attempt.request_digest)
        if used is None or await projects.by_id(self._db, used.project_id) is None:
            return None
        return Admitted(
            used.project_id,
            used.deployment_id,
            sharing_with=0,
            redeploys=False,
            receipt=used.receipt,
            again=True,
        )

    async def _admit(self, attempt: DeployAttempt, upload: Upload) -> Admitted:
        price, size = await self._price(attempt)
        deployment_id = str(uuid.uuid4())
        receipt: PaymentReceipt | None = None
        try:
            await self._sources.keep(deployment_id, upload)
            receipt = await self._pay(attempt)
            failpoint("credited")
            admitted, superseded = await self._enter(attempt, price, size, receipt, deployment_id)
        except BaseException as error:
            await self._clear_up(deployment_id, keep=isinstance(error, CommitUnknown))
            if receipt is not None and isinstance(error, MoorageError):
                await self._return_unused(receipt)
                raise after_payment(error, receipt) from error
            raise
        if admitted.deployment_id != deployment_id:
            await self._sources.drop(deployment_id)
        self._on_queued()
        for earlier in superseded:
            self._on_superseded(earlier)
            await self._sources.drop(earlier)
        return admitted

    async def _return_unused(self, receipt: PaymentReceipt) -> None:
        """Gives a purse that got no project to its wallet; metering does later what fails here."""
        project_id = receipt.purse
        if project_id is None:
            return
        with suppress(DatabaseUnavailable):
            async with self._db.transaction(durable=True) as tx:
                if await projects.by_id(tx, project_id) is None:
                    await ledger.empty_purse(tx, project_id, now_ms=self._clock.now_ms())

    async def quote(self, attempt: DeployAttempt) -> DryRun:
        """Returns what this deploy would cost now. Changes nothing. Raises NoCapacity."""
        attempt = self._endowed(attempt)
        situation = await self._situation(self._db, attempt)
        await self._require_open(self._db, attempt, situation)
        await self._require_limit(self._db, attempt, situation)
        return self._pricing.dry_run(attempt, situation, now_ms=self._clock.now_ms())

    async def demand_openly(self, attempt: DeployAttempt) -> PaymentRequired:
        """Returns the demand for an attempt of nobody yet. Raises NameUnavailable, NoCapacity."""
        async with self._db.transaction(durable=False, of=attempt.names) as tx:
            situation = await self._situation(tx, attempt)
            await self._require_open(tx, attempt, situation)
            demand = await self._demand(
                tx, attempt, situation, Shortfall(), because=attempt.refused
            )
        return PaymentRequired(demand)

    async def _price(self, attempt: DeployAttempt) -> tuple[MicroUsd, str]:
        """Returns the price, and of which size, after every check that needs no payment.

        Raises PaymentRequired unless the request brings a payment that is enough, or needs none.
        """
        has_paid = await self._paywall.may_have_moved(attempt.evidence)
        async with self._db.transaction(durable=False, of=attempt.names) as tx:
            situation = await self._situation(tx, attempt)
            price = self._pricing.price(attempt, situation)
            demanded = None if has_paid else await self._still_due(tx, attempt, situation, price)
        if demanded is not None:
            raise PaymentRequired(demanded)
        return price, situation.size(attempt)

    async def _still_due(
        self, tx: Transaction, attempt: DeployAttempt, situation: Situation, price: MicroUsd
    ) -> Demand | None:
        """Returns the demand for payment, if any, when no money has moved yet."""
        evidence = attempt.evidence
        await self._require_open(tx, attempt, situation)
        await self._require_limit(tx, attempt, situation)
        if attempt.refused is not None:
            return await self._demand(tx, attempt, situation, Shortfall(), because=attempt.refused)
        if isinstance(evidence, AuthorizationEvidence):  # too little is refused: settling costs gas
            short = Shortfall(lacking=self._pricing.lacking(attempt, situation, price))
            if evidence.worth >= max(missing(price, situation.balance), short.lacking):
                await self._hold_to_settle(tx, attempt)
                return None
            dust = "it is for less than what is to be paid, which is amount_token"
            because = AuthorizationRefused(dust)
            return await self._demand(tx, attempt, situation, short, because=because)
        unpaid = self._pricing.shortfall(attempt, situation, price, paid=False)
        return await self._demand(tx, attempt, situation, unpaid) if unpaid else None

    def _endowed(self, attempt: DeployAttempt) -> DeployAttempt:
        """Returns a delegate's attempt with a purse for its new project: of its price, by default.

        Raises InvalidField for a shared purse, as its project would burn more than the purse.
        """
        if attempt.delegation is None:
            return attempt
        price = self._pricing.by_list(attempt, attempt.request.settings.size or STANDARD)
        purse = attempt.request.purse or PurseTerms(price, shared=False, limit=None)
        if purse.shared:
            raise InvalidField("purse.shared", "must be false where a delegate deploys")
        request = msgspec.structs.replace(attempt.request, purse=purse)
        return msgspec.structs.replace(attempt, request=request)

    async def _require_limit(
        self, source: Source, attempt: DeployAttempt, situation: Situation
    ) -> None:
        """Raises DelegateLimit if a delegate may not commit what its new project costs.

        Also if it would make an existing project larger.
        """
        purse = attempt.request.purse
        if (own := situation.own) is not None and situation.size(attempt) != situation.now.size:
            size = self._pricing.size(attempt, situation)
            price = await self._metering.price_of(source, own, size)
            await require_as_cheap(source, own, price.month)
        if attempt.delegation is None or purse is None or situation.own is not None:
            return
        left = await left_of(source, attempt.delegation, now_ms=self._clock.now_ms())
        if purse.amount > left:
            raise DelegateLimit(
                f"This takes {usd_text(purse.amount)}, and the delegation's limitUsdMonth leaves "
                f"{usd_text(left)} for this month (UTC): its owner can sign another."
            )

    async def _hold_to_settle(self, tx: Transaction, attempt: DeployAttempt) -> None:
        """Holds the name of an open attempt while it is paid. Raises NameUnavailable."""
        if not attempt.is_open:
            return
        now_ms = self._clock.now_ms()
        if not await names.hold(
            tx,
            wallet=attempt.wallet,
            unique_name=attempt.request.unique_name,
            until_ms=now_ms + _SETTLING_MS,
            now_ms=now_ms,
        ):
            raise taken_openly()

    async def _pay(self, attempt: DeployAttempt) -> PaymentReceipt | None:
        """Credits the request's payment, if any. Raises PaymentRequired if nothing is credited."""
        if attempt.evidence is None:
            return None
        try:
            return await self._paywall.take(
                attempt.evidence,
                wallet=attempt.wallet,
                body_digest=attempt.request_digest,
                unique_name=attempt.request.unique_name,
                purse=str(uuid.uuid4()) if attempt.is_open else await self._purse(attempt),
            )
        except NOTHING_CREDITED as error:
            async with self._db.transaction(durable=False, of=attempt.names) as tx:
                situation = await self._situation(tx, attempt)
                demanded = await self._demand(tx, attempt, situation, Shortfall(), because=error)
            raise PaymentRequired(demanded) from error
        except (ChainUnavailable, RateLimited, PaymentAlreadyUsed):
            await self._release_unsettled(attempt)
            raise

    async def _purse(self, attempt: DeployAttempt, *, source: Source | None = None) -> str | None:
        """Returns the attempt's project, if it is there as a payment alone has opened it."""
        source = source or self._db
        own = await projects.by_name(source, attempt.request.unique_name)
        if own is None or own.wallet != attempt.wallet:
            return None
        return own.id if await ledger.opened_apart(source, own.id) else None

    async def _release_unsettled(self, attempt: DeployAttempt) -> None:
        """Frees the name that an open attempt holds, unless its payment is being settled."""
        evidence = attempt.evidence
        if not attempt.is_open or not isinstance(evidence, AuthorizationEvidence):
            return
        with suppress(DatabaseUnavailable):
            if await self._paywall.knows(evidence):
                return
            async with self._db.transaction(durable=False, of=attempt.names) as tx:
                await names.release(
                    tx, wallet=attempt.wallet, unique_name=attempt.request.unique_name
                )

    async def _enter(
        self,
        attempt: DeployAttempt,
        price: MicroUsd,
        size: str,
        receipt: PaymentReceipt | None,
        deployment_id: str,
    ) -> tuple[Admitted, tuple[str, ...]]:
        """Queues the deployment; also returns the ids of the deployments that it supersedes."""
        paid = receipt is not None
        try:
            async with self._db.transaction(durable=True) as tx:
                await accounts.lock(tx, attempt.wallet)
                apart = await self._place(tx, attempt, receipt)
                situation = await self._situation(tx, attempt)
                if (
                    situation.size(attempt) != size
                ):  # its project was deleted, or resized, meanwhile
                    price = self._pricing.price(attempt, situation)
                # Others may have been admitted meanwhile, or who paid was never asked to.
                await self._require_wallet(tx, attempt, situation)
                if attempt.is_open and receipt and not await self._paywall.fill(tx, receipt):
                    raise SignatureNeeded(_USED)
                short = self._pricing.shortfall(attempt, situation, price, paid=paid)
                if short is None:
                    if not paid:  # others may have been admitted meanwhile
                        await self._capacity.require_memory(
                            tx, situation.size(attempt), _id(situation)
                        )
                    await self._require_limit(tx, attempt, situation)
                    accepted = AcceptedAttempt(
                        attempt,
                        situation,
                        deployment_id,
                        self._pricing.month(attempt, situation, price),
                        receipt,
                        self._clock.now_ms(),
                    )
                    return await enter(tx, accepted, self._vault)
                if apart is not None:
                    raise SignatureNeeded(_APART.format(apart))
                demanded = await self._demand(tx, attempt, situation, short, receipt=receipt)
        except UniqueViolation:
            if receipt is not None:
                await self._paywall.refuse_used(
                    chain_id=receipt.chain_id,
                    tx_hash=receipt.tx_hash,
                    wallet=attempt.wallet,
                    unique_name=attempt.request.unique_name,
                )
            raise
        raise PaymentRequired(demanded)

    async def _place(
        self, tx: Transaction, attempt: DeployAttempt, receipt: PaymentReceipt | None
    ) -> str | None:
        """Moves what a signed attempt has paid to the credits that its project burns.

        Returns the project if it burns a purse that could not get the payment.
        """
        if receipt is None or attempt.is_open:
            return None
        if attempt.managed is None:
            await self._paywall.gather(tx, receipt)
        purse = await self._purse(attempt, source=tx)
        if purse is None:
            return None
        if attempt.managed is None:
            has_it = await self._paywall.pour(tx, receipt, purse)
        else:
            has_it = receipt.purse == purse and await self._paywall.fill(tx, receipt)
        return None if has_it else purse

    async def _situation(self, source: Source, attempt: DeployAttempt) -> Situation:
        """Reads the situation. Raises TokenInvalid if a manage token's project is gone."""
        situation = await read_situation(
            source, attempt, quotes=self._quotes, metering=self._metering, vault=self._vault
        )
        if attempt.managed not in (None, _id(situation)):
            raise TokenInvalid(header="Authorization")
        return situation

    async def _demand(
        self,
        tx: Transaction,
        attempt: DeployAttempt,
        situation: Situation,
        short: Shortfall,
        *,
        receipt: PaymentReceipt | None = None,
        because: PaymentError | PaymentMalformed | None = None,
    ) -> Demand:
        return await demand_of(
            tx,
            attempt,
            situation,
            short,
            pricing=self._pricing,
            paywall=self._paywall,
            quotes=self._quotes,
            now_ms=self._clock.now_ms(),
            receipt=receipt,
            because=because,
        )

    async def _require_open(
        self, source: Source, attempt: DeployAttempt, situation: Situation
    ) -> None:
        """Asks the operator's rules and the machine, before anybody is asked to pay.

        Raises Maintenance, WalletNotListed, TooManyProjects, SignatureNeeded, NoCapacity.
        """
        if attempt.is_open:
            await self._quotas.require(source, "", None)
            await self._require_wallet(source, attempt, situation)
        else:
            await self._quotas.require(source, attempt.wallet, situation.own)
        has_volume = situation.own is not None and situation.own.volume
        new_volume = bool(attempt.request.settings.volume) and not has_volume
        await self._capacity.require(
            source,
            self._pricing.size(attempt, situation).name,
            new_volume=new_volume,
            project_id=_id(situation),
        )

    async def _require_wallet(
        self, source: Source, attempt: DeployAttempt, situation: Situation
    ) -> None:
        """Asks what the operator allows the wallet. Raises WalletNotListed, TooManyProjects.

        Without a signature it raises SignatureNeeded instead, also for a suspended wallet: only the
        wallet is told what the operator has decided about it.
        """
        if not attempt.is_open:
            await self._quotas.require_allowed(source, attempt.wallet, situation.own)
        elif attempt.wallet:
            try:
                refuse_blocked(await accounts.wallet_row(source, attempt.wallet), None)
                await self._quotas.require_allowed(source, attempt.wallet, None)
            except (ProjectBlocked, WalletNotListed, TooManyProjects) as refusal:
                raise SignatureNeeded from refusal

    async def _clear_up(self, deployment_id: str, *, keep: bool) -> None:
        """Removes the files after an error, unless the deployment was recorded all the same.

        A caller that is cancelled during the commit does not learn its outcome. While that is
        unknown, the files are kept; the next start removes those of no deployment.
        """
        try:
            recorded = await deployments.by_id(self._db, deployment_id) is not None
        except DatabaseUnavailable:
            return  # as above
        if recorded:
            self._on_queued()
        elif not keep:
            await self._sources.drop(deployment_id)


def _id(situation: Situation) -> str:
    return "" if situation.own is None else situation.own.id

"""Admission: from a checked request to a queued deployment, or a demand for payment."""

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from moorage.clock import Clock
from moorage.deploy.entrance import succession
from moorage.deploy.entrance.attempt import (
    Admitted,
    DeployAttempt,
    DryRun,
    QuoteRequest,
    Shortfall,
    Terms,
    after_payment,
    due,
    missing,
    new_deployment,
    new_project,
    payment_required,
)
from moorage.deploy.entrance.capacity import Capacity
from moorage.deploy.entrance.configuration import NOT_YET, configured, present, refuse_blocked
from moorage.errors import (
    AuthorizationRefused,
    DatabaseUnavailable,
    MoorageError,
    NameUnavailable,
    PaymentError,
    PaymentShort,
)
from moorage.failpoints import failpoint
from moorage.ledger.metering import Metering
from moorage.money import NOTHING, MicroUsd
from moorage.payments.price.pricing import PriceList, Size
from moorage.payments.price.quotes import Quotes, honoured
from moorage.payments.protocols.demand import PaymentRequired
from moorage.payments.protocols.evidence import Evidence, TransactionEvidence
from moorage.payments.taking.paywall import NOTHING_CREDITED, Paywall
from moorage.payments.taking.receipt import PaymentReceipt
from moorage.records.deployment import Deployment
from moorage.records.project import SHARING_STATUSES, Project
from moorage.storage import idempotency
from moorage.storage.apps import configuration, projects
from moorage.storage.database import Database, Transaction, UniqueViolation
from moorage.storage.money import accounts, payments, quotes
from moorage.storage.vault import Vault
from moorage.threads import in_thread
from moorage.uploads import Upload


class Admission:
    """Decides each attempt by the contract's tables 1.2 and 1.3."""

    def __init__(
        self,
        *,
        db: Database,
        quotes: Quotes,
        paywall: Paywall,
        prices: PriceList,
        size: Size,
        sources: Path,
        capacity: Capacity,
        metering: Metering,
        vault: Vault,
        clock: Clock,
        on_queued: Callable[[], None],
        on_superseded: Callable[[str], None],
    ) -> None:
        self._db = db
        self._quotes = quotes
        self._paywall = paywall
        self._prices = prices
        self._size = size
        self._sources = sources
        self._capacity = capacity
        self._metering = metering
        self._vault = vault
        self._clock = clock
        self._on_queued = on_queued
        self._on_superseded = on_superseded

    async def admit(self, attempt: DeployAttempt, upload: Upload) -> Admitted:
        """Queue it. Raises PaymentRequired, NameUnavailable, NoCapacity, PaymentError."""
        if attempt.evidence is None:
            price = await self._demand_unless_paid(attempt)
        else:
            price = await self._check_before_payment(attempt, attempt.evidence)
        deployment_id = str(uuid.uuid4())
        try:
            await in_thread(_materialise, upload, self._sources / deployment_id)
            receipt = await self._take_payment(attempt)
            failpoint("credited")
            admitted, superseded = await self._enter(attempt, price, receipt, deployment_id)
        except BaseException:
            await self._clear_up(deployment_id)
            raise
        if admitted.deployment_id != deployment_id:
            await self._remove_source(deployment_id)
        self._on_queued()
        for earlier in superseded:
            self._on_superseded(earlier)
            await self._remove_source(earlier)
        return admitted

    async def credit(self, attempt: DeployAttempt) -> None:
        """Credit what came with a request that was answered before: `Paywall.take_repeated`."""
        await self._paywall.take_repeated(
            attempt.evidence,
            wallet=attempt.wallet,
            body_digest=attempt.request_digest,
            unique_name=attempt.request.unique_name,
        )

    async def _clear_up(self, deployment_id: str) -> None:
        """After an error: remove the files, unless the deployment was recorded all the same.

        A caller that is cancelled while the transaction commits no longer learns that it did.
        """
        try:
            recorded = await projects.deployment(self._db, deployment_id) is not None
        except DatabaseUnavailable:
            return  # the next start removes them, if nobody owns them
        if recorded:
            self._on_queued()
        else:
            await self._remove_source(deployment_id)

    async def _remove_source(self, deployment_id: str) -> None:
        await in_thread(shutil.rmtree, self._sources / deployment_id, ignore_errors=True)

    async def quote(self, attempt: DeployAttempt) -> DryRun:
        """What this deploy would cost now. Changes nothing. Raises NoCapacity."""
        terms = await self._terms(self._db, attempt)
        await self._require_capacity(attempt)
        demanded = await self._demanded(self._db, attempt, terms.price, terms.own, paid=False)
        balance = await accounts.balance(self._db, attempt.wallet)
        amount = terms.price if terms.own is None else NOTHING
        if demanded is not None:
            received = max([NOTHING, *(each.received_micro_usd for each in terms.living)])
            amount = due(terms.price, received=received, balance=balance)
            amount = max(amount, demanded.lacking)
        return DryRun(
            amount=amount,
            balance=balance,
            active_projects=await projects.sharing_credits(self._db, attempt.wallet),
            payment_required=demanded is not None,
            shares=demanded is not None and demanded.shares,
        )

    async def _require_capacity(self, attempt: DeployAttempt) -> None:
        """Before anybody is asked to pay. Raises NoCapacity."""
        named = await projects.by_name(self._db, attempt.request.unique_name)
        has_volume = named is not None and named.volume
        new_volume = attempt.request.settings.volume and not has_volume
        own_id = named.id if named else ""
        await self._capacity.require(new_volume=new_volume, project_id=own_id)

    async def _terms(self, source: Database | Transaction, attempt: DeployAttempt) -> Terms:
        """The price by the list, or the better one that a living quote promises.

        Raises NameUnavailable, ProjectBlocked, and InvalidField for too many variables.
        """
        wallet, name = attempt.wallet, attempt.request.unique_name
        own = await self._quotes.check_name(wallet=wallet, unique_name=name, source=source)
        await refuse_blocked(source, wallet, own)
        now = NOT_YET if own is None else await present(source, self._vault, own)
        now.with_settings(attempt.request.settings)
        living = await self._quotes.living(wallet=wallet, unique_name=name, source=source)
        months = attempt.request.months
        return Terms(honoured(living, months=months, price=self._list_price(attempt)), own, living)

    def _list_price(self, attempt: DeployAttempt) -> MicroUsd:
        return self._prices.deploy(self._size, months=attempt.request.months)

    def _month(self, attempt: DeployAttempt, price: MicroUsd) -> MicroUsd:
        """What a month burns: never more than was promised, so that `price` lasts the months."""
        promised = -(-price // attempt.request.months)
        return MicroUsd(min(self._prices.month(self._size), promised))

    async def _demand_unless_paid(self, attempt: DeployAttempt) -> MicroUsd:
        """The price, where nothing is left to pay before this deploys; else raises PaymentRequired.

        One transaction, as most who ask are to pay: it reads faster, and stores the quote.
        """
        async with self._db.transaction(durable=False) as tx:
            terms = await self._terms(tx, attempt)
            await self._require_capacity(attempt)
            demanded = await self._demanded(tx, attempt, terms.price, terms.own, paid=False)
            if demanded is None:
                return terms.price
            await self._paywall.refuse_while_unsettled(attempt.wallet, source=tx)
            quote = await self._quotes.offer_within(tx, terms.living, **self._wanted(attempt))
        raise payment_required(attempt, demanded, quote)

    async def _check_before_payment(self, attempt: DeployAttempt, evidence: Evidence) -> MicroUsd:
        """The price; refuses what can be seen to fail while an authorization is still unspent."""
        terms = await self._terms(self._db, attempt)
        if isinstance(evidence, TransactionEvidence) or await self._paywall.knows(evidence):
            return terms.price
        await self._require_capacity(attempt)
        balance = await accounts.balance(self._db, attempt.wallet)
        lacks, a_month = NOTHING, self._month(attempt, terms.price)
        if terms.own is None:
            lacks = await self._metering.lacking(self._db, attempt.wallet, a_month)
        if evidence.worth < max(missing(terms.price, balance), lacks):  # settling it costs gas
            active = await projects.sharing_credits(self._db, attempt.wallet)
            short = Shortfall(balance, active, shares=False, lacking=lacks)
            problem = "it is for less than what is to be paid, which is amount_token"
            raise await self._demand(attempt, short, because=AuthorizationRefused(problem))
        return terms.price

    async def _demanded(
        self,
        source: Database | Transaction,
        attempt: DeployAttempt,
        price: MicroUsd,
        named: Project | None,
        *,
        paid: bool,
    ) -> Shortfall | None:
        """The contract's decision table: why a payment is demanded, or None to deploy.

        `named` is the project that has the name, whoever's it is.
        """
        balance = await accounts.balance(source, attempt.wallet)
        active = await projects.sharing_credits(source, attempt.wallet)
        if named is not None and named.wallet == attempt.wallet:
            return None if balance > 0 else Shortfall(balance, active, shares=False)
        if balance < price:
            return Shortfall(balance, active, shares=False)
        if lacking := await self._metering.lacking(
            source, attempt.wallet, self._month(attempt, price)
        ):
            return Shortfall(balance, active, shares=False, lacking=lacking)
        if active and not (paid or attempt.use_existing_credits):
            return Shortfall(balance, active, shares=True)
        return None

    async def _demand(
        self,
        attempt: DeployAttempt,
        demanded: Shortfall,
        *,
        credited: MicroUsd | None = None,
        because: PaymentError | None = None,
    ) -> PaymentRequired:
        await self._paywall.refuse_while_unsettled(attempt.wallet)
        quote = await self._quotes.offer(
            **self._wanted(attempt),
            received=demanded.balance if isinstance(because, PaymentShort) else NOTHING,
        )
        return payment_required(attempt, demanded, quote, credited=credited, because=because)

    def _wanted(self, attempt: DeployAttempt) -> QuoteRequest:
        return {
            "wallet": attempt.wallet,
            "unique_name": attempt.request.unique_name,
            "months": attempt.request.months,
            "price": self._list_price(attempt),
            "stranger_at": attempt.stranger_at,
        }

    async def _take_payment(self, attempt: DeployAttempt) -> PaymentReceipt | None:
        if attempt.evidence is None:
            return None
        try:
            return await self._paywall.take(
                attempt.evidence,
                wallet=attempt.wallet,
                body_digest=attempt.request_digest,
                unique_name=attempt.request.unique_name,
            )
        except NOTHING_CREDITED as error:
            balance = await accounts.balance(self._db, attempt.wallet)
            active = await projects.sharing_credits(self._db, attempt.wallet)
            demanded = Shortfall(balance, active, shares=False)
            raise await self._demand(attempt, demanded, because=error) from error

    async def _enter(
        self,
        attempt: DeployAttempt,
        price: MicroUsd,
        receipt: PaymentReceipt | None,
        deployment_id: str,
    ) -> tuple[Admitted, tuple[str, ...]]:
        """Queues the deployment in one transaction, and gives the ids of those given up for it.

        After a credit nothing here answers 5xx.
        """
        try:
            return await self._decide(attempt, price, receipt, deployment_id)
        except MoorageError as error:
            if receipt is None:
                raise
            raise after_payment(error, receipt) from error

    async def _decide(
        self,
        attempt: DeployAttempt,
        price: MicroUsd,
        receipt: PaymentReceipt | None,
        deployment_id: str,
    ) -> tuple[Admitted, tuple[str, ...]]:
        try:
            async with self._db.transaction(durable=True) as tx:
                named = await projects.by_name(tx, attempt.request.unique_name)
                paid = receipt is not None
                demanded = await self._demanded(tx, attempt, price, named, paid=paid)
                if demanded is None:
                    if not paid:  # others may have been admitted meanwhile
                        await self._capacity.require_memory(tx, named.id if named else "")
                    return await self._insert(tx, attempt, price, receipt, deployment_id)
        except UniqueViolation as error:
            if receipt is not None:
                await self._paywall.refuse_used(
                    chain_id=receipt.chain_id, tx_hash=receipt.tx_hash, wallet=attempt.wallet
                )
            raise NameUnavailable from error
        if receipt is None:
            raise await self._demand(attempt, demanded)
        raise await self._demand(
            attempt, demanded, credited=receipt.credited, because=PaymentShort()
        )

    async def _insert(
        self,
        tx: Transaction,
        attempt: DeployAttempt,
        price: MicroUsd,
        receipt: PaymentReceipt | None,
        deployment_id: str,
    ) -> tuple[Admitted, tuple[str, ...]]:
        name, now_ms = attempt.request.unique_name, self._clock.now_ms()
        await self._quotes.check_name(wallet=attempt.wallet, unique_name=name, source=tx)
        sharing = await projects.sharing_credits(tx, attempt.wallet)
        project = await projects.by_name(tx, name)
        redeploys = project is not None
        await refuse_blocked(tx, attempt.wallet, project)
        under_way: list[Deployment] = []
        if project is None:
            project = new_project(attempt, self._month(attempt, price), now_ms=now_ms)
            await projects.add(tx, project)
            await quotes.release(tx, wallet=attempt.wallet, unique_name=name)
        else:
            sharing -= project.status in SHARING_STATUSES
            under_way = await projects.under_way_of(tx, project.id)
        same = [item.id for item in under_way if item.request_digest == attempt.request_digest]
        deployment_id = same[0] if same else deployment_id
        if receipt is not None:
            await self._bind(tx, receipt, attempt.wallet, project.id, deployment_id)
        given_up: tuple[str, ...] = ()
        if not same:
            project = await self._configured(tx, attempt, project)
            deployment = new_deployment(attempt, project, deployment_id, now_ms=now_ms)
            given_up = await succession.queue(tx, project, deployment)
        admitted = Admitted(
            project.id,
            deployment_id,
            sharing,
            redeploys=redeploys and not same,
            months=attempt.request.months,
            by_choice=attempt.use_existing_credits and attempt.evidence is None,
            receipt=receipt,
        )
        await idempotency.carried_out(tx, attempt.claim, admitted)
        return admitted, given_up

    async def _configured(
        self, tx: Transaction, attempt: DeployAttempt, project: Project
    ) -> Project:
        """The project, named and configured by what the attempt says over what there is."""
        request = attempt.request
        await configuration.describe(
            tx, project.id, display_name=request.display_name, description=request.description
        )
        now = await present(tx, self._vault, project)
        project = configured(project, now, request.settings, self._vault)
        await configuration.configure(
            tx, project.id, variables=project.variables, health_path=project.health_path
        )
        if project.volume:
            await configuration.give_volume(tx, project.id)
        return project

    async def _bind(
        self,
        tx: Transaction,
        receipt: PaymentReceipt,
        wallet: str,
        project_id: str,
        deployment_id: str,
    ) -> None:
        """Note what the payment paid for. Raises UniqueViolation when it has paid already."""
        await payments.add_use(
            tx,
            chain_id=receipt.chain_id,
            tx_hash=receipt.tx_hash,
            wallet=wallet,
            project_id=project_id,
            deployment_id=deployment_id,
        )


def _materialise(upload: Upload, destination: Path) -> None:
    destination.mkdir(mode=0o700, parents=True)
    upload.materialise(destination)

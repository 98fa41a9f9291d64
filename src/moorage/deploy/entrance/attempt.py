"""An attempt for a deployment, and what may be answered to it."""

import uuid
from typing import TypedDict

import msgspec

from moorage.errors import (
    DatabaseUnavailable,
    MoorageError,
    PaymentError,
    PaymentPending,
)
from moorage.money import NOTHING, MicroUsd
from moorage.payments.protocols.demand import PaymentRequired
from moorage.payments.protocols.evidence import Evidence, PaymentMeans
from moorage.payments.taking.receipt import PaymentReceipt
from moorage.planning.plan import Plan
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.records.quote import Quote
from moorage.storage.idempotency import Claim
from moorage.uploads.request import DeployRequest


class DeployAttempt(msgspec.Struct, frozen=True):
    """One wallet's request, with everything that decides its answer."""

    wallet: str
    request: DeployRequest
    request_digest: str
    plan: Plan
    means: PaymentMeans
    evidence: Evidence | None
    use_existing_credits: bool
    stranger_at: str | None = None
    """The client address that what is held for it counts for, as its wallet never paid."""
    claim: Claim | None = None
    """Of its Idempotency-Key, if it has one."""


class Admitted(msgspec.Struct, frozen=True):
    """A deployment that will be carried out, and all that its answer tells."""

    project_id: str
    deployment_id: str
    sharing_with: int
    """How many other projects share its credits."""
    redeploys: bool
    """Whether it is a new version of a project that there was."""
    months: int = 1
    """As the request asks for them."""
    by_choice: bool = False
    """Whether the request chose to share credits, and did not pay."""
    receipt: PaymentReceipt | None = None
    """Of the payment that came with the request."""


class DryRun(msgspec.Struct, frozen=True):
    """What a dry run tells."""

    amount: MicroUsd
    """What it costs: nothing for a redeploy while there are credits; else what a 402 would ask."""
    balance: MicroUsd
    active_projects: int
    payment_required: bool
    shares: bool
    """Whether a payment is required only because the credits there are would be shared."""


class Terms(msgspec.Struct, frozen=True):
    """What holds for an attempt before anybody looks at its wallet's balance."""

    price: MicroUsd
    own: Project | None
    """The wallet's project that has the name already."""
    living: list[Quote]
    """What was promised to the wallet for the name."""


class QuoteRequest(TypedDict):
    """What a quote is asked for."""

    wallet: str
    unique_name: str
    months: int
    price: MicroUsd
    stranger_at: str | None


class Shortfall(msgspec.Struct, frozen=True):
    """Why a payment is demanded, by the contract's decision table."""

    balance: MicroUsd
    active: int
    shares: bool
    lacking: MicroUsd = NOTHING
    """To an hour of all that would share the credits, where they are enough for the price."""


def payment_required(
    attempt: DeployAttempt,
    demanded: Shortfall,
    quote: Quote,
    *,
    credited: MicroUsd | None = None,
    because: PaymentError | None = None,
) -> PaymentRequired:
    """The demand for the quote's price, for what is left of it, or for debts as well."""
    return PaymentRequired(
        amount=max(
            demanded.lacking,
            due(quote.price_micro_usd, received=quote.received_micro_usd, balance=demanded.balance),
        ),
        balance=demanded.balance,
        active_projects=demanded.active,
        means=attempt.means,
        expires_at_ms=quote.expires_at_ms,
        wallet=attempt.wallet,
        body_digest=attempt.request_digest,
        warn_of_sharing=demanded.shares,
        credited=credited,
        because=because,
    )


def due(price: MicroUsd, *, received: MicroUsd, balance: MicroUsd) -> MicroUsd:
    """What is to be paid: the price, or what is left of one that was begun, and debts as well."""
    return price if received <= 0 <= balance else missing(price, balance)


def missing(price: MicroUsd, balance: MicroUsd) -> MicroUsd:
    """What a balance lacks to the price; the price, where it lacks nothing."""
    return MicroUsd(price - balance) if balance < price else price


def new_project(attempt: DeployAttempt, monthly: MicroUsd, *, now_ms: int) -> Project:
    """The project that a first deployment makes."""
    return Project(
        id=str(uuid.uuid4()),
        wallet=attempt.wallet,
        unique_name=attempt.request.unique_name,
        display_name=attempt.request.display_name,
        description=attempt.request.description or "",
        status=ProjectStatus.QUEUED,
        monthly_price_micro_usd=monthly,
        serving_deployment_id=None,
        created_at_ms=now_ms,
    )


def new_deployment(
    attempt: DeployAttempt, project: Project, deployment_id: str, *, now_ms: int
) -> Deployment:
    """The deployment that an attempt makes of its project as configured, still to be begun."""
    return Deployment(
        id=deployment_id,
        project_id=project.id,
        status=DeploymentStatus.QUEUED,
        request_digest=attempt.request_digest,
        plan=msgspec.json.encode(attempt.plan).decode(),
        note="",
        reason=None,
        reason_code=None,
        log_tail="",
        created_at_ms=now_ms,
        health_path=project.health_path,
        variables=project.variables,
    )


def after_payment(error: MoorageError, receipt: PaymentReceipt) -> MoorageError:
    """The error as it is told to somebody whose payment has just been credited."""
    if isinstance(error, DatabaseUnavailable):
        error = PaymentPending(
            "Your payment is credited; the deployment could not be recorded yet. "
            "Do not pay again: send the same payment again."
        )
    error.receipt = receipt
    return error

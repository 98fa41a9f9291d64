"""An attempt to deploy, and what may be answered to it."""

import msgspec

from moorage.money import MicroUsd
from moorage.payments.protocols.evidence import Evidence, PaymentMeans
from moorage.payments.taking.receipt import PaymentReceipt
from moorage.planning.plan import Plan
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

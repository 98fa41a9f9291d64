"""An attempt to deploy, and its possible outcomes."""

import msgspec

from moorage.engines.engine import WrittenFiles
from moorage.errors import PaymentMalformed
from moorage.money import MicroUsd
from moorage.payments.protocols.demand import Purchase
from moorage.payments.protocols.evidence import AuthorizationEvidence, Evidence, PaymentMeans
from moorage.payments.taking.outcome import PaymentReceipt
from moorage.planning.plan import Plan
from moorage.records.deployment import Finding
from moorage.records.project import Variables
from moorage.storage.idempotency import Claim
from moorage.uploads.request import DeployRequest
from moorage.wire.shape import WarningItem


class DeployAttempt(msgspec.Struct, frozen=True):
    """One wallet's request, with all that decides its outcome."""

    wallet: str
    request: DeployRequest
    request_digest: str
    plan: Plan
    means: PaymentMeans
    evidence: Evidence | None
    use_existing_credits: bool
    unreadable: PaymentMalformed | None = None
    """What is wrong with the payment that came along, if it can't be read."""
    stranger_at: str | None = None
    """The client address, if the wallet never paid; names held for it count for the address."""
    managed: str | None = None
    """The id of the project that it may change, if a manage token brought it."""
    leaves_volume: bool = False
    """Whether the upload has a volume, in place of which the project's own stays."""
    claim: Claim | None = None
    """The claim on its Idempotency-Key, if it has one."""
    findings: tuple[Finding, ...] = ()
    """What its files hold that the deployer should know of."""
    ignored_dockerfile: str = ""
    """The path of a Dockerfile that the plan does not follow."""
    written: WrittenFiles | None = None
    """What the version that it replaces has written; None if that is not known."""
    offers_volumes: bool = True
    """Whether this gateway has volumes."""
    releases_kept: int = 0
    """How many replaced versions this gateway keeps of a project."""
    volume_bytes: int = 0
    """The size of a new volume."""

    @property
    def is_open(self) -> bool:
        """Whether its payment alone says whose it is; nobody's before that, `wallet` is ""."""
        evidence = self.evidence
        return not self.wallet or (isinstance(evidence, AuthorizationEvidence) and evidence.openly)

    @property
    def is_veiled(self) -> bool:
        """Whether its answers tell nothing of the wallet's credits and other projects.

        These are told the wallet itself: neither a token of one project, nor whoever pays.
        """
        return self.is_open or self.managed is not None

    @property
    def speaker(self) -> str:
        """Who has signed it: the wallet, or what speaks for it in one matter alone."""
        if self.is_open:
            return f"payer {self.wallet}"
        return self.wallet if self.managed is None else f"project {self.managed}"

    @property
    def names(self) -> frozenset[str]:
        """What the transaction of its price is about: the wallet, and the name that it may hold.

        That also reads what the machine has promised and what the operator allows, which others
        may change meanwhile; whatever is admitted is judged again, by one that runs alone.
        """
        return frozenset({f"name {self.request.unique_name}", *filter(None, [self.wallet])})


class Admitted(msgspec.Struct, frozen=True):
    """A deployment that will be carried out, with all that its answer tells."""

    project_id: str
    deployment_id: str
    sharing_with: int
    """How many other projects share its credits."""
    redeploys: bool
    """Whether it is a new version of an existing project."""
    months: int = 1
    """As in the request."""
    by_choice: bool = False
    """Whether the request chose to share credits, and did not pay."""
    receipt: PaymentReceipt | None = None
    """The receipt of the request's payment."""
    warnings: tuple[WarningItem, ...] = ()
    again: bool = False
    """Whether the same payment has opened it before, with the same body."""


class DryRun(msgspec.Struct, frozen=True):
    """The outcome of a dry run."""

    amount: MicroUsd
    """What it costs: nothing for a redeploy with credits left; else what a 402 would demand."""
    balance: MicroUsd
    active_projects: int
    payment_required: bool
    shares: bool
    """Whether a payment is required only because the existing credits would be shared."""
    warnings: tuple[WarningItem, ...]
    variables: Variables
    """The project's, with those of the request."""
    volume: bool
    """Whether the project will have one."""
    health_path: str
    buys: Purchase
    """What the amount buys, together with the credits on hand."""
    redeploys: bool
    is_price: bool
    """Whether `amount` is the whole price, not what an earlier payment lacked of it."""

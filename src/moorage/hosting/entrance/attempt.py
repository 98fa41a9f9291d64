"""An attempt to deploy, the situation that it meets, its outcomes, and what to warn of."""

from collections.abc import Iterable

import msgspec
from msgspec import UNSET

from moorage.engines.engine import WrittenFiles
from moorage.errors import (
    AuthorizationRefused,
    CreditsShort,
    InvalidField,
    PaymentMalformed,
    UploadInvalid,
)
from moorage.hosting.entrance.configuration import (
    NOT_REMOVED,
    UNCONFIGURED,
    CurrentConfig,
    current_config,
    refuse_stopped,
)
from moorage.hosting.entrance.written import (
    Successor,
    Volume,
    finds_volume,
    how_to_keep,
    refuse_loss,
    said_of,
    volume_of,
)
from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.money import NOTHING, MicroUsd
from moorage.payments.price.quotes import Quotes
from moorage.payments.protocols.evidence import AuthorizationEvidence, Evidence, PaymentMeans
from moorage.payments.taking.outcome import PaymentReceipt
from moorage.payments.taking.payment_required import Purchase
from moorage.planning.plan import Plan, Risk
from moorage.records.access import StoredDelegation
from moorage.records.deployment import Finding, FindingKind, said_left_out
from moorage.records.payments import Quote
from moorage.records.project import Project, Variables
from moorage.storage.database import Source
from moorage.storage.idempotency import Claim
from moorage.storage.money import accounts, billing
from moorage.storage.vault import Vault
from moorage.uploads.request import DeployRequest
from moorage.wire.shape import WarningCode, WarningItem


class DeployAttempt(msgspec.Struct, frozen=True):
    """One wallet's request, with all that decides its outcome."""

    wallet: str
    request: DeployRequest
    request_digest: str
    plan: Plan
    means: PaymentMeans
    evidence: Evidence | None
    use_existing_credits: bool
    refused: AuthorizationRefused | PaymentMalformed | None = None
    """Why the payment that came along counts for nothing, if so."""
    stranger_at: str | None = None
    """The client address, if the wallet never paid; names held for it count for the address."""
    delegation: StoredDelegation | None = None
    """By which a delegate acts for the wallet, if one does."""
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

        Only the wallet is told these, not a token of one project, nor a payer.
        """
        of_one = self.delegation is not None and bool(self.delegation.project)
        return self.is_open or self.managed is not None or of_one

    @property
    def speaker(self) -> str:
        """Who has signed it: the wallet, or what speaks for it in one matter alone."""
        if self.is_open:
            return f"payer {self.wallet}"
        if self.delegation is not None:
            return f"{self.delegation.delegate} for {self.wallet}"
        return self.wallet if self.managed is None else f"project {self.managed}"

    @property
    def names(self) -> frozenset[str]:
        """The `of` of the transaction that prices it: the wallet, and the name that it may hold.

        It also reads rows that others may change meanwhile, such as the machine's room: admission
        reads them again, in a transaction that runs alone.
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
    risks: tuple[Risk, ...]
    """What may keep the app from being built, started or answering."""
    variables: Variables
    """The project's, with those of the request."""
    volume: bool
    """Whether the project will have one."""
    health_path: str
    size: str
    buys: Purchase
    """What the amount buys, together with the credits on hand."""
    redeploys: bool
    is_price: bool
    """Whether `amount` is the whole price, not what an earlier payment lacked of it."""


class Situation(msgspec.Struct, frozen=True):
    """All that decides on price and entrance, as one transaction reads it."""

    own: Project | None
    """The wallet's existing project of that name."""
    now: CurrentConfig
    """How that is configured."""
    living: list[Quote]
    """The wallet's valid quotes for the name."""
    balance: MicroUsd
    """Of the wallet's credits, or what the existing project can burn."""
    owes: MicroUsd
    """What apps have burned of it that is not charged yet."""
    sharing: list[MicroUsd]
    """The monthly price of each project that shares it."""

    @property
    def active(self) -> int:
        """The contract's `active_projects`."""
        return len(self.sharing)

    def successor(self, attempt: DeployAttempt) -> Successor:
        """Returns what becomes of the files of the version that serves."""
        settings = attempt.request.settings
        return Successor(
            volume=volume_of(self.own, wanted=bool(settings.volume)),
            releases_kept=attempt.releases_kept,
            finds_volume=finds_volume(
                attempt.findings, attempt.plan, self.now.with_settings(settings).run
            ),
            volume_bytes=attempt.volume_bytes,
            discard=attempt.request.discard_written,
            named="This deploy",
        )

    def size(self, attempt: DeployAttempt) -> str:
        """Returns the size of the version that the attempt makes."""
        return attempt.request.settings.size or self.now.size

    def will_have_volume(self, attempt: DeployAttempt) -> bool:
        """Returns whether the project has a volume, or gets one by the attempt."""
        return bool(attempt.request.settings.volume) or (self.own is not None and self.own.volume)

    def told(self, attempt: DeployAttempt) -> "Situation":
        """Returns what the attempt's answers may tell of it."""
        if not attempt.is_veiled:
            return self
        return msgspec.structs.replace(self, balance=NOTHING, owes=NOTHING, sharing=[])

    @property
    def received(self) -> MicroUsd:
        """What was paid so far towards the name."""
        return max((quote.received_micro_usd for quote in self.living), default=MicroUsd(0))


OPENED = Situation(
    own=None,
    now=UNCONFIGURED,
    living=[],
    balance=NOTHING,
    owes=NOTHING,
    sharing=[],
)
"""That of every attempt for which a payment alone speaks."""


async def read_situation(
    source: Source,
    attempt: DeployAttempt,
    *,
    quotes: Quotes,
    metering: Metering,
    vault: Vault,
) -> Situation:
    """Reads the situation; raises errors that must come before any payment.

    These are NameUnavailable, ProjectBlocked, ProjectPaused, VariablesUnreadable, FilesWouldBeLost
    unless the same deployment is under way already, and InvalidField for too many variables, or a
    volume that is to be removed. Without a signature nothing of the payer's counts, and any taken
    name raises NameUnavailable.
    """
    wallet, request = attempt.wallet, attempt.request
    if attempt.is_open:
        await quotes.require_free(source, payer=wallet, unique_name=request.unique_name)
        UNCONFIGURED.with_settings(request.settings)
        if request.purse is not None:
            raise InvalidField("purse", "needs the wallet's signature: a payment alone sets none")
        return OPENED
    own, living = await quotes.of_name(source, wallet=wallet, unique_name=request.unique_name)
    row = await accounts.wallet_row(source, wallet)
    refuse_stopped(row, own)
    if own is not None and own.volume and request.settings.volume is False:
        raise InvalidField("settings.volume", NOT_REMOVED)
    now = UNCONFIGURED if own is None else await current_config(source, vault, own)
    now.with_settings(request.settings)
    holder, balance = wallet, row.balance
    if own is not None:
        reach = await ledger.reach(source, own.id, wallet=wallet)
        balance = reach.total if reach.total > 0 else balance
        if reach.wallet is None:
            holder, balance = accounts.purse_of(own.id), reach.purse
            await _require_purse(source, own, balance)
    commitments = await billing.of_holder(source, holder)
    situation = Situation(
        own=own,
        now=now,
        living=living,
        balance=balance,
        owes=metering.owed(commitments.burning),
        sharing=commitments.sharing,
    )
    if attempt.request_digest not in {each.request_digest for each in now.under_way}:
        refuse_loss(attempt.written, situation.successor(attempt))
    return situation


async def _require_purse(source: Source, own: Project, balance: MicroUsd) -> None:
    """Raises CreditsShort if a new version of a project would wait for its purse to be filled.

    A payment would not fill it: it goes to the wallet's credits.
    """
    if balance <= 0 and not await ledger.opened_apart(source, own.id):
        raise CreditsShort(
            "Your project lives from its purse alone, which is empty. Add to it: "
            f'PUT /agent/projects/{own.id}/purse {{"add_usd": …}}; then send this again.'
        )


_VOLUME_LEFT_OUT = WarningItem(
    code=WarningCode.VOLUME_LEFT_OUT,
    field="upload",
    message="The export's volume is left out: the project has its own, which stays as it is. Under "
    "another uniqueName, the app begins with the export's.",
)
_PURSE_UNCHANGED = WarningItem(
    code=WarningCode.UNKNOWN_FIELD,
    field="purse",
    message="purse has no effect on a project that is there: PUT /agent/projects/{projectId}/purse "
    "changes what it has.",
)
_CREDENTIALS = (FindingKind.CREDENTIAL_FILE, FindingKind.CREDENTIAL_TEXT)


def of_attempt(attempt: DeployAttempt, situation: Situation) -> tuple[WarningItem, ...]:
    """Returns what the deployer should know before the deploy is made."""
    by = situation.successor(attempt)
    told = of_request(attempt) + warnings(attempt.findings, volume=by.volume)
    if attempt.ignored_dockerfile:
        told = (*told, _not_followed(attempt.ignored_dockerfile))
    if attempt.leaves_volume:
        told = (*told, _VOLUME_LEFT_OUT)
    if situation.own is None:
        return told
    if attempt.request.purse is not None and attempt.delegation is None:
        told = (*told, _PURSE_UNCHANGED)
    return (*written_warnings(attempt.written, by), *told)


def open_risks(attempt: DeployAttempt, situation: Situation) -> tuple[Risk, ...]:
    """Returns the plan's risks without those that the project's variables prevent."""
    variables = situation.now.with_settings(attempt.request.settings)
    given = {*variables.run, *variables.build}
    return tuple(
        risk
        for risk in attempt.plan.risks or ()
        if not risk.variables or not given.issuperset(risk.variables)
    )


def with_risks(attempt: DeployAttempt, situation: Situation) -> tuple[WarningItem, ...]:
    """Returns the risks, as warnings, and what else to know before the deploy is made."""
    risks = (
        WarningItem(code=risk.code, message=risk.message, path=risk.path or UNSET)
        for risk in open_risks(attempt, situation)
    )
    return (*risks, *of_attempt(attempt, situation))


def of_request(attempt: DeployAttempt) -> tuple[WarningItem, ...]:
    """Returns what the body alone gives rise to: keys that have no effect."""
    return tuple(
        WarningItem(
            code=WarningCode.UNKNOWN_FIELD,
            field=key,
            message=f"{key} is not a field of a deploy: it has no effect.",
        )
        for key in attempt.request.unknown
    )


def written_warnings(written: WrittenFiles | None, by: Successor) -> tuple[WarningItem, ...]:
    """Returns what to say of the files that a project's running version has written."""
    if written is None or written.files == 0:
        return ()
    return (WarningItem(code=WarningCode.FILES_WRITTEN, message=said_of(written, by)),)


def warnings(findings: Iterable[Finding], *, volume: Volume) -> tuple[WarningItem, ...]:
    """Returns the warnings that follow from what was found in the files of a project."""
    found = list(findings)
    told = [_secret(each) for each in found if each.kind in _CREDENTIALS]
    writer = next((each for each in found if each.kind is FindingKind.WRITES), None)
    names_volume = any(each.kind is FindingKind.NAMES_VOLUME for each in found)
    has_volume = volume in (Volume.BEGINS, Volume.THERE)
    told += [_left_out(each) for each in found if each.kind is FindingKind.LEFT_OUT]
    if writer is not None and not (has_volume and names_volume):
        told.append(_not_kept(writer, volume))
    return tuple(told)


def refuse_credentials(findings: Iterable[Finding]) -> None:
    """Raises UploadInvalid for the first secret that was found."""
    found = next((each for each in findings if each.kind in _CREDENTIALS), None)
    if found is not None:
        problem = (
            f"holds {found.what}, and this gateway takes no secrets in uploads: leave it out, and "
            "send what the app needs of it as variables (settings.runEnvs)"
        )
        raise UploadInvalid(problem, path=found.path)


def _secret(found: Finding) -> WarningItem:
    return WarningItem(
        code=WarningCode.CREDENTIAL,
        path=found.path,
        message=f"{found.path} holds {found.what}. Leave it out of the upload, and send what the "
        "app needs of it as variables (settings.runEnvs), which are stored encrypted.",
    )


def _not_followed(path: str) -> WarningItem:
    return WarningItem(
        code=WarningCode.DOCKERFILE_IGNORED,
        path=path,
        message=f"{path} is not followed: the app is built and started by its other files. To "
        "build what it says, deploy with settings.hasDockerfile: true.",
    )


def _left_out(found: Finding) -> WarningItem:
    return WarningItem(
        code=WarningCode.PART_LEFT_OUT, path=found.path, message=said_left_out(found)
    )


def _not_kept(writer: Finding, volume: Volume) -> WarningItem:
    return WarningItem(
        code=WarningCode.FILES_NOT_KEPT,
        path=writer.path,
        message=f"{writer.path} writes files ({writer.what}). A deploy begins without those that "
        f"the version before has written. {how_to_keep(None, volume)}",
    )

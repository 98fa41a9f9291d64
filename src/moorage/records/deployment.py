"""A deployment: one version of a project, its states, its job, its logs, and its findings."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from moorage.money import MicroUsd
from moorage.records.project import Kind, ProjectStatus
from moorage.records.size import STANDARD


class FindingKind(StrEnum):
    """What was found."""

    CREDENTIAL_FILE = "credential_file"  # a file that is nothing but a secret
    CREDENTIAL_TEXT = "credential_text"  # a secret within another file
    WRITES = "writes"  # code that writes files, or the library of a database in files
    LEFT_OUT = "left_out"  # a directory of pages, or with a program, which the app does not use
    NAMES_VOLUME = "names_volume"  # code that names the volume's directory


class Finding(msgspec.Struct, frozen=True):
    """One finding; `what` completes “<path> holds …” or “<path> uses …”."""

    kind: FindingKind
    path: str
    what: str


def kept(findings: Iterable[Finding]) -> list[Finding]:
    """Returns the findings that are stored: those that a gateway of the version before can read."""
    return [found for found in findings if found.kind is not FindingKind.LEFT_OUT]


def said_left_out(found: Finding) -> str:
    """Returns the sentence about a directory that the app leaves out."""
    if not found.what:
        return (
            f"{found.path} is a page beside the app's directory, and nothing in the app's code "
            "names it: it is not served. Move it to where the app serves it."
        )
    return (
        f"{found.path}/ has {found.what}, and nothing in the app's code names it: it is not "
        f"served. Let the app serve it, or deploy it by itself (settings.directoryPath: "
        f"{found.path})."
    )


class JobKind(StrEnum):
    """What a job does to its subject."""

    DEPLOY = "deploy"  # subject: a deployment


class JobStatus(StrEnum):
    """The states of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class Job(msgspec.Struct, frozen=True):
    """A claimed job. Writes made under an older `fence` than the row's change nothing."""

    id: str
    kind: JobKind
    subject_id: str
    step: str
    attempts: int
    fence: int


class JobPlaces(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs may run at once, how many of these may build, in all and of one wallet."""

    jobs: int
    builds: int
    builds_of_wallet: int


class LostJob(Exception):
    """Another worker holds this job now, or its project is being deleted."""


class LogKind(StrEnum):
    """Which of a deployment's two logs."""

    BUILD = "build"
    RUNTIME = "runtime"


class LogStream(StrEnum):
    """Who wrote a line of a log."""

    OUT = "out"  # the build or the app, on standard output
    ERR = "err"  # the build or the app, on standard error
    GATEWAY = "gateway"


class DeploymentStatus(StrEnum):
    """Where a deployment stands."""

    QUEUED = "queued"
    BUILDING = "building"
    DEPLOYING = "deploying"  # built; starting, then waiting until it answers
    READY = "ready"  # its address has answered
    FAILED = "failed"
    SUPERSEDED = "superseded"  # a later one serves
    STOPPED = "stopped"  # its project was deleted


UNDER_WAY = (DeploymentStatus.QUEUED, DeploymentStatus.BUILDING, DeploymentStatus.DEPLOYING)

TRANSITIONS: dict[DeploymentStatus, tuple[DeploymentStatus, ...]] = {
    DeploymentStatus.QUEUED: (
        DeploymentStatus.BUILDING,
        DeploymentStatus.FAILED,
        DeploymentStatus.STOPPED,
    ),
    DeploymentStatus.BUILDING: (
        DeploymentStatus.DEPLOYING,
        DeploymentStatus.FAILED,
        DeploymentStatus.STOPPED,
    ),
    DeploymentStatus.DEPLOYING: (
        DeploymentStatus.READY,
        DeploymentStatus.FAILED,
        DeploymentStatus.STOPPED,
    ),
    DeploymentStatus.READY: (DeploymentStatus.SUPERSEDED, DeploymentStatus.STOPPED),
    DeploymentStatus.FAILED: (DeploymentStatus.STOPPED,),
    DeploymentStatus.SUPERSEDED: (DeploymentStatus.STOPPED,),
    DeploymentStatus.STOPPED: (),
}


class ReleaseStep(StrEnum):
    """How far a deployment's release command has come; it is never begun twice."""

    BEGUN = "begun"
    DONE = "done"


class Origin(StrEnum):
    """What made a deployment."""

    UPLOAD = "upload"
    ROLLBACK = "rollback"  # an earlier one's files and configuration
    CONFIGURATION = "configuration"  # the serving one's files, other variables or health path


class Advice(msgspec.Struct, frozen=True):
    """What may help a failed deployment."""

    next_actions: list[str] = []
    next_settings: dict[str, Any] = {}  # to send in `settings`, beside what was sent


class Deployment(msgspec.Struct, frozen=True):
    """One row of `deployments`; `plan` is JSON, which is decoded where it is needed."""

    id: str
    project_id: str
    status: DeploymentStatus
    request_digest: str
    plan: str
    note: str
    reason: str | None
    reason_code: str | None
    log_tail: str
    created_at_ms: int
    origin: Origin = Origin.UPLOAD
    copy_of: str | None = None  # whose built files it has; none for an upload
    health_path: str = "/"
    variables: str = ""  # sealed
    superseded_at_ms: int | None = None
    is_kept: bool = True
    findings: str = "[]"  # JSON, as the plan
    advice: str = "{}"  # JSON: an `Advice`, if it failed
    engine: str = ""  # the kind of engine that it is built on; "" for none yet, or not known
    acted_by: str = ""  # who asked for it in place of the wallet
    release_step: ReleaseStep | None = None
    size: str = STANDARD

    @property
    def configuration(self) -> tuple[str, str, str]:
        """Variables, health path and size of its app; they may change until it is `ready`."""
        return (self.variables, self.health_path, self.size)

    @property
    def acting(self) -> dict[str, str]:
        """What its events say of who asked for it, if that was not its wallet."""
        return {"acted_by": self.acted_by} if self.acted_by else {}


class DeploymentView(msgspec.Struct, frozen=True):
    """The fields of a deployment and its project that its status is derived from."""

    id: str
    project_id: str
    status: DeploymentStatus
    note: str
    reason: str | None
    reason_code: str | None
    log_tail: str
    advice: str
    wallet: str  # of the project, as the following fields
    unique_name: str
    project_status: ProjectStatus
    serving_deployment_id: str | None
    blocked_reason: str | None
    no_space_since_ms: int | None
    paused_at_ms: int | None
    down_since_ms: int | None
    monthly_price_micro_usd: MicroUsd
    is_kept: bool  # of the deployment: whether its logs are kept
    findings: str  # of the deployment
    volume: bool  # of the project
    volume_after: str | None = None  # of the project
    kind: Kind = Kind.WEB  # of the project
    release_step: ReleaseStep | None = None  # of the deployment

    @property
    def volume_begins(self) -> bool:
        """As `Project.volume_begins`."""
        return (
            self.volume
            and self.volume_after is not None
            and (self.volume_after == self.serving_deployment_id)
        )


class Summary(msgspec.Struct, frozen=True):
    """A deployment as lists show it."""

    id: str
    status: DeploymentStatus
    reason: str | None
    reason_code: str | None
    created_at_ms: int
    ended_at_ms: int | None
    origin: Origin
    copy_of: str | None
    is_kept: bool
    acted_by: str

"""Deployments: their status, list, rollback, cancellation and logs."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from moorage.errors import FailureCause
from moorage.planning.plan import Plan
from moorage.records.deployment import DeploymentStatus, LogKind, LogStream, Origin
from moorage.records.project import Kind
from moorage.wire.runs import RunItem
from moorage.wire.shape import Absent, Body, CamelBody, Time, WarningItem

Kept = Annotated[
    bool, Meta(description="false: it is kept no longer, so whatever was written is gone")
]


Place = Annotated[str, Meta(description="a place in the log; `after` takes it")]


class LogItem(Body, frozen=True, kw_only=True):
    """One line. Its text may hold any character but a line feed, terminal escapes too."""

    time: Annotated[Time | None, Meta(description="null where a crash of the machine took it")]
    stream: LogStream
    text: str


class LogBody(CamelBody, frozen=True, kw_only=True):
    """Lines of a log, oldest first. `ended`: nothing more can come behind `next`."""

    project_id: Annotated[str, Absent("")]
    deployment_id: Annotated[str, Absent("")]
    run: RunItem | UnsetType = UNSET
    kind: Annotated[LogKind, Absent("")]
    lines: list[LogItem]
    next: Place
    ended: Annotated[bool, Absent(False)]
    kept: Annotated[Kept, Absent(True)]


class ProjectLogItem(CamelBody, frozen=True, kw_only=True):
    """One line, and whose it is."""

    deployment_id: str
    time: Time | None
    stream: LogStream
    text: str


class ProjectLogBody(CamelBody, frozen=True, kw_only=True):
    """Lines of a project's deployments, oldest first."""

    project_id: str
    kind: LogKind
    lines: list[ProjectLogItem]
    next: Place
    ended: bool = False


class LogEnd(Body, frozen=True, kw_only=True):
    """What the last event of a stream holds."""

    next: Place
    kept: Kept


RELEASING = "releasing"
"""A stage within `deploying`: the release command runs."""

Stage = Annotated[
    str,
    Meta(
        extra_json_schema={
            "enum": [*DeploymentStatus, RELEASING, "restarting", "crash_looping", "suspended"]
        }
    ),
]

Cause = Annotated[str, Meta(extra_json_schema={"enum": [*FailureCause]})]


class DeploymentProgress(Body, frozen=True, kw_only=True):
    """Where a deployment stands. `endpoint`: when `ready`, null of a worker; `reason`: `failed`."""

    status: Literal["deploying", "ready", "failed"]
    deployment_id: str
    deployment_status: Stage | UnsetType = UNSET
    position: (
        Annotated[int, Meta(description="its place in the queue; the first is begun next", ge=1)]
        | UnsetType
    ) = UNSET
    endpoint: str | UnsetType | None = UNSET
    kind: Kind | UnsetType = UNSET
    message: str | UnsetType = UNSET
    warnings: list[WarningItem] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    reason_code: Cause | UnsetType = UNSET
    log_tail: str | UnsetType = UNSET
    serving_deployment_id: (
        Annotated[str, Meta(description="of a failed one: the one that serves all the same")]
        | UnsetType
    ) = UNSET
    next_actions: list[str] | UnsetType = UNSET
    next_settings: (
        Annotated[
            dict[str, Any],
            Meta(description="of a failed one: what to send in `settings`, beside what was sent"),
        ]
        | UnsetType
    ) = UNSET
    restarts: int | UnsetType = UNSET  # this and what follows: of one that is crash-looping
    exit_code: int | UnsetType = UNSET
    out_of_memory: bool | UnsetType = UNSET
    next_try_at: Time | UnsetType = UNSET


class RollbackBody(CamelBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be served again; by default, what served before."""

    deployment_id: (
        Annotated[str, Meta(description="one whose `canRollBack` is true", max_length=64)] | None
    ) = None


class DeploymentItem(CamelBody, frozen=True, kw_only=True):
    """One deployment of a list; `copyOf` names the one whose built files it has."""

    id: str
    status: DeploymentStatus
    origin: Annotated[Origin, Absent("upload")]
    copy_of: str | UnsetType = UNSET
    created_at: Annotated[Time, Absent("")]
    ended_at: Annotated[Time | None, Absent(None)]  # when it became ready or failed
    is_serving: Annotated[bool, Absent(False)]
    can_roll_back: Annotated[bool, Absent(False)]
    reason: str | UnsetType = UNSET
    reason_code: Cause | UnsetType = UNSET
    acted_by: Annotated[str, Meta(description="the delegate or token that asked for it")] | (
        UnsetType
    ) = UNSET


class DeploymentShown(DeploymentItem, frozen=True, kw_only=True):
    """One deployment whole: how it was built, and when each step began."""

    plan: Plan
    build_started_at: Annotated[Time | None, Absent(None)]
    build_seconds: Annotated[float | None, Absent(None)]
    superseded_at: Annotated[Time | None, Absent(None)]


class DeploymentList(CamelBody, frozen=True, kw_only=True):
    """A page of a project's deployments, newest first."""

    project_id: str
    deployments: list[DeploymentItem]
    next: Annotated[str | None, Absent(None)]


class Cancelled(CamelBody, frozen=True, kw_only=True):
    """A deployment that was ended; if a version served before it, that serves on."""

    project_id: str
    deployment_id: str
    status: Annotated[Literal["failed"], Absent("failed")] = "failed"
    reason_code: Annotated[Literal["cancelled"], Absent("cancelled")] = "cancelled"

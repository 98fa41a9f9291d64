"""Deployments: where one stands, listed, rolled back to, cancelled."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from moorage.errors import FailureCause
from moorage.planning.plan import Plan
from moorage.records.deployment import DeploymentStatus, Origin
from moorage.wire.shape import Absent, Body, CamelBody, Time, WarningItem

Stage = Annotated[
    str,
    Meta(
        extra_json_schema={"enum": [*DeploymentStatus, "restarting", "crash_looping", "suspended"]}
    ),
]

Cause = Annotated[str, Meta(extra_json_schema={"enum": [*FailureCause]})]


class DeploymentProgress(Body, frozen=True, kw_only=True):
    """Where a deployment stands. `endpoint` is there when `ready`, `reason` when `failed`."""

    status: Literal["deploying", "ready", "failed"]
    deployment_id: str
    deployment_status: Stage | UnsetType = UNSET
    position: (
        Annotated[int, Meta(description="its place in the queue; the first is begun next", ge=1)]
        | UnsetType
    ) = UNSET
    endpoint: str | UnsetType = UNSET
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

"""The bodies of a project's deployments: listed, rolled back to, cancelled."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from moorage.api.bodies import CamelBody, Cause, Time
from moorage.records.deployment import DeploymentStatus, Origin


class RollbackBody(CamelBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be served again; without a deployment, what served before the present one."""

    deployment_id: (
        Annotated[str, Meta(description="one whose `canRollBack` is true", max_length=64)] | None
    ) = None


class DeploymentItem(CamelBody, frozen=True, kw_only=True):
    """One deployment of a list; `copyOf` names the one whose built files it has."""

    id: str
    status: DeploymentStatus
    origin: Origin
    copy_of: str | UnsetType = UNSET
    created_at: Time
    ended_at: Time | None  # when it became ready or failed
    is_serving: bool
    can_roll_back: bool
    reason: str | UnsetType = UNSET
    reason_code: Cause | UnsetType = UNSET


class DeploymentList(CamelBody, frozen=True, kw_only=True):
    """A page of a project's deployments, newest first; `next` is the `before` of the next page."""

    project_id: str
    deployments: list[DeploymentItem]
    next: str | None


class Cancelled(CamelBody, frozen=True, kw_only=True):
    """A deployment that was ended; if a version served before it, that serves on."""

    project_id: str
    deployment_id: str
    status: Literal["failed"] = "failed"
    reason_code: Literal["cancelled"] = "cancelled"

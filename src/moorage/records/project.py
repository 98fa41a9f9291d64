"""A project: a name, its owner, and the states it goes through."""

from enum import StrEnum

import msgspec

from moorage.money import MicroUsd


class ProjectStatus(StrEnum):
    """Where a project stands, in the contract's words (1.4)."""

    QUEUED = "queued"  # its first deployment waits for a worker
    BUILDING = "building"
    DEPLOYING = "deploying"  # built, starting
    ACTIVE = "active"  # its address leads to an app
    FAILED = "failed"  # no deployment has succeeded
    SUSPENDED = "suspended"  # out of credits, or of disk: stopped and kept
    DELETING = "deleting"
    DELETED = "deleted"


SHARING_STATUSES = (
    ProjectStatus.QUEUED,
    ProjectStatus.BUILDING,
    ProjectStatus.DEPLOYING,
    ProjectStatus.ACTIVE,
)
"""What the contract calls active: those that share a wallet's credits."""


class Project(msgspec.Struct, frozen=True):
    """One row of `projects`."""

    id: str
    wallet: str
    unique_name: str
    display_name: str
    description: str
    status: ProjectStatus
    monthly_price_micro_usd: MicroUsd
    serving_deployment_id: str | None
    created_at_ms: int
    suspended_at_ms: int | None = None
    blocked_reason: str | None = None  # the operator's, who alone can end that
    asleep_since_ms: int | None = None
    no_space_since_ms: int | None = None  # it was ended as the machine's disk was nearly full
    down_since_ms: int | None = None  # its app should run and does not
    health_path: str = "/"
    variables: str = ""  # sealed; what the next deployment gets, as is `health_path`
    volume: bool = False

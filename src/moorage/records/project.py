"""A project: its name, its owner and its states."""

from enum import StrEnum

import msgspec

from moorage.money import MicroUsd


class ProjectStatus(StrEnum):
    """Where a project stands, in the contract's words (1.4)."""

    QUEUED = "queued"  # its first deployment waits for a worker
    BUILDING = "building"
    DEPLOYING = "deploying"  # built, starting
    ACTIVE = "active"  # an app serves its address
    FAILED = "failed"  # no deployment has succeeded
    SUSPENDED = "suspended"  # out of credits or of disk, paused, or blocked: stopped and kept
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
    blocked_reason: str | None = None  # why the operator has it suspended
    asleep_since_ms: int | None = None
    no_space_since_ms: int | None = None  # suspended because the machine's disk was nearly full
    paused_at_ms: int | None = None  # suspended by its owner since then
    down_since_ms: int | None = None  # its app should run and does not
    health_path: str = "/"  # of the next deployment
    variables: str = ""  # of the next deployment, sealed
    volume: bool = False
    volume_after: str | None = None  # the deployment that served before it, and runs without it
    uncertified_since_ms: int | None = None  # served over plain HTTP, and free, since then
    months: int | None = None  # its first price holds for so many of running; None: not recorded

    @property
    def volume_begins(self) -> bool:
        """Whether its volume begins with the next version that serves."""
        return (
            self.volume
            and self.volume_after is not None
            and (self.volume_after == self.serving_deployment_id)
        )

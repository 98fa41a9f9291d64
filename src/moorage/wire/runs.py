"""Runs of a project, and its schedules."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from moorage.records.run import DEFAULT_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS, RunKind, RunStatus
from moorage.wire.shape import Body, CamelBody, Time


class RunBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command that is to run once, in a copy of the serving version's files."""

    command: Annotated[str, Meta(description="a line for sh -c, of at most 4096 bytes")]
    timeout_seconds: Annotated[int, Meta(description=f"at most {MAX_TIMEOUT_SECONDS}")] = (
        DEFAULT_TIMEOUT_SECONDS
    )
    size: Annotated[str, Meta(description="null: the app's")] | None = None


class RunQueued(CamelBody, frozen=True, kw_only=True):
    """A run that begins as soon as there is a place."""

    run_id: str
    status: RunStatus = RunStatus.QUEUED


class RunItem(CamelBody, frozen=True, kw_only=True):
    """One run. What it writes beside the project's volume is gone when it ends."""

    run_id: str
    status: RunStatus
    kind: RunKind
    command: str | UnsetType = UNSET
    path: str | UnsetType = UNSET
    schedule: str | UnsetType = UNSET
    due_at: Time | UnsetType = UNSET
    missed: Annotated[int, Meta(description="due times passed for which it stands")] | UnsetType = (
        UNSET
    )
    deployment_id: str | UnsetType = UNSET
    timeout_seconds: int
    size: str | UnsetType = UNSET
    exit_code: (
        Annotated[int, Meta(description="or the status that the app answered")] | UnsetType
    ) = UNSET
    reason: str | UnsetType = UNSET
    created_at: Time
    started_at: Time | UnsetType = UNSET
    ended_at: Time | UnsetType = UNSET
    ran_seconds: float
    charged_usd: float
    has_log: bool
    acted_by: str | UnsetType = UNSET


class RunList(CamelBody, frozen=True, kw_only=True):
    """A page of a project's runs, newest first."""

    project_id: str
    runs: list[RunItem]
    next: str | None


class ScheduleItem(CamelBody, frozen=True, kw_only=True):
    """Work by the clock, of the version that serves."""

    name: str
    cron: str
    timezone: str
    command: str | UnsetType = UNSET
    path: str | UnsetType = UNSET
    timeout_seconds: int
    next_due_at: Time
    last_run: RunItem | UnsetType = UNSET

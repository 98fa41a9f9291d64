"""Work of a project that is no web request: its runs, and the schedules that make some of them."""

from enum import StrEnum

import msgspec

from moorage.money import NOTHING, MicroUsd

DEFAULT_TIMEOUT_SECONDS = 600
MAX_TIMEOUT_SECONDS = 3_600
MAX_SCHEDULES = 20


class RunKind(StrEnum):
    """What a run does."""

    COMMAND = "command"  # runs a command in a copy of the serving version's files
    REQUEST = "request"  # asks the app for a path, as a visitor would


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"  # waits for a place
    RUNNING = "running"  # is prepared, or runs
    SUCCEEDED = "succeeded"  # ended with exit code 0, or was answered below 400
    FAILED = "failed"  # ended otherwise, or could not be started
    TIMED_OUT = "timed_out"  # took longer than it may, and was ended
    CANCELLED = "cancelled"  # its owner ended it, or its project may not run any more
    INTERRUPTED = "interrupted"  # how it ended is not known; it is not repeated
    SKIPPED = "skipped"  # was due and did not run, and why


RUN_TRANSITIONS = {
    RunStatus.QUEUED: (RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.FAILED),
    RunStatus.RUNNING: (
        RunStatus.SUCCEEDED,
        RunStatus.FAILED,
        RunStatus.TIMED_OUT,
        RunStatus.CANCELLED,
        RunStatus.INTERRUPTED,
    ),
    RunStatus.SUCCEEDED: (),
    RunStatus.FAILED: (),
    RunStatus.TIMED_OUT: (),
    RunStatus.CANCELLED: (),
    RunStatus.INTERRUPTED: (),
    RunStatus.SKIPPED: (),
}
"""What a run may become next."""

TOLD_RUNS = (RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.INTERRUPTED)
"""Ends of which an event tells."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `runs`, with what was billed of it."""

    id: str  # also names what an engine has of it, as a deployment's does
    project_id: str
    wallet: str
    kind: RunKind
    command: str = ""  # a line for sh -c
    path: str = ""  # of a request
    size: str = ""
    timeout_seconds: int
    status: RunStatus
    created_at_ms: int
    deployment_id: str | None = None  # whose files it has, once it was begun
    schedule: str | None = None  # the name of the schedule that it is of
    due_at_ms: int | None = None
    missed: int = 0  # due times for which it stands, that were passed more than a minute before
    exit_code: int | None = None  # or the status that a request was answered with
    reason: str = ""  # why it did not succeed, for a person
    started_at_ms: int | None = None  # when its command was started, or its request sent
    ended_at_ms: int | None = None
    acted_by: str = ""  # who asked for it in place of the wallet
    is_kept: bool = False  # whether its log is kept
    holds: bool = False  # whether an engine may have more of it than its log
    ran_ms: int = 0
    charged_micro_usd: MicroUsd = NOTHING

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end."""
        return not RUN_TRANSITIONS[self.status]


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `schedules`: of the version that serves."""

    project_id: str
    name: str
    cron: str
    timezone: str
    command: str  # "" where it is a request
    path: str
    timeout_seconds: int
    next_due_at_ms: int
    is_held: bool = False  # its project could not run when it was due: those times are told only

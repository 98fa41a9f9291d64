"""A job: durable work, claimed by one worker at a time."""

from enum import StrEnum

import msgspec


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

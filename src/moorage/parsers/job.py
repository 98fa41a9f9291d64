"""What a parser process is asked and what it answers, as they pass the socket between."""

import msgspec

from moorage.errors import (
    FieldError,
    InvalidField,
    InvalidRequest,
    PlanNotFound,
    RuntimeUnsupported,
    UploadInvalid,
)
from moorage.planning.plan import Plan, Settings
from moorage.planning.toolbox import Toolbox
from moorage.uploads.limits import UploadLimits
from moorage.uploads.request import DeployRequest
from moorage.uploads.unpacking import Unpacked

HEADER_BYTES = 4  # of a message: its length, big-endian
MAX_ANSWER_BYTES = 8 * 1024 * 1024  # 5,000 paths of 1 KiB, and more
MAX_PLAN_BYTES = 256 * 1024
_MAX_NAME = 1_024  # characters of a path or a field that are repeated
_MAX_PROBLEM = 4_096  # characters of a sentence
_MAX_LOOKED_FOR = 64  # things looked for


class Describe(msgspec.Struct, frozen=True, tag=True):
    """To parse a body's skeleton: see `deploy.upload.parsing.describe`."""

    skeleton: bytes
    damaged: int | None
    limits: UploadLimits


class Unpack(msgspec.Struct, frozen=True, tag=True):
    """To unpack an archive into the last descriptor that comes along.

    The archive is the first one, or `data` if there is only one.
    """

    data: bytes | None
    limits: UploadLimits


class MakePlan(msgspec.Struct, frozen=True, tag=True):
    """To plan a tree. The file at an index has `sizes` bytes at `offsets`.

    An offset below 0 is one of `data`, from −1 downwards; others are of the one descriptor that
    comes along.
    """

    settings: Settings
    toolbox: Toolbox | None  # None: as it was in the job before
    paths: list[str]
    sizes: list[int]
    offsets: list[int]
    data: bytes


Job = Describe | Unpack | MakePlan


class Order(msgspec.Struct, frozen=True):
    """A job, with the seconds that it may use and last."""

    job: Job
    cpu_seconds: float
    wall_seconds: float


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The process takes jobs."""


class BodyDescribed(msgspec.Struct, frozen=True, tag=True):
    """What a body says."""

    paths: list[str | None] | None
    archive_name: str | None
    request: DeployRequest | None
    refusal: "Refusal | None"  # of the request; told after what is wrong with the files


class ArchiveUnpacked(msgspec.Struct, frozen=True, tag=True):
    """The files of an archive."""

    files: list[Unpacked]


class PlanMade(msgspec.Struct, frozen=True, tag=True):
    """A plan."""

    plan: Plan


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """An InvalidRequest, with whatever the uploader can mend it by, cut to a length."""

    kind: str
    problem: str
    name: str | None = None  # the path, or the field
    looked_for: tuple[str, ...] = ()


class RanOut(msgspec.Struct, frozen=True, tag=True):
    """The job takes more than it may, of what `limit` says."""

    limit: str


class DiskFailed(msgspec.Struct, frozen=True, tag=True):
    """Files could not be written."""

    number: int  # errno(3)


class Faulted(msgspec.Struct, frozen=True, tag=True):
    """A fault of ours; `trace` is for the log."""

    trace: str


Outcome = BodyDescribed | ArchiveUnpacked | PlanMade | Refusal | RanOut | DiskFailed | Faulted


class Answer(msgspec.Struct, frozen=True, tag=True):
    """What came of a job, and the processor time that it took."""

    outcome: Outcome
    cpu_seconds: float
    path: str | None = None  # the file that was read last
    is_spent: bool = False  # the process ends, as it can't be trusted with another job


def refusal_of(error: InvalidRequest) -> Refusal:
    """The error as a record."""
    looked_for: tuple[str, ...] = ()
    match error:
        case FieldError():
            name, problem = error.field, error.problem
        case UploadInvalid():
            name, problem = error.path or "", error.problem
        case PlanNotFound():
            name, problem, looked_for = "", error.message, error.looked_for
        case _:
            name, problem = "", error.message
    return Refusal(
        kind=type(error).__name__,
        problem=_cut(problem, _MAX_PROBLEM),
        name=_cut(name, _MAX_NAME) or None,
        looked_for=tuple(_cut(item, _MAX_NAME) for item in looked_for[:_MAX_LOOKED_FOR]),
    )


def error_of(refusal: Refusal) -> InvalidRequest:
    """The error that a record is of."""
    match refusal.kind:
        case "InvalidField":
            return InvalidField(refusal.name or "", refusal.problem)
        case "RuntimeUnsupported":
            return RuntimeUnsupported(refusal.name or "", refusal.problem)
        case "UploadInvalid":
            return UploadInvalid(refusal.problem, path=refusal.name)
        case "PlanNotFound":
            return PlanNotFound(refusal.problem, looked_for=refusal.looked_for)
    return InvalidRequest(refusal.problem)


def _cut(text: str, length: int) -> str:
    """The text's beginning, which can be written as UTF-8: halves of surrogate pairs can't."""
    return text[:length].encode(errors="replace").decode()

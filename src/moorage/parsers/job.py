"""The messages between the gateway and a parser process: jobs and answers."""

import mmap
import os

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
from moorage.records.deployment import Finding
from moorage.unknown_keys import MisplacedHash
from moorage.uploads.request import DeployRequest
from moorage.uploads.room import UploadLimits
from moorage.uploads.unpacking import Unpacked

_LENGTH_BYTES = 2
_MAX_PATH_BYTES = 1024


class CurrentFile:
    """The shared page, mapped from a descriptor that both processes have."""

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)

    def write(self, path: str) -> None:
        """Stores that `path` is read now."""
        data = path.encode(errors="replace")[:_MAX_PATH_BYTES]
        end = _LENGTH_BYTES + len(data)
        self._page[:_LENGTH_BYTES] = b"\0\0"  # so that a length never goes with another path
        self._page[_LENGTH_BYTES:end] = data
        self._page[:_LENGTH_BYTES] = len(data).to_bytes(_LENGTH_BYTES, "big")

    def read(self) -> str | None:
        """Returns the path that was stored last, or None; valid text for any bytes in the page."""
        length = int.from_bytes(self._page[:_LENGTH_BYTES], "big")
        if not 0 < length <= _MAX_PATH_BYTES:
            return None
        data = self._page[_LENGTH_BYTES : _LENGTH_BYTES + length]
        return data.decode(errors="replace").replace("\0", "\ufffd")

    def close(self) -> None:
        """Unmaps the page."""
        self._page.close()


def shared_memory() -> int:
    """Returns a descriptor of one page of memory, for a `CurrentFile` in both processes."""
    descriptor = os.memfd_create("moorage-parser", 0)
    os.ftruncate(descriptor, mmap.PAGESIZE)
    return descriptor


HEADER_BYTES = 4  # of a message: its length, big-endian
MAX_ANSWER_BYTES = 8 * 1024 * 1024  # 5,000 paths of 1 KiB, and more
MAX_PLAN_BYTES = 256 * 1024
MAX_COMMAND_BYTES = 120 * 1024  # the kernel takes 128 KiB in one argument of a program
_MAX_NAME = 1_024  # characters of a path or a field
_MAX_PROBLEM = 4_096  # characters of a message
_MAX_LOOKED_FOR = 64  # entries


class Describe(msgspec.Struct, frozen=True, tag=True):
    """The job to parse a body's skeleton: see `uploads.request.describe`."""

    skeleton: bytes
    damaged: int | None
    limits: UploadLimits


class Unpack(msgspec.Struct, frozen=True, tag=True):
    """The job to unpack an archive into the last descriptor that comes with it.

    The archive is `data`, or the first of two descriptors.
    """

    data: bytes | None
    limits: UploadLimits
    is_tree: bool = False  # of an export


class CheckVolume(msgspec.Struct, frozen=True, tag=True):
    """The job to check the volume of an export, in the descriptor that comes with it."""

    offset: int
    max_bytes: int


class MakePlan(msgspec.Struct, frozen=True, tag=True):
    """The job to plan a tree: file i has `sizes[i]` bytes from `offsets[i]` on.

    An offset of 0 or more is one in the descriptor that comes with the job. An offset below 0 is
    one in `data`: −1 is its first byte, −2 its second.
    """

    settings: Settings
    toolbox: Toolbox | None  # None: that of the last job
    paths: list[str]
    sizes: list[int]
    offsets: list[int]
    data: bytes


class ReadJson(msgspec.Struct, frozen=True, tag=True):
    """The job to decode a JSON object."""

    body: bytes


Job = Describe | Unpack | CheckVolume | MakePlan | ReadJson


class Order(msgspec.Struct, frozen=True):
    """A job, with the processor time that it may use and the time that it may last."""

    job: Job
    cpu_seconds: float
    wall_seconds: float


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Says that the process takes jobs."""


class BodyDescribed(msgspec.Struct, frozen=True, tag=True):
    """A parsed body."""

    paths: list[str | None] | None
    archive_name: str | None
    request: DeployRequest | None
    refusal: "Refusal | None"  # of the request; errors of the files come before it
    stored: str | None = None
    misplaced: MisplacedHash | None = None
    export: str | None = None


class ArchiveUnpacked(msgspec.Struct, frozen=True, tag=True):
    """The files of an archive."""

    files: list[Unpacked]


class PlanMade(msgspec.Struct, frozen=True, tag=True):
    """A plan, and what else the files hold."""

    plan: Plan
    findings: tuple[Finding, ...] = ()


class JsonRead(msgspec.Struct, frozen=True, tag=True):
    """A JSON object, within the limits of `parsers.documents`."""

    document: bytes  # as MessagePack


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """An InvalidRequest with its details, cut to maximum lengths."""

    kind: str
    problem: str
    name: str | None = None  # the path, or the field
    looked_for: tuple[str, ...] = ()


class RanOut(msgspec.Struct, frozen=True, tag=True):
    """The job exceeded a limit; `limit` says which."""

    limit: str


class DiskFailed(msgspec.Struct, frozen=True, tag=True):
    """Files could not be written."""

    number: int  # errno(3)


class Faulted(msgspec.Struct, frozen=True, tag=True):
    """A fault in our code; `trace` is for the log."""

    trace: str


Outcome = (
    BodyDescribed | ArchiveUnpacked | PlanMade | JsonRead | Refusal | RanOut | DiskFailed | Faulted
)


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The outcome of a job, and the processor time that it took."""

    outcome: Outcome
    cpu_seconds: float
    path: str | None = None  # the file that was read last
    is_spent: bool = False  # the process ends, because another job might fail in it


def refusal_of(error: InvalidRequest) -> Refusal:
    """Returns the error as a record."""
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
    """Returns the error of a record."""
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
    """Returns the first `length` characters, with halves of surrogate pairs replaced, for UTF-8."""
    return text[:length].encode(errors="replace").decode()

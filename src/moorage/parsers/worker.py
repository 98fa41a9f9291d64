"""The program of a parser process: reads a job from its socket, answers it, reads the next.

    python -I -m moorage.parsers.worker <socket> <shared page> <bytes of memory>

It can reach only what comes with a job. It ends with the gateway, as its socket is closed then. If
a job takes too long, the kernel ends the process.
"""

import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO

import msgspec

from moorage.errors import InvalidField, InvalidRequest
from moorage.parsers.documents import MAX_VALUES, is_bounded
from moorage.parsers.job import (
    HEADER_BYTES,
    MAX_ANSWER_BYTES,
    MAX_COMMAND_BYTES,
    MAX_PLAN_BYTES,
    Answer,
    ArchiveUnpacked,
    BodyDescribed,
    CheckVolume,
    CurrentFile,
    Describe,
    DiskFailed,
    Faulted,
    Job,
    JsonRead,
    MakePlan,
    Order,
    Outcome,
    PlanMade,
    RanOut,
    ReadJson,
    Ready,
    Unpack,
    refusal_of,
)
from moorage.planning.findings import inspect, told, unserved
from moorage.planning.pages import left_out
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Toolbox
from moorage.uploads.request import DOCUMENTS, Skeleton, describe
from moorage.uploads.room import UploadLimits
from moorage.uploads.unpacking import check_volume, unpack, unpack_tree

NOBODY = 65_534
MAX_CPU_SECONDS = 120  # of all jobs together; a process is replaced before it has used them
_CONFINEMENT_MAX_DESCRIPTORS = 16
_NICENESS = 5  # so that the gateway's own process goes first

_PR_SET_DUMPABLE = 4  # prctl(2)
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET, _CLONE_NEWIPC, _CLONE_NEWUSER = 0x40000000, 0x08000000, 0x10000000  # unshare(2)


def confine(*, max_memory_bytes: int, max_file_bytes: int) -> None:
    """Drops rights and network, and limits resources. Raises OSError where that is impossible."""
    os.nice(_NICENESS)
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        _call(libc.unshare(_CLONE_NEWNET | _CLONE_NEWIPC))
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    else:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)  # may fail: not all users may
    _call(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _call(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    for limit, value in (
        (resource.RLIMIT_AS, max_memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, MAX_CPU_SECONDS),
        (resource.RLIMIT_FSIZE, max_file_bytes),
        (resource.RLIMIT_NOFILE, _CONFINEMENT_MAX_DESCRIPTORS),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(limit)
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (lower, lower))


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_MAX_DESCRIPTORS = 2  # of one job
_WARM_UP_SECONDS = 60.0
_MAX_TRACE = 4_000  # characters


class _Tree:
    """The `SourceTree` of a job; it stores a file's path in the shared page before it reads it."""

    def __init__(
        self, job: MakePlan, descriptors: Sequence[int], current_file: CurrentFile
    ) -> None:
        self.paths = job.paths
        self._spans = dict(zip(job.paths, zip(job.offsets, job.sizes, strict=True), strict=True))
        self._data = memoryview(job.data)
        self._descriptors = descriptors
        self._current_file = current_file

    def size(self, path: str) -> int:
        return self._spans[path][1]

    def read(self, path: str, *, limit: int = 1_048_576) -> bytes:
        offset, size = self._spans[path]
        self._current_file.write(path)
        length = min(limit, size)
        if offset < 0:
            start = -1 - offset
            return bytes(self._data[start : start + length])
        return os.pread(self._descriptors[0], length, offset)


class _Worker:
    """Does one job after the other."""

    def __init__(self, current_file: CurrentFile, *, max_memory_bytes: int) -> None:
        self._current_file = current_file
        self._max_memory_bytes = max_memory_bytes
        self._toolbox = Toolbox()

    def answer(self, order: Order, descriptors: Sequence[int]) -> Answer:
        """Does the job and returns its answer. The kernel ends the process when time is up."""
        begun = time.process_time()
        self._current_file.write("")
        signal.setitimer(signal.ITIMER_PROF, order.cpu_seconds)
        signal.setitimer(signal.ITIMER_REAL, order.wall_seconds)
        is_spent = False
        try:
            outcome = self._outcome(order.job, descriptors)
        except MemoryError:
            is_spent = True
            outcome = RanOut(f"{self._max_memory_bytes // 1024**2} MiB of memory")
        except Exception:  # noqa: BLE001 (our fault, told to the gateway; the next job goes on)
            outcome = Faulted(traceback.format_exc()[-_MAX_TRACE:])
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        used_seconds = time.process_time() - begun
        return Answer(outcome, used_seconds, path=self._current_file.read(), is_spent=is_spent)

    def _outcome(self, job: Job, descriptors: Sequence[int]) -> Outcome:
        try:
            match job:
                case Describe():
                    return self._described(job)
                case Unpack():
                    return self._unpacked(job, descriptors)
                case CheckVolume():
                    with os.fdopen(descriptors[0], "rb", closefd=False) as file:
                        try:
                            check_volume(file, offset=job.offset, max_bytes=job.max_bytes)
                        except OSError as error:
                            return DiskFailed(error.errno or 0)
                    return ArchiveUnpacked([])
                case ReadJson():
                    return _read(job)
            return self._planned(job, descriptors)
        except InvalidRequest as error:
            return refusal_of(error)
        except RecursionError:
            return RanOut("the depth of nesting that it may have")

    def _described(self, job: Describe) -> Outcome:
        found = describe(Skeleton(job.skeleton, job.damaged), job.limits)
        if isinstance(found.asked, InvalidField):
            request, refusal = None, refusal_of(found.asked)
        else:
            request, refusal = found.asked, None
        return BodyDescribed(
            found.paths,
            found.archive_name,
            request,
            refusal,
            found.stored,
            found.misplaced,
            found.export,
        )

    def _unpacked(self, job: Unpack, descriptors: Sequence[int]) -> Outcome:
        into = descriptors[-1]

        def write(piece: bytes) -> None:
            view = memoryview(piece)
            while view:
                view = view[os.write(into, view) :]

        archive = (
            os.fdopen(descriptors[0], "rb", closefd=False)
            if job.data is None
            else BytesIO(job.data)
        )
        try:
            unpacked = unpack_tree if job.is_tree else unpack
            return ArchiveUnpacked(unpacked(archive, write, job.limits, self._current_file.write))
        except OSError as error:
            return DiskFailed(error.errno or 0)

    def _planned(self, job: MakePlan, descriptors: Sequence[int]) -> Outcome:
        self._toolbox = job.toolbox or self._toolbox
        tree = _Tree(job, descriptors, self._current_file)
        plan = make_plan(tree, job.settings, self._toolbox)
        found = inspect(tree)
        plan = unserved(plan, found)
        if len(msgspec.msgpack.encode(plan)) > MAX_PLAN_BYTES:
            return RanOut(f"{MAX_PLAN_BYTES // 1024} KiB of commands and file names in its plan")
        commands = (plan.install, plan.build, plan.start)
        if any(len(each.encode()) > MAX_COMMAND_BYTES for each in commands if each):
            return RanOut(f"{MAX_COMMAND_BYTES // 1024} KiB in one command of its plan")
        return PlanMade(plan, told([*found, *left_out(tree, plan)]))


def _read(job: ReadJson) -> Outcome:
    try:
        document = DOCUMENTS.decode(job.body)
        if not isinstance(document, dict):
            raise InvalidField("body", "must be a JSON object")
        if is_bounded(document):
            return JsonRead(msgspec.msgpack.encode(document))
    except (ValueError, OverflowError):  # msgspec's DecodeError, and of bytes that are no UTF-8
        raise InvalidField("body", "must be JSON") from None
    raise InvalidField("body", f"holds more than {MAX_VALUES:,} values, or is nested too deep")


def main() -> None:
    """Does the jobs that come by the socket, until it is closed."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    current_file = CurrentFile(int(sys.argv[2]))
    os.close(int(sys.argv[2]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    worker = _Worker(current_file, max_memory_bytes=int(sys.argv[3]))
    _warm_up(worker)
    confine(max_memory_bytes=int(sys.argv[3]), max_file_bytes=UploadLimits().unpacked_bytes)
    _send(channel, msgspec.msgpack.encode(Ready()))
    is_spent = False
    while not is_spent and (received := _receive(channel)) is not None:
        order, descriptors = received
        answer = worker.answer(order, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        is_spent = answer.is_spent
        _send(channel, msgspec.msgpack.encode(answer))


def _warm_up(worker: _Worker) -> None:
    """Loads modules that are loaded at first use, because that needs rights dropped later."""
    for path, data in _SAMPLES.items():
        job = MakePlan(Settings(), Toolbox(), [path], [len(data)], [-1], data)
        with suppress(InvalidRequest):
            worker.answer(Order(job, _WARM_UP_SECONDS, _WARM_UP_SECONDS), ())
    gc.collect()
    gc.freeze()  # all objects so far are needed for good


_SAMPLES = {
    "package.json": b'{"scripts":{"start":"node a.js"}}',
    "requirements.txt": b"flask\n",
    "pyproject.toml": b'[project]\nrequires-python = ">=3.11"\n',
    "Cargo.toml": b"[package]\nname = 'a'\n",
    "deno.json": b'{"tasks":{}}',
    "index.html": b"",
}


def _receive(channel: socket.socket) -> tuple[Order, list[int]] | None:
    """Returns the next job with its descriptors; None when the gateway is gone."""
    header, descriptors, _, _ = socket.recv_fds(channel, HEADER_BYTES, _MAX_DESCRIPTORS)
    while 0 < len(header) < HEADER_BYTES:
        header += channel.recv(HEADER_BYTES - len(header))
    if not header:
        return None
    data = bytearray(int.from_bytes(header, "big"))
    view = memoryview(data)
    while view:
        count = channel.recv_into(view)
        if count == 0:
            return None
        view = view[count:]
    return _ORDERS.decode(data), descriptors


_ORDERS = msgspec.msgpack.Decoder(Order)


def _send(channel: socket.socket, message: bytes) -> None:
    if len(message) > MAX_ANSWER_BYTES:
        message = msgspec.msgpack.encode(
            Answer(RanOut(f"{MAX_ANSWER_BYTES // 1024**2} MiB of file names"), 0.0)
        )
    channel.sendall(len(message).to_bytes(HEADER_BYTES, "big") + message)


if __name__ == "__main__":
    main()

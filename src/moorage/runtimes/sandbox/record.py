"""What a deployment on this machine consists of, kept on disk: enough to find it after a crash."""

from enum import StrEnum
from pathlib import Path

import msgspec

from moorage.runtimes.sandbox.listeners import Listener
from moorage.whole_file import replace_file

_FILE = "record.json"


class Stage(StrEnum):
    """How far a deployment came."""

    BUILDING = "building"  # or interrupted while it was
    FAILED = "failed"  # the build did; only its log is of use
    BUILT = "built"
    STARTED = "started"  # an app was launched; whether it runs, its control group says


class Record(msgspec.Struct, frozen=True):
    """One deployment."""

    deployment_id: str
    slot: int | None  # None after a failed build: it may be another's by now
    stage: Stage
    cpu_millis: int | None = None  # what the app has once it has started
    listener: Listener | None = None  # where the door leads, once the app listens
    exit_code: int | None = None  # of an app that was stopped
    out_of_memory: bool = False


def read_record(directory: Path) -> Record | None:
    """The record in a deployment's directory; None when there is none, or none that is whole."""
    try:
        return msgspec.json.decode((directory / _FILE).read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_record(directory: Path, record: Record) -> None:
    """Put the record in place, whole."""
    replace_file(directory / _FILE, msgspec.json.encode(record))


def parse_exit_code(status: str) -> int | None:
    """The exit code in what `bwrap --json-status-fd` wrote; None while the app runs."""
    return _number(status, "exit-code")


def parse_child_pid(status: str) -> int | None:
    """The host's id of the sandbox's first process, from the same; None before it exists."""
    return _number(status, "child-pid")


def _number(status: str, key: str) -> int | None:
    for line in status.splitlines():
        try:
            document = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue  # half a line: being written, or cut off by a crash of the machine
        if isinstance(document, dict) and isinstance(number := document.get(key), int):
            return number
    return None

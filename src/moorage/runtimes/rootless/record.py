"""What is known of a deployment, kept on disk: enough to find it after a crash of the gateway."""

from pathlib import Path

import msgspec

from moorage.runtimes.rootless.processes import ProcessId
from moorage.runtimes.sandbox.listeners import Listener
from moorage.runtimes.sandbox.record import Stage
from moorage.whole_file import replace_file

_FILE = "record.json"


class Record(msgspec.Struct, frozen=True):
    """One deployment."""

    deployment_id: str
    stage: Stage
    memory_bytes: int = 0  # what the app and its disk may hold, for who watches over it
    disk_bytes: int = 0
    pasta: ProcessId | None = None  # of the app that was launched last
    holder: ProcessId | None = None  # pasta's child, in the app's namespaces
    door: ProcessId | None = None
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

"""What the root mode keeps of a deployment, and what bwrap tells of an app."""

import msgspec

from moorage.engines.host import record


class Record(record.Record, frozen=True, kw_only=True):
    """One deployment."""

    slot: int | None  # None after a failed build: it may be another's by now
    cpu_millis: int | None = None  # what the app has once it has started


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

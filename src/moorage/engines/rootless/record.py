"""The rootless engine's record of a deployment."""

import msgspec

from moorage.engines.host import record
from moorage.engines.rootless.processes import ProcessId


class Record(record.Record, frozen=True, kw_only=True):
    """One deployment."""

    memory_bytes: int = 0  # the app's limits, which the gateway enforces
    disk_bytes: int = 0
    pasta: ProcessId | None = None  # of the last launch
    holder: ProcessId | None = None  # pasta's child, in the app's namespaces
    proxy: ProcessId | None = msgspec.field(default=None, name="door")

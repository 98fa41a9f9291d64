"""The sandbox's record of a deployment."""

from moorage.engines.host import record


class Record(record.Record, frozen=True, kw_only=True):
    """One deployment."""

    slot: int | None  # None after a failed build, which has released it
    cpu_millis: int | None = None  # the app's limit after its start
    port: int | None = None  # of its address, forwarded to its listener; None: a socket proxy

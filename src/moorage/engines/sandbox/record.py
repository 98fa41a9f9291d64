"""What the sandbox keeps of a deployment."""

from moorage.engines.host import record


class Record(record.Record, frozen=True, kw_only=True):
    """One deployment."""

    slot: int | None  # None after a failed build: it may be another's by now
    cpu_millis: int | None = None  # what the app has once it has started

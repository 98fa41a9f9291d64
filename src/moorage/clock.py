"""The time, as an injected clock: wall time for records, monotonic time for waiting."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from; tests pass one they can move."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    def monotonic_seconds(self) -> float:
        """Seconds that never go backwards, for deadlines and rates.

        Counted from one start of the machine, by every process alike.
        """
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_seconds(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()


def boot_id() -> str:
    """What tells this run of the machine from every other (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def iso_utc(time_ms: int) -> str:
    """`time_ms` as the contract writes times: `2026-04-07T10:00:00.000Z`."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"

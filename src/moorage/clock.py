"""The injected clock: wall time for records, monotonic time for waiting."""

import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """A source of the time; tests pass one that they can set."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    def monotonic_seconds(self) -> float:
        """Seconds that never go backwards, for deadlines and rates.

        Counted since the machine started, also while it was suspended: the same in every process.
        """
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_seconds(self) -> float:
        """Seconds since an arbitrary start."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The id of this boot of the machine (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def iso_utc(time_ms: int) -> str:
    """`time_ms` in the contract's format: `2026-04-07T10:00:00.000Z`."""
    return f"{_second(time_ms // 1000)}.{time_ms % 1000:03d}Z"


@lru_cache(maxsize=256)  # what is told at one time is mostly of one second
def _second(time_seconds: int) -> str:
    return f"{datetime.fromtimestamp(time_seconds, UTC):%Y-%m-%dT%H:%M:%S}"

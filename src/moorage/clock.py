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


class SteadyWall:
    """Wall time which setting the clock forward does not move: for what can't be undone.

    After that it moves as the monotonic clock does, until the next start; set back, it is the
    wall clock's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ms = clock.now_ms() - self._monotonic_ms()

    def now_ms(self) -> int:
        """Unix time in milliseconds, at most."""
        return min(self._clock.now_ms(), self._monotonic_ms() + self._ahead_ms)

    def _monotonic_ms(self) -> int:
        return round(self._clock.monotonic_seconds() * 1000)


def boot_id() -> str:
    """The id of this boot of the machine (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def iso_utc(time_ms: int) -> str:
    """`time_ms` in the contract's format: `2026-04-07T10:00:00.000Z`."""
    return f"{_second(time_ms // 1000)}.{time_ms % 1000:03d}Z"


@lru_cache(maxsize=256)  # what is told at one time is mostly of one second
def _second(time_seconds: int) -> str:
    return f"{datetime.fromtimestamp(time_seconds, UTC):%Y-%m-%dT%H:%M:%S}"

"""When work that failed is tried again."""

from collections.abc import Container, Hashable
from typing import NamedTuple

from moorage.clock import Clock

_FIRST_SECONDS = 30.0
_MAX_SECONDS = 3600.0


class _Failed(NamedTuple):
    pause_seconds: float
    again_at: float
    since: float


class Retries:
    """Says of each work that failed when it is tried again: later each time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[Hashable, _Failed] = {}  # times are monotonic seconds

    def is_due(self, work: Hashable) -> bool:
        """Returns whether it may be tried."""
        failed = self._failed.get(work)
        return failed is None or failed.again_at <= self._clock.monotonic_seconds()

    def failing_seconds(self, work: Hashable) -> float:
        """Returns for how long each try has failed; 0 before the first failure is noted."""
        failed = self._failed.get(work)
        return 0.0 if failed is None else self._clock.monotonic_seconds() - failed.since

    def failed(self, work: Hashable) -> float:
        """Notes a failure; returns the seconds until the next try."""
        before, now = self._failed.get(work), self._clock.monotonic_seconds()
        pause = _FIRST_SECONDS if before is None else min(2 * before.pause_seconds, _MAX_SECONDS)
        since = now if before is None else before.since
        self._failed[work] = _Failed(pause, again_at=now + pause, since=since)
        return pause

    def forget(self, work: Hashable) -> None:
        """Notes that it went well."""
        self._failed.pop(work, None)

    def keep(self, works: Container[Hashable]) -> None:
        """Forgets all others."""
        self._failed = {each: when for each, when in self._failed.items() if each in works}

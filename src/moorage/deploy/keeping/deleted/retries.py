"""When work that failed is tried again."""

from collections.abc import Container, Hashable

from moorage.clock import Clock

_FIRST_SECONDS = 30.0
_MAX_SECONDS = 3600.0


class Retries:
    """Says of each work that failed when it is tried again: later each time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[Hashable, tuple[float, float]] = {}  # the pause, and when it is over

    def is_due(self, work: Hashable) -> bool:
        """Returns whether it may be tried."""
        _, at = self._failed.get(work, (0.0, 0.0))
        return at <= self._clock.monotonic_seconds()

    def failed(self, work: Hashable) -> float:
        """Notes a failure; returns the seconds until the next try."""
        before, _ = self._failed.get(work, (0.0, 0.0))
        pause = min(2 * before or _FIRST_SECONDS, _MAX_SECONDS)
        self._failed[work] = (pause, self._clock.monotonic_seconds() + pause)
        return pause

    def forget(self, work: Hashable) -> None:
        """Notes that it went well."""
        self._failed.pop(work, None)

    def keep(self, works: Container[Hashable]) -> None:
        """Forgets all others."""
        self._failed = {each: when for each, when in self._failed.items() if each in works}

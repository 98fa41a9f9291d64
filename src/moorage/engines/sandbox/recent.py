"""Remembers which apps ran and listened recently, so that each need not be looked at every time."""

from collections.abc import Collection

from moorage.clock import Clock
from moorage.engines.engine import Instance

_MIN_SECONDS, _MAX_SECONDS = 3.0, 20.0
_LOOKS_A_SECOND = 3  # 0.2 ms of processor time each


class RecentInstances:
    """Takes an app with a process for listening for some seconds; the fewer apps, the fewer.

    What is found by looking again is an app that runs on, but listens no more, or has lost its
    network.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, Instance]] = {}  # monotonic seconds

    def instance(self, deployment_id: str) -> Instance | None:
        """Returns an app that was seen so recently that it need not be looked at again."""
        seen = self._seen.get(deployment_id)
        if seen is None or seen[0] + self._valid_seconds() <= self._clock.monotonic_seconds():
            return None
        return seen[1]

    def note(self, instance: Instance) -> None:
        """Records that an app runs and listens now."""
        self._seen[instance.deployment_id] = (self._clock.monotonic_seconds(), instance)

    def forget(self, deployment_id: str) -> None:
        """Forgets an app: it is looked at the next time."""
        self._seen.pop(deployment_id, None)

    def forget_others(self, keep: Collection[str]) -> None:
        """Forgets all apps but those in `keep`."""
        for deployment_id in self._seen.keys() - set(keep):
            self.forget(deployment_id)

    def _valid_seconds(self) -> float:
        return min(_MAX_SECONDS, max(_MIN_SECONDS, len(self._seen) / _LOOKS_A_SECOND))

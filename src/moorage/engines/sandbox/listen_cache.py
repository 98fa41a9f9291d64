"""Remembers which apps listened recently, as checking is the most expensive query about an app."""

from collections.abc import Collection

from moorage.clock import Clock

_MIN_SECONDS, _MAX_SECONDS = 3.0, 20.0
_LOOKS_A_SECOND = 5  # 0.4 ms of processor time each


class ListenCache:
    """Assumes for some seconds that an app still listens; the fewer apps, the shorter."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}  # monotonic seconds

    def is_recent(self, deployment_id: str) -> bool:
        """Returns whether an app listened so recently that it need not be checked again."""
        heard = self._heard.get(deployment_id)
        return heard is not None and heard + self._valid_seconds() > self._clock.monotonic_seconds()

    def note(self, deployment_id: str, *, listens: bool) -> None:
        """Records the result of a check."""
        if listens:
            self._heard[deployment_id] = self._clock.monotonic_seconds()
        else:
            self._heard.pop(deployment_id, None)

    def forget(self, *, keep: Collection[str]) -> None:
        """Forgets all apps but those in `keep`."""
        for deployment_id in self._heard.keys() - set(keep):
            del self._heard[deployment_id]

    def _valid_seconds(self) -> float:
        return min(_MAX_SECONDS, max(_MIN_SECONDS, len(self._heard) / _LOOKS_A_SECOND))

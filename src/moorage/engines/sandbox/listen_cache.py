"""Which apps were lately seen to listen, as looking costs more than everything else of them."""

from collections.abc import Collection

from moorage.clock import Clock

_LEAST_SECONDS, _MOST_SECONDS = 3.0, 20.0
_LOOKS_A_SECOND = 5  # 0.4 ms of processor time each


class ListenCache:
    """Believes that an app which listened does so still: the shorter, the fewer apps there are."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}  # monotonic seconds

    def is_recent(self, deployment_id: str) -> bool:
        """Whether an app was seen to listen so lately that nobody need look again."""
        heard = self._heard.get(deployment_id)
        return heard is not None and heard + self._believed() > self._clock.monotonic_seconds()

    def note(self, deployment_id: str, *, listens: bool) -> None:
        """What a look at an app found."""
        if listens:
            self._heard[deployment_id] = self._clock.monotonic_seconds()
        else:
            self._heard.pop(deployment_id, None)

    def forget(self, *, keep: Collection[str]) -> None:
        """Drop what is known of apps that run no more."""
        for deployment_id in self._heard.keys() - set(keep):
            del self._heard[deployment_id]

    def _believed(self) -> float:
        return min(_MOST_SECONDS, max(_LEAST_SECONDS, len(self._heard) / _LOOKS_A_SECOND))

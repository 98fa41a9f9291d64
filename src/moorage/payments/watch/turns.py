"""Long work in small pieces, so that everything else on the loop has its turn."""

import asyncio

from moorage.clock import Clock

_TURN_SECONDS = 0.005


class Turns:
    """Lets everything else have its turn, after every 5 ms of work."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic_seconds()

    async def give(self) -> None:
        """Let others have theirs, if this one has lasted long enough."""
        if self._clock.monotonic_seconds() - self._since > _TURN_SECONDS:
            await asyncio.sleep(0)
            self._since = self._clock.monotonic_seconds()

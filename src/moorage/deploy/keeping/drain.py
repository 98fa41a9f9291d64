"""Draining: a version that was replaced runs on until nobody uses it, but not for ever."""

from collections.abc import Collection

import msgspec

from moorage.clock import Clock
from moorage.engines.engine import Engine

IDLE_SECONDS = 1.5
"""Without a connection for as long, nobody uses it: the proxy drops idle ones after a second."""


class Drain:
    """Says which of the replaced versions that still run may be stopped.

    The time is this process's: a gateway that was restarted waits for them afresh.
    """

    def __init__(self, *, runtime: Engine, limit_seconds: float, clock: Clock) -> None:
        self._runtime = runtime
        self._limit_seconds = limit_seconds
        self._clock = clock
        self._draining: dict[str, _Draining] = {}

    async def over(self, replaced: Collection[str]) -> list[str]:
        """Those idle for 1.5 s, or for too long on their way out, of all that run replaced."""
        self._draining = {name: self._draining.get(name) or self._begun() for name in replaced}
        return [name for name in replaced if await self._is_over(name, self._draining[name])]

    def _begun(self) -> "_Draining":
        now = self._clock.monotonic_seconds()
        return _Draining(until=now + self._limit_seconds)

    async def _is_over(self, deployment_id: str, draining: "_Draining") -> bool:
        now = self._clock.monotonic_seconds()
        if now >= draining.until:
            return True
        if await self._runtime.connections(deployment_id):
            draining.idle_since = None
            return False
        if draining.idle_since is None:
            draining.idle_since = now
        return now - draining.idle_since >= IDLE_SECONDS


class _Draining(msgspec.Struct):
    """One version on its way out; monotonic seconds."""

    until: float
    idle_since: float | None = None

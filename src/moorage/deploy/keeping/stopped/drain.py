"""Draining: a replaced version runs on until it has no connections, or its time is over.

Where nothing counts its connections, it has all of the time.
"""

from collections.abc import Collection

from moorage.clock import Clock
from moorage.deploy.keeping.apps import Apps
from moorage.engines.engine import Engine

IDLE_SECONDS = 1.5
"""After so long without a connection nobody uses it: the proxy closes idle ones after 1 s."""


class Drain:
    """Decides which of the replaced versions that still run may be stopped.

    Times are kept in this process: after a restart of the gateway they begin anew.
    """

    def __init__(
        self,
        *,
        runtime: Engine,
        apps: Apps,
        limit_seconds: float,
        clock: Clock,
        min_seconds: float = 0.0,
    ) -> None:
        """`min_seconds` is how long other gateways' proxies may still send requests there."""
        self._runtime = runtime
        self._apps = apps
        self._limit_seconds = max(limit_seconds, min_seconds)
        self._min_seconds = min_seconds
        self._clock = clock

    async def over(self, replaced: Collection[str]) -> list[str]:
        """Returns those that were idle for 1.5 s, or drained for `limit_seconds`."""
        return [name for name in replaced if await self._is_over(name)]

    def may_stop(self, deployment_id: str) -> bool:
        """Returns whether every proxy has had the time to switch to the next version."""
        now, app = self._clock.monotonic_seconds(), self._apps.app(deployment_id)
        if app.drains_until is None:
            app.drains_until = now + self._limit_seconds
        return now >= app.drains_until - self._limit_seconds + self._min_seconds

    async def _is_over(self, deployment_id: str) -> bool:
        if not self.may_stop(deployment_id):
            return False
        now, app = self._clock.monotonic_seconds(), self._apps.app(deployment_id)
        if app.drains_until is None or now >= app.drains_until:
            return True
        if await self._runtime.connections(deployment_id) != 0:
            app.idle_since = None
            return False
        if app.idle_since is None:
            app.idle_since = now
        return now - app.idle_since >= IDLE_SECONDS

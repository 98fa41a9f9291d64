"""Routes to apps that were not seen for long: their addresses may be other apps' by now.

A cluster gives a pod's address to another pod when the first has ended. A gateway that the cluster
does not answer cannot know: the apps may run on, or be gone since long.
"""

import structlog

from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Routes
from moorage.deploy.addresses.followed import Instances
from moorage.errors import ClusterUnavailable

log = structlog.get_logger()

LOOK_SECONDS = 10.0
UNSEEN_SECONDS = 210.0
"""After so long without an answer routes go: with the 90 s for which a copy of the cluster is
believed, five minutes after it was made."""


class UnseenRoutes:
    """Removes the routes of one proxy when its gateway no longer sees where apps run."""

    def __init__(self, *, instances: Instances, routes: Routes, clock: Clock) -> None:
        self._instances = instances
        self._routes = routes
        self._clock = clock
        self._seen_at = clock.monotonic_seconds()

    async def look(self) -> None:
        """Looks whether the engine tells what runs; removes all routes if it has not for long.

        Whoever routes sets them again when it does.
        """
        now = self._clock.monotonic_seconds()
        try:
            await self._instances.running()
        except ClusterUnavailable:
            if now - self._seen_at > UNSEEN_SECONDS:
                await self._remove_all()
        else:
            self._seen_at = now

    async def _remove_all(self) -> None:
        hosts = list(self._routes.routes())
        if hosts:
            log.error("apps are not routed any more: the cluster does not answer", hosts=len(hosts))
        for host in hosts:
            await self._routes.remove(host)

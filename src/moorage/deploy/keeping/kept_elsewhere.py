"""Waits for what the gateway that keeps the apps does, where this gateway is another.

This one writes what is wanted to rows; the other reads them every second or two.
"""

import asyncio
from collections.abc import Awaitable, Callable

from moorage.clock import Clock
from moorage.deploy.sources import Sources
from moorage.errors import ContentUnavailable, KeeperAway
from moorage.records.project import Project
from moorage.storage.apps import projects
from moorage.storage.database import Database

_MAX_SECONDS = 60.0
_POLL_SECONDS = 0.1


class KeptElsewhere:
    """What the keeper has done."""

    def __init__(self, *, db: Database, sources: Sources, clock: Clock) -> None:
        self._db = db
        self._sources = sources
        self._clock = clock

    async def deleted(self, project: Project) -> None:
        """Returns when nothing is left of a project that is being deleted. Raises KeeperAway."""

        async def is_gone() -> bool:
            return await projects.by_id(self._db, project.id) is None

        await self._until(is_gone)

    async def cleared_up(self, deployment_id: str) -> None:
        """Returns when the files of a deployment that was ended are gone. Raises KeeperAway."""

        async def is_gone() -> bool:
            try:
                return not await self._sources.exists(deployment_id)
            except ContentUnavailable:
                return False

        await self._until(is_gone)

    async def _until(self, is_done: Callable[[], Awaitable[bool]]) -> None:
        deadline = self._clock.monotonic_seconds() + _MAX_SECONDS
        while not await is_done():
            if self._clock.monotonic_seconds() > deadline:
                raise KeeperAway
            await asyncio.sleep(_POLL_SECONDS)

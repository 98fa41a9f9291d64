"""Capacity: whether the machine has room for another app, by what its apps were promised.

Disks are sparse, and apps use less memory than they may, so what is free today says little: each
may grow to its full size.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from moorage.engines.engine import Disks, Engine, Limits
from moorage.errors import NoCapacity
from moorage.metrics import record_disk
from moorage.records.deployment import DeploymentStatus
from moorage.storage.apps import promises, releases
from moorage.storage.database import Database, Source


class Policy(msgspec.Struct, frozen=True):
    """What the operator has set."""

    reserve_bytes: int
    """Of the disk, which no app is ever to have."""

    disk_overcommit: float
    """How many times the free space may be promised to apps' disks."""

    memory_overcommit: float
    """How many times the memory that apps have may be promised to them."""


class Capacity:
    """Is measured now and then, and asked before an app, or another version of one, is admitted.

    A volume's space is allocated when it is made, so it counts whole. A replaced version's disk
    grows no more.
    """

    def __init__(self, *, db: Database, runtime: Engine, limits: Limits, policy: Policy) -> None:
        self._db = db
        self._runtime = runtime
        self._limits = limits
        self._policy = policy
        self._disks: Disks | None = None
        self._growth_bytes = 0  # of the disks that may still be written to
        self._networks: int | None = None  # that can still be given to apps
        self._starting: set[str] = set()  # projects whose rows don't say yet that they run

    async def measure(self) -> Disks:
        """Looks at the machine, and returns its disks."""
        disks = await self._runtime.disks()
        kept = await releases.kept(self._db)
        self._growth_bytes = sum(
            growth
            for deployment_id, growth in disks.growth.items()
            if kept.get(deployment_id) is not DeploymentStatus.SUPERSEDED
        )
        self._networks = await self._runtime.free_networks()
        self._disks = disks
        volumes = sum(disks.volume_growth.values())
        record_disk(free_bytes=disks.free_bytes, promised_bytes=self._growth_bytes + volumes)
        return disks

    def spare_bytes(self, disks: Disks) -> int:
        """What is free beyond the reserve; negative when some of that is gone."""
        return disks.free_bytes - self._policy.reserve_bytes

    async def check(self) -> None:
        """Raises NoCapacity when the reserve is touched."""
        if self.spare_bytes(await self._runtime.disks()) < 0:
            raise NoCapacity

    async def require(
        self, source: Source, *, new_volume: bool = False, project_id: str = ""
    ) -> None:
        """Raises NoCapacity unless one more version of an app can be kept, and its new volume.

        `project_id` is that of an existing project.
        """
        await self.require_memory(source, project_id)
        disks = self._disks or await self.measure()
        size, volume_size = self._limits.disk_bytes, self._limits.volume_bytes
        coming = await promises.under_way(source)
        absent = [each for each in coming if each.deployment_id not in disks.growth]
        to_make = {each.project_id for each in absent if each.volume} - disks.volume_growth.keys()
        growth = self._growth_bytes + (len(absent) + 1) * size
        volumes = sum(disks.volume_growth.values()) + (len(to_make) + new_volume) * volume_size
        if self._networks is not None and self._networks <= len(absent):
            raise NoCapacity
        taken = growth / self._policy.disk_overcommit + volumes
        if disks.held or taken > self.spare_bytes(disks):  # those that wait come first
            raise NoCapacity

    async def require_memory(self, source: Source, project_id: str = "") -> None:
        """Raises NoCapacity unless one more app may run; a project's that runs already may."""
        others = await promises.running(source, without=project_id)
        coming = len(self._starting - {project_id})
        allowed = self._policy.memory_overcommit * self._runtime.memory_bytes()
        if (others + coming + 1) * self._limits.memory_bytes <= allowed:
            return
        if not project_id or others == await promises.running(source):
            raise NoCapacity

    @contextmanager
    def starting(self, project_id: str) -> Iterator[None]:
        """Counts a project that is being started, until its row says so."""
        self._starting.add(project_id)
        try:
            yield
        finally:
            self._starting.discard(project_id)

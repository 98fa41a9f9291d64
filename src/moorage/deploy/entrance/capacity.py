"""Capacity: whether the machine takes another app, by what it has promised to those it has.

Disks are sparse, and apps use less memory than they may, so that what is free today says little:
each may grow to its full size.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from moorage.engines.engine import Disks, Engine, Limits
from moorage.errors import NoCapacity
from moorage.metrics import record_disk
from moorage.records.deployment import DeploymentStatus
from moorage.storage.apps import promises, releases
from moorage.storage.database import Database, Transaction


class Policy(msgspec.Struct, frozen=True):
    """What the operator has set."""

    reserve_bytes: int
    """Of the disk, which no app is ever to have."""

    disk_overcommit: float
    """How many times the free space may be promised to apps' disks."""

    memory_overcommit: float
    """How many times the memory that apps have may be promised to them."""


class Capacity:
    """Measured now and then, asked whenever an app, or another version of one, is to be taken in.

    A volume's space is taken when it is made, so it counts whole. What a replaced version keeps is
    on the disk and grows no more.
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
        """Look at the machine; what is there by now."""
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
        """Raise NoCapacity when the reserve is touched."""
        if self.spare_bytes(await self._runtime.disks()) < 0:
            raise NoCapacity

    async def require(self, *, new_volume: bool = False, project_id: str = "") -> None:
        """Raise NoCapacity unless one more version of an app can be kept, and its new volume.

        `project_id` is that of a project that there is.
        """
        await self.require_memory(self._db, project_id)
        disks = self._disks or await self.measure()
        size, volume_size = self._limits.disk_bytes, self._limits.volume_bytes
        coming = await promises.under_way(self._db)
        absent = [each for each in coming if each.deployment_id not in disks.growth]
        to_make = {each.project_id for each in absent if each.volume} - disks.volume_growth.keys()
        growth = self._growth_bytes + (len(absent) + 1) * size
        volumes = sum(disks.volume_growth.values()) + (len(to_make) + new_volume) * volume_size
        if self._networks is not None and self._networks <= len(absent):
            raise NoCapacity
        taken = growth / self._policy.disk_overcommit + volumes
        if disks.held or taken > self.spare_bytes(disks):  # those that wait come first
            raise NoCapacity

    async def require_memory(self, source: Database | Transaction, project_id: str = "") -> None:
        """Raise NoCapacity unless one more app may run; a project's that runs already may."""
        others = await promises.running(source, but=project_id)
        coming = len(self._starting - {project_id})
        most = self._policy.memory_overcommit * self._runtime.memory_bytes()
        if (others + coming + 1) * self._limits.memory_bytes <= most:
            return
        if not project_id or others == await promises.running(source):
            raise NoCapacity

    @contextmanager
    def starting(self, project_id: str) -> Iterator[None]:
        """Meanwhile a project counts that is being started, and whose row does not say so yet."""
        self._starting.add(project_id)
        try:
            yield
        finally:
            self._starting.discard(project_id)

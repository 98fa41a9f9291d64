"""What limits new apps: the operator's rules, and what the machine has promised to its apps.

Disks are sparse, and apps use less memory than they may. So free space alone does not say whether
there is room: each app may grow to its limits.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from moorage.engines.engine import EngineView, Limits, Resources
from moorage.errors import Maintenance, NoCapacity, TooManyProjects, WalletNotListed
from moorage.metrics import record_disk
from moorage.records.deployment import DeploymentStatus
from moorage.records.project import Project
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database, Source
from moorage.storage.money import quotes
from moorage.storage.operation import wallet_rules
from moorage.storage.operation.wallet_rules import WalletRule


class Quotas:
    """Asked before anybody pays; what was paid for is carried out in maintenance all the same."""

    def __init__(self, *, listed_only: bool = False, projects: int = 0) -> None:
        """Takes the settings: listed wallets alone, and projects a wallet; 0 for any number."""
        self.change(listed_only=listed_only, projects=projects)

    def change(self, *, listed_only: bool, projects: int) -> None:
        """Takes other settings, from the next request on."""
        self._listed_only = listed_only
        self._projects = projects

    async def require(self, source: Source, wallet: str, own: Project | None) -> None:
        """Checks a deploy; `own` is the project that it is a version of, if there is one.

        Raises Maintenance, WalletNotListed, TooManyProjects.
        """
        maintenance, rule = await wallet_rules.rule_in_force(source, wallet)
        if maintenance is not None:
            raise Maintenance(maintenance)
        await self._require(source, rule, own)

    async def require_allowed(self, source: Source, wallet: str, own: Project | None) -> None:
        """Checks what the wallet is allowed, whether it has paid or not.

        Raises WalletNotListed, TooManyProjects.
        """
        await self._require(source, await wallet_rules.wallet_rule(source, wallet), own)

    async def require_listed(self, source: Source, wallet: str) -> None:
        """Raises WalletNotListed if only listed wallets may pay here, and this is none.

        A `wallet` that is "", nobody's yet, is none.
        """
        if self._listed_only:
            self._require_listed(await wallet_rules.wallet_rule(source, wallet))

    async def _require(self, source: Source, rule: WalletRule, own: Project | None) -> None:
        self._require_listed(rule)
        if own is None and rule.wallet:
            await self._require_number(source, rule)

    def _require_listed(self, rule: WalletRule) -> None:
        if self._listed_only and not rule.is_listed:
            raise WalletNotListed(signed=bool(rule.wallet))

    async def _require_number(self, source: Source, rule: WalletRule) -> None:
        limit = self._projects if rule.max_projects is None else rule.max_projects
        if rule.max_projects is None and not limit:
            return
        if len(await projects.of_wallet(source, rule.wallet)) >= limit:
            raise TooManyProjects(limit)


class Policy(msgspec.Struct, frozen=True):
    """The operator's limits."""

    reserve_bytes: int
    """Disk space that no app may have."""

    disk_overcommit: float
    """How many times the free space may be promised to apps' disks."""

    memory_overcommit: float
    """How many times the memory for apps may be promised to them."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What of the machine is sold to apps, and what there is."""

    apps: int  # that run, or are about to
    memory_sold_bytes: int
    memory_bytes: int  # what may be sold
    cpu_sold_millis: int
    disk_free_bytes: int
    disk_promised_bytes: int  # by how much disks and volumes may still grow
    disk_reserve_bytes: int


class Capacity:
    """Measures the machine, and decides whether one more app or version has room.

    A volume counts with its full size, as its space is allocated when it is made. The disk of a
    replaced version does not grow any more.
    """

    def __init__(
        self, *, db: Database, runtime: EngineView, limits: Limits, policy: Policy
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._limits = limits
        self._policy = policy
        self._resources: Resources | None = None  # as they were measured last
        self._growth_bytes = 0  # by how much the disks of apps may still grow
        self._starting: set[str] = set()  # projects that are started, but not active in their rows

    @property
    def volume_bytes(self) -> int:
        """The size of a new volume."""
        return self._limits.volume_bytes

    async def measure(self) -> Resources:
        """Measures what there is for apps."""
        resources = await self._runtime.resources()
        kept = await deployments.kept_releases(self._db)
        self._growth_bytes = sum(
            growth
            for deployment_id, growth in resources.growth.items()
            if kept.get(deployment_id) is not DeploymentStatus.SUPERSEDED
        )
        self._resources = resources
        volumes = sum(resources.volume_growth.values())
        record_disk(free_bytes=resources.free_bytes, promised_bytes=self._growth_bytes + volumes)
        return resources

    async def room(self) -> Room:
        """Measures what is sold, and what there is."""
        resources = await self.measure()
        apps = (await quotes.promised(self._db)).running
        return Room(
            apps=apps,
            memory_sold_bytes=apps * self._limits.memory_bytes,
            memory_bytes=int(self._policy.memory_overcommit * resources.memory_bytes),
            cpu_sold_millis=apps * self._limits.cpu_millis,
            disk_free_bytes=resources.free_bytes,
            disk_promised_bytes=self._growth_bytes + sum(resources.volume_growth.values()),
            disk_reserve_bytes=self._policy.reserve_bytes,
        )

    def spare_bytes(self, resources: Resources) -> int:
        """Returns the free bytes beyond the reserve; negative when part of the reserve is used."""
        return resources.free_bytes - self._policy.reserve_bytes

    async def held_bytes(self, project: Project) -> int:
        """Returns how much a project's disk and volume hold, at most."""
        resources, held = await self._runtime.resources(), 0
        if (serving := project.serving_deployment_id) is not None:
            held += self._limits.disk_bytes - resources.growth.get(serving, 0)
        if project.volume:
            held += self._limits.volume_bytes - resources.volume_growth.get(project.id, 0)
        return max(0, held)

    async def check(self) -> None:
        """Raises NoCapacity when part of the reserve is used."""
        if self.spare_bytes(await self._runtime.resources()) < 0:
            raise NoCapacity

    async def require(
        self, source: Source, *, new_volume: bool = False, project_id: str = ""
    ) -> None:
        """Raises NoCapacity unless there is room for one more version, and its new volume if any.

        `project_id` is that of an existing project.
        """
        promised = await quotes.promised(source, without=project_id)
        await self._require_memory(source, project_id, others=promised.running)
        there = await self._measured()
        size, volume_size = self._limits.disk_bytes, self._limits.volume_bytes
        absent = [each for each in promised.coming if each.deployment_id not in there.growth]
        to_make = {each.project_id for each in absent if each.volume} - there.volume_growth.keys()
        growth = self._growth_bytes + (len(absent) + 1) * size
        volumes = sum(there.volume_growth.values()) + (len(to_make) + new_volume) * volume_size
        if there.networks is not None and there.networks <= len(absent):
            raise NoCapacity
        taken = growth / self._policy.disk_overcommit + volumes
        if there.held or taken > self.spare_bytes(there):  # apps that wait for room come first
            raise NoCapacity

    async def require_memory(self, source: Source, project_id: str = "") -> None:
        """Raises NoCapacity unless memory allows one more app; a running project always has it."""
        promised = await quotes.promised(source, without=project_id)
        await self._require_memory(source, project_id, others=promised.running)

    async def _require_memory(self, source: Source, project_id: str, *, others: int) -> None:
        coming = len(self._starting - {project_id})
        memory_bytes = (await self._measured()).memory_bytes
        allowed = self._policy.memory_overcommit * memory_bytes
        if (others + coming + 1) * self._limits.memory_bytes <= allowed:
            return
        if not project_id or others == (await quotes.promised(source)).running:
            raise NoCapacity

    async def _measured(self) -> Resources:
        return self._resources or await self.measure()

    async def has_memory(self, project_id: str) -> bool:
        """Returns whether there is memory for a sleeping project's app."""
        try:
            await self.require_memory(self._db, project_id)
        except NoCapacity:
            return False
        return True

    @contextmanager
    def starting(self, project_id: str) -> Iterator[None]:
        """Counts a project as running while it is started."""
        self._starting.add(project_id)
        try:
            yield
        finally:
            self._starting.discard(project_id)

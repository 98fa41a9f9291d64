"""What limits new apps: the operator's rules, and what the machine has promised to its apps.

Disks are sparse, and apps use less memory than they may. So free space alone does not say whether
there is room: each app may grow to its limits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from moorage.engines.engine import EngineView, Resources
from moorage.errors import Maintenance, NoCapacity, TooManyProjects, WalletNotListed
from moorage.metrics import record_disk
from moorage.records.deployment import DeploymentStatus
from moorage.records.project import Project
from moorage.records.size import STANDARD, Size, Sizes
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database, Source
from moorage.storage.money import quotes
from moorage.storage.money.quotes import Promised
from moorage.storage.operation import wallet_rules
from moorage.storage.operation.wallet_rules import WalletRule

_MIB = 1024 * 1024


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

    def __init__(self, *, db: Database, runtime: EngineView, sizes: Sizes, policy: Policy) -> None:
        self._db = db
        self._runtime = runtime
        self._sizes = sizes
        self._policy = policy
        self._resources: Resources | None = None  # as they were measured last
        self._growth_bytes = 0  # by how much the disks of apps may still grow
        # Projects that are started, but not active in their rows, and their sizes.
        self._starting: dict[str, str] = {}

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
        promised = await quotes.promised(self._db)
        return Room(
            apps=promised.running,
            memory_sold_bytes=_MIB * self._sold(promised, lambda size: size.memory_mib),
            memory_bytes=int(self._policy.memory_overcommit * resources.memory_bytes),
            cpu_sold_millis=self._sold(promised, lambda size: size.cpu_millis),
            disk_free_bytes=resources.free_bytes,
            disk_promised_bytes=self._growth_bytes + sum(resources.volume_growth.values()),
            disk_reserve_bytes=self._policy.reserve_bytes,
        )

    def _sold(self, promised: Promised, amount: Callable[[Size], int]) -> int:
        """Returns how much of something the apps may use that run or are about to.

        A version under way counts in place of the one that serves, where it is larger.
        """
        of = self._sizes.of
        sold = sum(amount(of(size)) * count for size, count in promised.awake.items())
        for each in promised.coming:
            counted = 0 if each.in_place_of is None else amount(of(each.in_place_of))
            sold += max(0, amount(of(each.size)) - counted)
        return sold

    def spare_bytes(self, resources: Resources) -> int:
        """Returns the free bytes beyond the reserve; negative when part of the reserve is used."""
        return resources.free_bytes - self._policy.reserve_bytes

    async def held_bytes(self, project: Project) -> int:
        """Returns how much a project's disk and volume hold, at most."""
        resources, held = await self._runtime.resources(), 0
        size = self._sizes.of(project.size)
        if (serving := project.serving_deployment_id) is not None:
            held += size.disk_mib * _MIB - resources.growth.get(serving, 0)
        if project.volume:
            held += size.volume_mib * _MIB - resources.volume_growth.get(project.id, 0)
        return max(0, held)

    async def check(self) -> None:
        """Raises NoCapacity when part of the reserve is used."""
        if self.spare_bytes(await self._runtime.resources()) < 0:
            raise NoCapacity

    async def require(
        self,
        source: Source,
        size: str = STANDARD,
        *,
        new_volume: bool = False,
        project_id: str = "",
    ) -> None:
        """Raises NoCapacity unless there is room for one more version, and its new volume if any.

        `project_id` is that of an existing project.
        """
        promised = await quotes.promised(source, without=project_id)
        await self._require_memory(source, size, project_id, promised)
        there, of = await self._measured(), self._sizes.of
        absent = [each for each in promised.coming if each.deployment_id not in there.growth]
        to_make = {
            each.project_id: of(each.size).volume_mib
            for each in absent
            if each.volume and each.project_id not in there.volume_growth
        }
        disks_mib = sum(of(each.size).disk_mib for each in absent) + of(size).disk_mib
        volumes_mib = sum(to_make.values()) + new_volume * of(size).volume_mib
        volumes_mib += sum(
            self._enlarges(each.before, each.size)
            for each in promised.coming
            if each.project_id in there.volume_growth and each.project_id != project_id
        )
        own = await projects.by_id(source, project_id) if project_id else None
        if own is not None and own.volume and not new_volume:
            volumes_mib += self._enlarges(own.size, size)
        growth = self._growth_bytes + disks_mib * _MIB
        volumes = sum(there.volume_growth.values()) + volumes_mib * _MIB
        if there.networks is not None and there.networks <= len(absent):
            raise NoCapacity
        taken = growth / self._policy.disk_overcommit + volumes
        if there.held or taken > self.spare_bytes(there):  # apps that wait for room come first
            raise NoCapacity

    def _enlarges(self, before: str, after: str) -> int:
        """Returns by how many MiB a project's volume grows when it gets another size."""
        return max(0, self._sizes.of(after).volume_mib - self._sizes.of(before).volume_mib)

    async def require_memory(
        self, source: Source, size: str = STANDARD, project_id: str = ""
    ) -> None:
        """Raises NoCapacity unless memory and processors allow one more app.

        A running project has its own.
        """
        promised = await quotes.promised(source, without=project_id)
        await self._require_memory(source, size, project_id, promised)

    async def _require_memory(
        self, source: Source, size: str, project_id: str, others: Promised
    ) -> None:
        there = await self._measured()
        coming = [it for name, it in self._starting.items() if name != project_id] + [size]
        limits: list[tuple[float, Callable[[Size], int]]] = [
            (self._policy.memory_overcommit * there.memory_bytes, lambda it: it.memory_mib * _MIB)
        ]
        if there.cpu_millis is not None:
            limits.append((there.cpu_millis, lambda it: it.cpu_millis))
        for allowed, amount in limits:
            taken = self._sold(others, amount) + sum(amount(self._sizes.of(it)) for it in coming)
            if taken > allowed and (
                not project_id or taken > self._sold(await quotes.promised(source), amount)
            ):
                raise NoCapacity

    async def has_room(self, size: Size) -> bool:
        """Returns whether there is room for one more app of a size."""
        try:
            await self.require(self._db, size.name)
        except NoCapacity:
            return False
        return True

    async def _measured(self) -> Resources:
        return self._resources or await self.measure()

    async def has_memory(self, project: Project) -> bool:
        """Returns whether there is memory for a sleeping project's app."""
        try:
            await self.require_memory(self._db, project.size, project.id)
        except NoCapacity:
            return False
        return True

    @contextmanager
    def starting(self, name: str, size: str) -> Iterator[None]:
        """Counts a project, or a run, as running while it is started."""
        self._starting[name] = size
        try:
            yield
        finally:
            self._starting.pop(name, None)

"""The services of the room: what accepts deploys, carries them out, and runs apps."""

from functools import cached_property, partial

from moorage.auth.rate_limit import MemoryRateLimiter, RateLimiter
from moorage.certificates.certificates import Certificates
from moorage.core import Core
from moorage.engines.engine import Engine
from moorage.engines.locks import Locks
from moorage.errors import InvalidField
from moorage.hosting import limits
from moorage.hosting.addresses.addresses import Addresses
from moorage.hosting.addresses.domains import Domains, TxtRecords, Uncertified
from moorage.hosting.addresses.routes import SWITCH_SECONDS, FollowedRoutes, UnseenRoutes
from moorage.hosting.entrance.admission import Admission, Pricing
from moorage.hosting.entrance.capacity import Capacity, Quotas
from moorage.hosting.entrance.configuration import ProjectConfiguration
from moorage.hosting.entrance.runs import Runs
from moorage.hosting.entrance.written import Written
from moorage.hosting.exports import Exporter, ExportFiles, OwnerExports
from moorage.hosting.keeping.apps import Apps
from moorage.hosting.keeping.deletion import Deletion, KeptElsewhere, Retention
from moorage.hosting.keeping.evictions import Evictions
from moorage.hosting.keeping.reconciler import Reconciler
from moorage.hosting.keeping.releases import Drain, Releases
from moorage.hosting.keeping.restarts import Restarts
from moorage.hosting.keeping.sleep import MACHINES_LOG, Sleep, Visits, log_number
from moorage.hosting.keeping.space import ReservedDiskFile, Space
from moorage.hosting.keeping.suspension import Pausing, Suspension
from moorage.hosting.keeping.transfer import Transfers
from moorage.hosting.keeping.usage import UsageMeter
from moorage.hosting.keeping.wake import Wake, WakeElsewhere
from moorage.hosting.platform import AppPlatform, Following
from moorage.hosting.sources import Sources
from moorage.hosting.work.cancellation import Cancellation, ClearingUp
from moorage.hosting.work.moving import VolumeMoves
from moorage.hosting.work.rollback import Rollback
from moorage.hosting.work.runs import Runner
from moorage.hosting.work.schedules import Schedules
from moorage.hosting.work.switch import Switch
from moorage.hosting.work.worker import Worker
from moorage.hosting.work.workflow import Specs, Timing, Workflow
from moorage.ledger.metering import Metering
from moorage.ledger.services import LedgerServices
from moorage.loop import Run
from moorage.payments.price.quotes import Quotes
from moorage.payments.taking.paywall import Paywall
from moorage.records.domain import DomainRules
from moorage.records.project import Project
from moorage.records.run import Run as ProjectRun
from moorage.records.size import PriceList, Sizes
from moorage.settings import Settings
from moorage.storage.apps import deployments

_LOOKS_PER_MINUTE = 6  # at a domain's record, on request


class FollowingServices:
    """Routes, wakes and counts; each is made on its first use."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        *,
        platform: AppPlatform,
        following: Following,
        addresses: Addresses,
        capacity: Capacity,
        metering: Metering,
    ) -> None:
        self._core = core
        self._settings = settings
        self._platform = platform
        self._following = following
        self._addresses = addresses
        self._capacity = capacity
        self._metering = metering

    @cached_property
    def routes(self) -> FollowedRoutes:
        return FollowedRoutes(
            db=self._core.db,
            instances=self._following.instances,
            routes=self._following.routes,
            hosts=self._platform.hosts,
        )

    @cached_property
    def wake(self) -> WakeElsewhere:
        return WakeElsewhere(
            db=self._core.db,
            addresses=self._addresses,
            routes=self.routes,
            capacity=self._capacity,
            metering=self._metering,
            timeout_seconds=limits.wake_seconds(self._settings),
            clock=self._core.clock,
        )

    @cached_property
    def visits(self) -> Visits:
        return Visits(
            db=self._core.db,
            addresses=self._addresses,
            log=self._following.access_log,
            on_use=lambda _deployment_id: None,  # the leader sees the sums
            number=log_number(self._core.leases.holder),
        )


class DeployServices:
    """What accepts deploys, carries them out, and keeps apps; each is made on its first use."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        *,
        platform: AppPlatform,
        ledger: LedgerServices,
        certificates: Certificates | None = None,
    ) -> None:
        self._core = core
        self._db, self._clock = core.db, core.clock
        self._settings = settings
        self._platform = platform
        self._certificates = certificates
        self._view = platform.view
        self._sources = Sources(core.sources, core.content)
        self._metering = ledger.metering
        self._build_time = ledger.build_time
        self.keeps = platform.keeping is not None  # whether this gateway keeps the apps

    @property
    def _runtime(self) -> Engine:
        return self._platform.kept.runtime

    @cached_property
    def _elsewhere(self) -> KeptElsewhere:
        return KeptElsewhere(db=self._db, sources=self._sources, clock=self._clock)

    # Addresses

    @cached_property
    def apps(self) -> Apps:
        return Apps(clock=self._clock)

    @cached_property
    def addresses(self) -> Addresses:
        return Addresses(
            db=self._db,
            routes=self._platform.routes,
            hosts=self._platform.hosts,
            are_reused=self._platform.reuses_addresses,
        )

    @cached_property
    def unseen(self) -> UnseenRoutes | None:
        """Watches the routes of this gateway's proxy, where apps' addresses are used again."""
        platform = self._platform
        if not platform.reuses_addresses:
            return None
        if platform.following is not None:
            instances, routes = platform.following.instances, platform.following.routes
        else:
            instances, routes = platform.kept.runtime, platform.routes
        return UnseenRoutes(instances=instances, routes=routes, clock=self._clock)

    @cached_property
    def domains(self) -> Domains:
        """Raises InvalidField for `dns_servers` that are no addresses."""
        try:
            records = TxtRecords(self._settings.dns_servers)
        except ValueError as error:
            raise InvalidField("dns_servers", str(error)) from error
        return Domains(
            db=self._db,
            records=records,
            addresses=self.addresses,
            certificates=self._certificates,
            apps=self.apps,
            rules=DomainRules(
                base_domains=self._settings.base_domains,
                gateway_host=self._platform.gateway_host or "",
                max_length=self._platform.max_host_length,
            ),
            max_per_project=limits.MAX_DOMAINS,
            asks=MemoryRateLimiter(clock=self._clock, limit=_LOOKS_PER_MINUTE),
            clock=self._clock,
        )

    # Entrance

    @cached_property
    def capacity(self) -> Capacity:
        return Capacity(
            db=self._db,
            runtime=self._view,
            sizes=self._settings.size_list,
            policy=limits.capacity_policy(self._settings),
        )

    def admission(
        self, *, quotes: Quotes, paywall: Paywall, prices: PriceList, sizes: Sizes
    ) -> Admission:
        return Admission(
            db=self._db,
            quotes=quotes,
            paywall=paywall,
            pricing=Pricing(prices, sizes),
            sources=self._sources,
            capacity=self.capacity,
            quotas=self.quotas,
            metering=self._metering,
            vault=self._core.vault,
            clock=self._clock,
            on_queued=self.worker.wake,
            on_superseded=self.worker.drop,
        )

    @cached_property
    def quotas(self) -> Quotas:
        return limits.quotas(self._settings)

    @cached_property
    def written(self) -> Written:
        return Written(
            self._view,
            self._clock,
            releases_kept=limits.RELEASES_KEPT,
            volume_bytes=limits.app_limits(self._settings.size_list.default).volume_bytes,
        )

    @cached_property
    def configuration(self) -> ProjectConfiguration:
        return ProjectConfiguration(
            db=self._db,
            vault=self._core.vault,
            sizes=self._settings.size_list,
            capacity=self.capacity,
            metering=self._metering,
            copies=self._copies,
            clock=self._clock,
            on_queued=self.worker.wake,
        )

    @cached_property
    def _copies(self) -> RateLimiter:
        """Limits how often a wallet has a disk copied, and a project is resumed after a pause."""
        return MemoryRateLimiter(
            clock=self._clock,
            limit=limits.copies_limit(self._settings),
            window_seconds=limits.COPIES_SECONDS,
        )

    # Work

    @cached_property
    def _switch(self) -> Switch:
        return Switch(
            db=self._db,
            addresses=self.addresses,
            answers=self._platform.kept.answers,
            answers_plain=self._platform.kept.answers_plain,
            certificates=self._certificates,
            apps=self.apps,
            metering=self._metering,
            sizes=self._settings.size_list,
            hosts=self._platform.hosts,
            clock=self._clock,
        )

    @cached_property
    def _volume_locks(self) -> Locks:
        """Who copies a volume has its lock."""
        return Locks()

    @cached_property
    def volume_moves(self) -> VolumeMoves:
        return VolumeMoves(
            db=self._db,
            runtime=self._platform.kept.runtime,
            scratch=self._core.data_dir / "apps" / "moving",
            reserve_bytes=limits.capacity_policy(self._settings).reserve_bytes,
            addresses=self.addresses,
            apps=self.apps,
            metering=self._metering,
            locks=self._volume_locks,
            sources=self._sources,
            sizes=self._settings.size_list,
            clock=self._clock,
        )

    @cached_property
    def worker(self) -> Worker:
        return Worker(
            db=self._db,
            carry_out=lambda job: self.workflow.run(job),  # noqa: PLW0108 (it wakes the worker)
            places=limits.job_places(self._settings),
            holder=self._core.leader,
            clock=self._clock,
            speed=self._core.speed,
        )

    @cached_property
    def workflow(self) -> Workflow:
        return Workflow(
            db=self._db,
            runtime=self._runtime,
            switch=self._switch,
            specs=self._specs,
            build_time=self._build_time,
            timing=Timing(
                self._settings.listen_seconds,
                limits.healthy_seconds(self._settings),
                self._settings.build_seconds,
            ),
            sources=self._sources,
            clock=self._clock,
            on_built=self.worker.wake,
            on_failed=self._platform.kept.discard_toolchains,
            engine=self._platform.kept.engine,
            healthy=self._platform.kept.healthy,
            moved=self.volume_moves.moved,
            retries_installs=self._settings.retry_installs,
        )

    @cached_property
    def uncertified(self) -> Uncertified:
        return Uncertified(
            db=self._db,
            certificates=self._certificates,
            apps=self.apps,
            metering=self._metering,
            hosts=self._platform.hosts,
            clock=self._clock,
        )

    @cached_property
    def _specs(self) -> Specs:
        return Specs(
            vault=self._core.vault,
            sizes=self._settings.size_list,
            build_limits=limits.build_limits(self._settings),
            build_seconds=self._settings.build_seconds,
            sources=self._sources,
        )

    @cached_property
    def cancellation(self) -> Cancellation:
        return Cancellation(
            db=self._db,
            clear_up=self.clear_up if self.keeps else self._elsewhere.cleared_up,
            runtime=self._view,
            clock=self._clock,
        )

    @cached_property
    def clear_up(self) -> ClearingUp:
        return ClearingUp(
            db=self._db,
            worker=self.worker,
            runtime=self._runtime,
            sources=self._sources,
            clock=self._clock,
        )

    @cached_property
    def rollback(self) -> Rollback:
        return Rollback(
            db=self._db,
            runtime=self._view,
            capacity=self.capacity,
            copies=self._copies,
            clock=self._clock,
            on_queued=self.worker.wake,
            on_superseded=self.worker.drop,
        )

    @cached_property
    def runner(self) -> Runner:
        return Runner(
            db=self._db,
            runtime=self._runtime,
            specs=self._specs,
            capacity=self.capacity,
            metering=self._metering,
            sizes=self._settings.size_list,
            ask=self._ask,
            start_seconds=self._settings.listen_seconds,
            clock=self._clock,
            speed=self._core.speed,
        )

    async def _ask(self, project: Project, run: ProjectRun) -> int | None:
        """Visits a project's app for its schedule."""
        host = self.addresses.host(project)
        headers = {"Moorage-Schedule": run.schedule or ""}
        return await self._platform.kept.visit(host, run.path, headers)

    @cached_property
    def schedules(self) -> Schedules:
        return Schedules(db=self._db, clock=self._clock, on_queued=self._wake_runner)

    @cached_property
    def runs_of_projects(self) -> Runs:
        return Runs(
            db=self._db,
            sizes=self._settings.size_list,
            clock=self._clock,
            on_queued=self._wake_runner,
        )

    def _wake_runner(self) -> None:
        if self.keeps:
            self.runner.wake()

    # Keeping

    @cached_property
    def reconciler(self) -> Reconciler:
        return Reconciler(
            db=self._db,
            runtime=self._runtime,
            addresses=self.addresses,
            metering=self._metering,
            specs=self._specs,
            listen_seconds=self._settings.listen_seconds,
            sources=self._sources,
            apps=self.apps,
            releases=self._releases,
            restarts=Restarts(
                db=self._db, runtime=self._runtime, apps=self.apps, clock=self._clock
            ),
            sleep=self.sleep,
            capacity=self.capacity,
            clock=self._clock,
            abandon=self._abandon,
        )

    async def _abandon(self, project: Project) -> None:
        for deployment in await deployments.of_project(self._db, project.id):
            await self.worker.abandon(deployment.id)
        await self.runner.end_of(project)

    @cached_property
    def _releases(self) -> Releases:
        drain = Drain(
            runtime=self._runtime,
            apps=self.apps,
            limit_seconds=limits.DRAIN_SECONDS,
            clock=self._clock,
            min_seconds=SWITCH_SECONDS if self._platform.several_proxies else 0.0,
        )
        return Releases(
            db=self._db,
            runtime=self._runtime,
            apps=self.apps,
            drain=drain,
            max_kept=limits.RELEASES_KEPT,
        )

    @cached_property
    def sleep(self) -> Sleep:
        return Sleep(
            db=self._db,
            runtime=self._runtime,
            addresses=self.addresses,
            apps=self.apps,
            metering=self._metering,
            min_seconds=self._settings.min_sleep_after_seconds,
            clock=self._clock,
            several_proxies=self._platform.several_proxies,
        )

    @cached_property
    def wake(self) -> Wake:
        return Wake(
            db=self._db,
            addresses=self.addresses,
            apps=self.apps,
            sleep=self.sleep,
            capacity=self.capacity,
            metering=self._metering,
            restarts=self.reconciler.restarts,
            runtime=self._runtime,
            start=self.reconciler.start,
            timeout_seconds=limits.wake_seconds(self._settings),
            healthy_seconds=limits.healthy_seconds(self._settings),
            clock=self._clock,
            healthy=self._platform.kept.healthy,
            pause=self._platform.kept.pause,
        )

    @cached_property
    def usage(self) -> UsageMeter:
        return UsageMeter(
            db=self._db,
            runtime=self._runtime,
            keep_days=limits.USAGE_DAYS,
            clock=self._clock,
        )

    @cached_property
    def visits(self) -> Visits:
        several = self._platform.several_proxies
        return Visits(
            db=self._db,
            addresses=self.addresses,
            log=self._platform.kept.access_log,
            on_use=self.sleep.use,
            number=log_number(self._core.leases.holder) if several else MACHINES_LOG,
        )

    @cached_property
    def following(self) -> FollowingServices | None:
        """What this gateway does at a proxy of its own while another keeps the apps."""
        if self._platform.following is None:
            return None
        return FollowingServices(
            self._core,
            self._settings,
            platform=self._platform,
            following=self._platform.following,
            addresses=self.addresses,
            capacity=self.capacity,
            metering=self._metering,
        )

    @property
    def waking(self) -> Wake | WakeElsewhere:
        """What brings up the app that a visitor of this gateway's proxy waits for."""
        return self.wake if self.following is None else self.following.wake

    @cached_property
    def space(self) -> Space:
        """With a ballast file that is part of the reserve."""
        return Space(
            db=self._db,
            runtime=self._runtime,
            metering=self._metering,
            capacity=self.capacity,
            ballast=ReservedDiskFile(
                self._core.data_dir / "ballast", limits.ballast_bytes(self._settings)
            ),
            clock=self._clock,
        )

    @cached_property
    def suspension(self) -> Suspension:
        drop = self.worker.drop
        return Suspension(db=self._db, metering=self._metering, on_given_up=drop, clock=self._clock)

    @cached_property
    def pausing(self) -> Pausing:
        return Pausing(
            db=self._db,
            metering=self._metering,
            resumptions=self._copies,
            on_given_up=self.worker.drop,
            clock=self._clock,
        )

    @cached_property
    def transfers(self) -> Transfers:
        return Transfers(
            db=self._db,
            metering=self._metering,
            quotas=self.quotas,
            vault=self._core.vault,
            owners_apart=self._view.capabilities.owners_apart,
            on_queued=self.worker.wake,
            clock=self._clock,
        )

    @cached_property
    def deletion(self) -> Deletion:
        return Deletion(
            db=self._db,
            finish=self.reconciler.delete if self.keeps else self._elsewhere.deleted,
            metering=self._metering,
            apps=self.apps,
        )

    @cached_property
    def retention(self) -> Retention:
        return Retention(
            db=self._db,
            deletion=self.deletion,
            metering=self._metering,
            suspended_days=self._settings.retention_days,
            failed_days=limits.FAILED_RETENTION_DAYS,
            clock=self._clock,
        )

    @cached_property
    def export_files(self) -> ExportFiles:
        return ExportFiles(self._core)

    @cached_property
    def _exporter(self) -> Exporter:
        return Exporter(
            self._core, self._runtime, self.export_files, volume_locks=self._volume_locks
        )

    @cached_property
    def owner_exports(self) -> OwnerExports:
        return OwnerExports(
            self._core, self._exporter, needed_bytes=limits.export_bytes(self._settings)
        )

    @cached_property
    def evictions(self) -> Evictions:
        return Evictions(
            self._core,
            self._exporter,
            deletion=self.deletion,
            held_bytes=self.capacity.held_bytes,
            kept_days=limits.EXPORT_DAYS,
        )

    @property
    def runs(self) -> tuple[Run, ...]:
        if not self.keeps:
            return ()
        return self.worker.run, self.runner.run, partial(self.reconciler.run, self.space.handle)

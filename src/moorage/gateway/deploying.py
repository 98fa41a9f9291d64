"""Everything that carries out deployments and keeps apps running, wired from the settings."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from moorage.auth.rate_limit import RateLimiter
from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.addresses.certificates import Certificates
from moorage.deploy.entrance.capacity import Capacity
from moorage.deploy.entrance.configuration import ProjectConfiguration
from moorage.deploy.keeping.deletion import Deletion
from moorage.deploy.keeping.drain import Drain
from moorage.deploy.keeping.reconciler import Reconciler
from moorage.deploy.keeping.releases import Releases
from moorage.deploy.keeping.restarts import Restarts
from moorage.deploy.keeping.retention import Retention
from moorage.deploy.keeping.sleep import Sleep
from moorage.deploy.keeping.subject_tasks import SubjectTasks
from moorage.deploy.keeping.suspension import Suspension
from moorage.deploy.keeping.usage import UsageMeter
from moorage.deploy.keeping.wake import Wake
from moorage.deploy.work.cancellation import Cancellation
from moorage.deploy.work.rollback import Rollback
from moorage.deploy.work.specs import Specs
from moorage.deploy.work.switch import Switch
from moorage.deploy.work.worker import Worker
from moorage.deploy.work.workflow import Timing, Workflow
from moorage.gateway.platform import Platform, app_limits, build_limits
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering
from moorage.records.job import Places
from moorage.routing.probe import answers
from moorage.settings import Settings
from moorage.storage.database import Database
from moorage.storage.vault import Vault

_REQUESTS_PER_COPY = 3
_COPIES_SECONDS = 300
_PROXY_ANSWER_SECONDS = 30.0  # a host's first certificate takes a while


@dataclass(frozen=True, kw_only=True)
class DeployServices:
    """What acts on deployments."""

    addresses: Addresses
    certificates: Certificates
    worker: Worker
    reconciler: Reconciler
    wake: Wake
    usage: UsageMeter
    cancellation: Cancellation
    rollback: Rollback
    blocking: Suspension
    configuration: ProjectConfiguration
    deletion: Deletion
    retention: Retention


@dataclass(frozen=True, kw_only=True)
class DeployContext:
    """What all of them stand on."""

    db: Database
    vault: Vault
    sources: Path
    metering: Metering
    capacity: Capacity
    build_time: BuildTime
    clock: Clock
    holder: str


def deploy_services(
    settings: Settings, platform: Platform, context: DeployContext
) -> DeployServices:
    """Wire them."""
    db, clock = context.db, context.clock
    addresses = Addresses(db=db, routes=platform.router, hosts=platform.hosts)
    specs = _specs(settings, context)
    workflow = _workflow(
        settings,
        platform,
        context,
        addresses,
        specs,
        on_built=lambda: worker.wake(),  # noqa: PLW0108 (the worker is made with the workflow)
    )
    worker = Worker(
        db=db,
        carry_out=workflow.run,
        places=_places(settings),
        holder=context.holder,
        clock=clock,
    )
    subject_tasks = SubjectTasks(clock=clock)
    sleep = _sleep(settings, platform, context, addresses, subject_tasks)
    reconciler = _reconciler(settings, platform, context, addresses, specs, subject_tasks, sleep)
    copies = _copies(settings, clock)
    deletion = Deletion(db=db, worker=worker, reconciler=reconciler, metering=context.metering)
    return DeployServices(
        addresses=addresses,
        certificates=_certificates(settings, platform, context, addresses),
        worker=worker,
        reconciler=reconciler,
        wake=_wake(settings, platform, context, addresses, subject_tasks, sleep, reconciler),
        usage=_usage(settings, platform, context, addresses, sleep),
        cancellation=Cancellation(
            db=db,
            worker=worker,
            runtime=platform.runtime,
            sources=context.sources,
            clock=clock,
        ),
        rollback=Rollback(
            db=db,
            runtime=platform.runtime,
            capacity=context.capacity,
            copies=copies,
            clock=clock,
            on_queued=worker.wake,
            on_superseded=worker.drop,
        ),
        blocking=Suspension(db=db, metering=context.metering, on_given_up=worker.drop, clock=clock),
        configuration=ProjectConfiguration(
            db=db,
            vault=context.vault,
            capacity=context.capacity,
            copies=copies,
            clock=clock,
            on_queued=worker.wake,
        ),
        deletion=deletion,
        retention=_retention(settings, context, deletion),
    )


def _places(settings: Settings) -> Places:
    return Places(
        jobs=settings.deploys_at_once,
        builds=settings.builds_at_once,
        builds_of_wallet=settings.builds_per_wallet,
    )


def _certificates(
    settings: Settings, platform: Platform, context: DeployContext, addresses: Addresses
) -> Certificates:
    return Certificates(
        db=context.db,
        addresses=addresses,
        own_host=urlsplit(platform.gateway_url).hostname,
        per_wallet=settings.certificates_per_wallet,
        clock=context.clock,
    )


def _copies(settings: Settings, clock: Clock) -> RateLimiter:
    """How often a wallet may have a disk copied: for restarts, changes and rollbacks."""
    limit = max(1, settings.requests_per_minute // _REQUESTS_PER_COPY)
    return RateLimiter(clock=clock, limit=limit, window_seconds=_COPIES_SECONDS)


def _specs(settings: Settings, context: DeployContext) -> Specs:
    return Specs(
        vault=context.vault,
        app_limits=app_limits(settings),
        build_limits=build_limits(settings),
        build_seconds=settings.build_seconds,
        sources=context.sources,
    )


def _workflow(
    settings: Settings,
    platform: Platform,
    context: DeployContext,
    addresses: Addresses,
    specs: Specs,
    *,
    on_built: Callable[[], None],
) -> Workflow:
    switch = Switch(
        db=context.db,
        addresses=addresses,
        answers=_answers_at(platform),
        metering=context.metering,
        hosts=platform.hosts,
        clock=context.clock,
    )
    return Workflow(
        db=context.db,
        runtime=platform.runtime,
        switch=switch,
        specs=specs,
        build_time=context.build_time,
        timing=Timing(
            listen_seconds=settings.listen_seconds,
            healthy_seconds=settings.healthy_seconds,
        ),
        sources=context.sources,
        clock=context.clock,
        on_built=on_built,
        on_failed=lambda plan: platform.toolchains.store.discard(plan.toolchains),
    )


def _reconciler(
    settings: Settings,
    platform: Platform,
    context: DeployContext,
    addresses: Addresses,
    specs: Specs,
    subject_tasks: SubjectTasks,
    sleep: Sleep,
) -> Reconciler:
    clock, runtime = context.clock, platform.runtime
    return Reconciler(
        db=context.db,
        runtime=runtime,
        addresses=addresses,
        metering=context.metering,
        specs=specs,
        listen_seconds=settings.listen_seconds,
        sources=context.sources,
        subject_tasks=subject_tasks,
        releases=Releases(
            db=context.db,
            runtime=runtime,
            subject_tasks=subject_tasks,
            drain=Drain(runtime=runtime, limit_seconds=settings.drain_seconds, clock=clock),
            most=settings.releases_kept,
        ),
        restarts=Restarts(db=context.db, runtime=runtime, subject_tasks=subject_tasks, clock=clock),
        sleep=sleep,
        capacity=context.capacity,
        clock=clock,
    )


def _sleep(
    settings: Settings,
    platform: Platform,
    context: DeployContext,
    addresses: Addresses,
    subject_tasks: SubjectTasks,
) -> Sleep:
    return Sleep(
        db=context.db,
        runtime=platform.runtime,
        addresses=addresses,
        subject_tasks=subject_tasks,
        after_seconds=settings.sleep_after_seconds,
        clock=context.clock,
    )


def _usage(
    settings: Settings,
    platform: Platform,
    context: DeployContext,
    addresses: Addresses,
    sleep: Sleep,
) -> UsageMeter:
    return UsageMeter(
        db=context.db,
        runtime=platform.runtime,
        addresses=addresses,
        log=platform.access_log,
        sleep=sleep,
        keep_days=settings.usage_days,
        clock=context.clock,
    )


def _wake(
    settings: Settings,
    platform: Platform,
    context: DeployContext,
    addresses: Addresses,
    subject_tasks: SubjectTasks,
    sleep: Sleep,
    reconciler: Reconciler,
) -> Wake:
    return Wake(
        db=context.db,
        addresses=addresses,
        subject_tasks=subject_tasks,
        sleep=sleep,
        capacity=context.capacity,
        restarts=reconciler.restarts,
        runtime=platform.runtime,
        start=reconciler.start,
        listen_seconds=settings.listen_seconds,
        healthy_seconds=settings.healthy_seconds,
        clock=context.clock,
    )


def _retention(settings: Settings, context: DeployContext, deletion: Deletion) -> Retention:
    return Retention(
        db=context.db,
        deletion=deletion,
        metering=context.metering,
        suspended_days=settings.retention_days,
        failed_days=settings.failed_retention_days,
        clock=context.clock,
    )


def _answers_at(platform: Platform) -> Callable[[str], Awaitable[bool]]:
    tls = ssl.create_default_context() if platform.hosts.scheme == "https" else None

    async def answers_at(host: str) -> bool:
        return await answers(
            platform.proxy_port,
            host,
            timeout_seconds=_PROXY_ANSWER_SECONDS,
            address=platform.proxy_address,
            tls=tls,
            token=platform.probe_token,
        )

    return answers_at

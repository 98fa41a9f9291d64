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
from moorage.deploy.entrance.configuration import Configuration
from moorage.deploy.keeping.deletion import Deletion
from moorage.deploy.keeping.drain import Drain
from moorage.deploy.keeping.reconciler import Reconciler
from moorage.deploy.keeping.releases import Releases
from moorage.deploy.keeping.restarts import Restarts
from moorage.deploy.keeping.retention import Retention
from moorage.deploy.keeping.sleep import Sleep
from moorage.deploy.keeping.subject_tasks import Chores
from moorage.deploy.keeping.suspension import Blocking
from moorage.deploy.keeping.usage import UsageMeter
from moorage.deploy.keeping.wake import Wake
from moorage.deploy.work.cancellation import Cancellation
from moorage.deploy.work.rollback import Rollback
from moorage.deploy.work.specs import Specs
from moorage.deploy.work.switch import Switch
from moorage.deploy.work.worker import Worker
from moorage.deploy.work.workflow import Timing, Workflow
from moorage.gateway.platform import Apparatus, app_limits, build_limits
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
    blocking: Blocking
    configuration: Configuration
    deletion: Deletion
    retention: Retention


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What all of them stand on."""

    db: Database
    vault: Vault
    sources: Path
    metering: Metering
    capacity: Capacity
    build_time: BuildTime
    clock: Clock
    on_step: Callable[[str], None]


def deploy_services(settings: Settings, apparatus: Apparatus, ground: Ground) -> DeployServices:
    """Wire them."""
    db, clock = ground.db, ground.clock
    addresses = Addresses(db=db, routes=apparatus.router, hosts=apparatus.hosts)
    specs = _specs(settings, ground)
    workflow = _workflow(
        settings,
        apparatus,
        ground,
        addresses,
        specs,
        on_built=lambda: worker.wake(),  # noqa: PLW0108 (the worker is made with the workflow)
    )
    worker = Worker(db=db, carry_out=workflow.run, places=_places(settings), clock=clock)
    chores = Chores(clock=clock)
    sleep = _sleep(settings, apparatus, ground, addresses, chores)
    reconciler = _reconciler(settings, apparatus, ground, addresses, specs, chores, sleep)
    copies = _copies(settings, clock)
    deletion = Deletion(db=db, worker=worker, reconciler=reconciler, metering=ground.metering)
    return DeployServices(
        addresses=addresses,
        certificates=_certificates(settings, apparatus, ground, addresses),
        worker=worker,
        reconciler=reconciler,
        wake=_wake(settings, apparatus, ground, addresses, chores, sleep, reconciler),
        usage=_usage(settings, apparatus, ground, addresses, sleep),
        cancellation=Cancellation(
            db=db,
            worker=worker,
            runtime=apparatus.runtime,
            sources=ground.sources,
            clock=clock,
        ),
        rollback=Rollback(
            db=db,
            runtime=apparatus.runtime,
            capacity=ground.capacity,
            copies=copies,
            clock=clock,
            on_queued=worker.wake,
            on_superseded=worker.drop,
        ),
        blocking=Blocking(db=db, metering=ground.metering, on_given_up=worker.drop, clock=clock),
        configuration=Configuration(
            db=db,
            vault=ground.vault,
            capacity=ground.capacity,
            copies=copies,
            clock=clock,
            on_queued=worker.wake,
        ),
        deletion=deletion,
        retention=_retention(settings, ground, deletion),
    )


def _places(settings: Settings) -> Places:
    return Places(
        jobs=settings.deploys_at_once,
        builds=settings.builds_at_once,
        builds_of_wallet=settings.builds_per_wallet,
    )


def _certificates(
    settings: Settings, apparatus: Apparatus, ground: Ground, addresses: Addresses
) -> Certificates:
    return Certificates(
        db=ground.db,
        addresses=addresses,
        own_host=urlsplit(apparatus.gateway_url).hostname,
        per_wallet=settings.certificates_per_wallet,
        clock=ground.clock,
    )


def _copies(settings: Settings, clock: Clock) -> RateLimiter:
    """How often a wallet may have a disk copied: for restarts, changes and rollbacks."""
    limit = max(1, settings.requests_per_minute // _REQUESTS_PER_COPY)
    return RateLimiter(clock=clock, limit=limit, window_seconds=_COPIES_SECONDS)


def _specs(settings: Settings, ground: Ground) -> Specs:
    return Specs(
        vault=ground.vault,
        app_limits=app_limits(settings),
        build_limits=build_limits(settings),
        build_seconds=settings.build_seconds,
        sources=ground.sources,
    )


def _workflow(
    settings: Settings,
    apparatus: Apparatus,
    ground: Ground,
    addresses: Addresses,
    specs: Specs,
    *,
    on_built: Callable[[], None],
) -> Workflow:
    switch = Switch(
        db=ground.db,
        addresses=addresses,
        answers=_answers_at(apparatus),
        metering=ground.metering,
        hosts=apparatus.hosts,
        clock=ground.clock,
        on_step=ground.on_step,
    )
    return Workflow(
        db=ground.db,
        runtime=apparatus.runtime,
        switch=switch,
        specs=specs,
        build_time=ground.build_time,
        timing=Timing(
            listen_seconds=settings.listen_seconds,
            healthy_seconds=settings.healthy_seconds,
        ),
        sources=ground.sources,
        clock=ground.clock,
        on_step=ground.on_step,
        on_built=on_built,
        on_failed=lambda plan: apparatus.toolchains.store.discard(plan.toolchains),
    )


def _reconciler(
    settings: Settings,
    apparatus: Apparatus,
    ground: Ground,
    addresses: Addresses,
    specs: Specs,
    chores: Chores,
    sleep: Sleep,
) -> Reconciler:
    clock, runtime = ground.clock, apparatus.runtime
    return Reconciler(
        db=ground.db,
        runtime=runtime,
        addresses=addresses,
        metering=ground.metering,
        specs=specs,
        listen_seconds=settings.listen_seconds,
        sources=ground.sources,
        chores=chores,
        releases=Releases(
            db=ground.db,
            runtime=runtime,
            chores=chores,
            drain=Drain(runtime=runtime, limit_seconds=settings.drain_seconds, clock=clock),
            most=settings.releases_kept,
        ),
        restarts=Restarts(db=ground.db, runtime=runtime, chores=chores, clock=clock),
        sleep=sleep,
        capacity=ground.capacity,
        clock=clock,
    )


def _sleep(
    settings: Settings, apparatus: Apparatus, ground: Ground, addresses: Addresses, chores: Chores
) -> Sleep:
    return Sleep(
        db=ground.db,
        runtime=apparatus.runtime,
        addresses=addresses,
        chores=chores,
        after_seconds=settings.sleep_after_seconds,
        clock=ground.clock,
    )


def _usage(
    settings: Settings, apparatus: Apparatus, ground: Ground, addresses: Addresses, sleep: Sleep
) -> UsageMeter:
    return UsageMeter(
        db=ground.db,
        runtime=apparatus.runtime,
        addresses=addresses,
        log=apparatus.access_log,
        sleep=sleep,
        keep_days=settings.usage_days,
        clock=ground.clock,
    )


def _wake(
    settings: Settings,
    apparatus: Apparatus,
    ground: Ground,
    addresses: Addresses,
    chores: Chores,
    sleep: Sleep,
    reconciler: Reconciler,
) -> Wake:
    return Wake(
        db=ground.db,
        addresses=addresses,
        chores=chores,
        sleep=sleep,
        capacity=ground.capacity,
        restarts=reconciler.restarts,
        runtime=apparatus.runtime,
        start=reconciler.start,
        listen_seconds=settings.listen_seconds,
        healthy_seconds=settings.healthy_seconds,
        clock=ground.clock,
    )


def _retention(settings: Settings, ground: Ground, deletion: Deletion) -> Retention:
    return Retention(
        db=ground.db,
        deletion=deletion,
        metering=ground.metering,
        suspended_days=settings.retention_days,
        failed_days=settings.failed_retention_days,
        clock=ground.clock,
    )


def _answers_at(apparatus: Apparatus) -> Callable[[str], Awaitable[bool]]:
    tls = ssl.create_default_context() if apparatus.hosts.scheme == "https" else None

    async def answers_at(host: str) -> bool:
        return await answers(
            apparatus.proxy_port,
            host,
            timeout_seconds=_PROXY_ANSWER_SECONDS,
            address=apparatus.proxy_address,
            tls=tls,
            token=apparatus.probe_token,
        )

    return answers_at

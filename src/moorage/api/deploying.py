"""Everything that carries out deployments and keeps apps running, wired from the settings."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from moorage.api.apparatus import Apparatus, app_limits, build_limits
from moorage.clock import Clock
from moorage.deploy.addresses import Addresses
from moorage.deploy.chores import Chores
from moorage.deploy.deletion import Deletion
from moorage.deploy.drain import Drain
from moorage.deploy.reconciler import Reconciler
from moorage.deploy.releases import Releases
from moorage.deploy.retention import Retention
from moorage.deploy.specs import Specs
from moorage.deploy.switch import Switch
from moorage.deploy.vault import Vault
from moorage.deploy.worker import Worker
from moorage.deploy.workflow import Timing, Workflow
from moorage.ledger.metering import Metering
from moorage.routing.probe import answers
from moorage.settings import Settings
from moorage.storage.database import Database

_PROXY_ANSWER_SECONDS = 30.0  # a host's first certificate takes a while


@dataclass(frozen=True, kw_only=True)
class DeployServices:
    """What acts on deployments."""

    addresses: Addresses
    worker: Worker
    reconciler: Reconciler
    deletion: Deletion
    retention: Retention


def deploy_services(
    settings: Settings,
    apparatus: Apparatus,
    *,
    db: Database,
    vault: Vault,
    sources: Path,
    metering: Metering,
    clock: Clock,
    on_step: Callable[[str], None],
) -> DeployServices:
    """Wire them."""
    addresses = Addresses(db=db, routes=apparatus.router, hosts=apparatus.hosts)
    switch = Switch(
        db=db,
        addresses=addresses,
        answers=_answers_at(apparatus),
        metering=metering,
        hosts=apparatus.hosts,
        clock=clock,
        on_step=on_step,
    )
    specs = Specs(
        vault=vault,
        app_limits=app_limits(settings),
        build_limits=build_limits(settings),
        build_seconds=settings.build_seconds,
        sources=sources,
    )
    workflow = Workflow(
        db=db,
        runtime=apparatus.runtime,
        switch=switch,
        specs=specs,
        timing=Timing(
            listen_seconds=settings.listen_seconds,
            healthy_seconds=settings.healthy_seconds,
        ),
        sources=sources,
        build_slots=asyncio.Semaphore(settings.builds_at_once),
        clock=clock,
        on_step=on_step,
    )
    worker = Worker(
        db=db, carry_out=workflow.run, concurrency=settings.deploys_at_once, clock=clock
    )
    chores = Chores(clock=clock)
    reconciler = Reconciler(
        db=db,
        runtime=apparatus.runtime,
        addresses=addresses,
        metering=metering,
        specs=specs,
        listen_seconds=settings.listen_seconds,
        sources=sources,
        chores=chores,
        releases=_releases(settings, apparatus, chores, db=db, clock=clock),
        clock=clock,
    )
    deletion = Deletion(db=db, worker=worker, reconciler=reconciler, metering=metering)
    retention = Retention(
        db=db,
        deletion=deletion,
        metering=metering,
        suspended_days=settings.retention_days,
        failed_days=settings.failed_retention_days,
        clock=clock,
    )
    return DeployServices(
        addresses=addresses,
        worker=worker,
        reconciler=reconciler,
        deletion=deletion,
        retention=retention,
    )


def _releases(
    settings: Settings, apparatus: Apparatus, chores: Chores, *, db: Database, clock: Clock
) -> Releases:
    drain = Drain(runtime=apparatus.runtime, limit_seconds=settings.drain_seconds, clock=clock)
    return Releases(
        db=db,
        runtime=apparatus.runtime,
        chores=chores,
        drain=drain,
        most=settings.releases_kept,
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
        )

    return answers_at

"""The deploy workflow: one deployment from queued to ready, or to failed with a reason.

Each step may run again after a crash, so each is idempotent and names what it makes after the
deployment's id. Rows drive everything: what the job row says was done is not done again.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from moorage.clock import Clock
from moorage.deploy.deployment import UNDER_WAY, Deployment, DeploymentStatus
from moorage.deploy.failure import fail
from moorage.deploy.health import wait_until_healthy
from moorage.deploy.hosts import Hosts
from moorage.deploy.job import Job
from moorage.deploy.project import Project, ProjectStatus
from moorage.errors import DeployFailed, FailureCause
from moorage.events import outbox
from moorage.events.event import EventKind
from moorage.ledger.metering import Metering
from moorage.metrics import record_deployment
from moorage.planning.plan import Plan
from moorage.runtimes.runtime import (
    AppExit,
    BuildSpec,
    Instance,
    InstanceSpec,
    Limits,
    LogKind,
    Runtime,
)
from moorage.storage import accounts, jobs, projects
from moorage.storage.database import Database, Transaction

log = structlog.get_logger()

BUILT = "built"
_DRAIN_SECONDS = 0.5  # what the old version was asked before the switch, it may answer
MOST_ATTEMPTS = 3
"""How often a deployment may be begun: a gateway that dies each time gives up on it."""


class Routes(Protocol):
    """What the workflow needs of the router."""

    def point(self, host: str, socket: Path) -> None:
        """Lead a host to a socket."""
        ...

    def remove(self, host: str) -> None:
        """Lead a host nowhere."""
        ...

    def socket(self, host: str) -> Path | None:
        """Where a host leads, None when nowhere."""
        ...


class LostJob(Exception):
    """Another worker holds this job now, or its project is being deleted."""


class Timing(msgspec.Struct, frozen=True):
    """How long each stage may take."""

    build_seconds: int = 8 * 60
    listen_seconds: float = 60.0
    healthy_seconds: float = 30.0


class Workflow:
    """Carries out deploy jobs."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Runtime,
        routes: Routes,
        answers: Callable[[str], Awaitable[bool]],
        metering: Metering,
        hosts: Hosts,
        app_limits: Limits,
        build_limits: Limits,
        timing: Timing,
        sources: Path,
        build_slots: AbstractAsyncContextManager[object],
        clock: Clock,
        on_step: Callable[[str], None],
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._routes = routes
        self._answers = answers
        self._metering = metering
        self._hosts = hosts
        self._app_limits = app_limits
        self._build_limits = build_limits
        self._timing = timing
        self._sources = sources
        self._build_slots = build_slots
        self._clock = clock
        self._on_step = on_step

    async def run(self, job: Job) -> None:
        """Bring the job's deployment to an end. Raises LostJob; anything else may be retried."""
        deployment = await projects.deployment(self._db, job.subject_id)
        if deployment is None or deployment.status not in UNDER_WAY:
            return await self._finish(job)
        project = await projects.by_id(self._db, deployment.project_id)
        if project is None:
            return await self._finish(job)
        try:
            if job.attempts > MOST_ATTEMPTS:
                raise _interrupted()
            replaced = await self._advance(job, deployment, project)
        except DeployFailed as failure:
            return await self._fail(job, deployment, project, failure)
        self._count(deployment, "ready", None)
        await self._drop_source(deployment.id)
        if replaced is not None:
            await asyncio.sleep(_DRAIN_SECONDS)
            await self._runtime.remove(replaced)
        return None

    async def _advance(self, job: Job, deployment: Deployment, project: Project) -> str | None:
        """Build, start, check, route; gives the deployment that served before."""
        plan = msgspec.json.decode(deployment.plan, type=Plan)
        if job.step != BUILT:
            await self._build(job, deployment, plan)
        self._on_step("start")
        instance = await self._runtime.start(
            InstanceSpec(deployment_id=deployment.id, plan=plan, limits=self._app_limits),
            timeout_seconds=self._timing.listen_seconds,
        )
        self._on_step("health")
        await self._wait_until_healthy(instance)
        self._on_step("route")
        host = self._hosts.host(project.unique_name)
        before = self._routes.socket(host)
        try:
            await self._route(project, instance)
            self._on_step("ready")
            return await self._become_ready(job, deployment, project, _note(plan, instance))
        except BaseException:
            await self._route_back(deployment, host, before)
            raise

    async def _build(self, job: Job, deployment: Deployment, plan: Plan) -> None:
        self._on_step("build")
        await self._move(job, deployment, DeploymentStatus.BUILDING, ProjectStatus.BUILDING)
        spec = BuildSpec(
            deployment_id=deployment.id,
            source=self._sources / deployment.id,
            plan=plan,
            limits=self._build_limits,
            timeout_seconds=self._timing.build_seconds,
        )
        if not spec.source.is_dir():
            raise _interrupted()
        if plan.install or plan.build:
            async with self._build_slots:
                await self._runtime.build(spec)
        else:
            await self._runtime.build(spec)
        self._on_step("built")
        await self._move(
            job, deployment, DeploymentStatus.DEPLOYING, ProjectStatus.DEPLOYING, step=BUILT
        )

    async def _move(
        self,
        job: Job,
        deployment: Deployment,
        status: DeploymentStatus,
        project_status: ProjectStatus,
        *,
        step: str = "",
    ) -> None:
        async with self._db.transaction(durable=False) as tx:
            await self._hold(tx, job, step)
            await projects.move(tx, deployment.id, status)
            project = await projects.by_id(tx, deployment.project_id)
            if project is not None and project.serving_deployment_id is None:
                await projects.set_status(tx, project.id, project_status)

    async def _hold(self, tx: Transaction, job: Job, step: str) -> None:
        if not await jobs.record_step(tx, job, step):
            raise LostJob

    async def _wait_until_healthy(self, instance: Instance) -> None:
        deployment_id = instance.deployment_id

        async def has_ended() -> bool:
            return await self._runtime.exit_reason(deployment_id) is not None

        try:
            await wait_until_healthy(
                instance.socket,
                timeout_seconds=self._timing.healthy_seconds,
                has_ended=has_ended,
            )
        except DeployFailed as failure:
            ended = await self._runtime.exit_reason(deployment_id)
            raise failure if ended is None else _crashed(ended) from failure

    async def _route(self, project: Project, instance: Instance) -> None:
        """Lead the address to the instance and see it answer there, through the proxy."""
        host = self._hosts.host(project.unique_name)
        self._routes.point(host, instance.socket)
        if not await self._answers(host):
            raise DeployFailed(
                FailureCause.UNHEALTHY,
                f"The app answered, but {self._hosts.url(project.unique_name)} did not. "
                "Deploy again; if it persists, the gateway's operator has to look at the proxy.",
            )

    async def _route_back(self, deployment: Deployment, host: str, before: Path | None) -> None:
        """Lead the address where it led before, unless the rows say that the new one serves."""
        project = await projects.by_id(self._db, deployment.project_id)
        if project is not None and project.serving_deployment_id == deployment.id:
            return
        if project is None or project.status is not ProjectStatus.ACTIVE or before is None:
            self._routes.remove(host)
        else:
            self._routes.point(host, before)

    async def _become_ready(
        self, job: Job, deployment: Deployment, project: Project, note: str
    ) -> str | None:
        async with self._db.transaction(durable=True) as tx:
            await self._hold(tx, job, "ready")
            current = await projects.by_id(tx, project.id)
            if current is None or not await projects.set_serving(tx, project.id, deployment.id):
                raise LostJob
            now_ms = self._clock.now_ms()
            await projects.move(tx, deployment.id, DeploymentStatus.READY, note=note, at_ms=now_ms)
            replaced = current.serving_deployment_id
            if replaced is not None:
                await projects.move(tx, replaced, DeploymentStatus.SUPERSEDED)
            await self._tell_ready(tx, current, deployment, now_ms)
            await self._serve(tx, current, now_ms)
            await jobs.finish(tx, job)
        return replaced

    async def _tell_ready(
        self, tx: Transaction, project: Project, deployment: Deployment, now_ms: int
    ) -> None:
        data = {
            "project_id": project.id,
            "deployment_id": deployment.id,
            "endpoint": self._hosts.url(project.unique_name),
        }
        await outbox.record(
            tx, wallet=project.wallet, kind=EventKind.DEPLOYMENT_READY, data=data, now_ms=now_ms
        )

    async def _serve(self, tx: Transaction, project: Project, now_ms: int) -> None:
        """Begin billing; what was suspended meanwhile stays so until there are credits."""
        suspended = project.status is ProjectStatus.SUSPENDED
        if suspended or await accounts.balance(tx, project.wallet) < 0:
            since_ms = project.suspended_at_ms or self._metering.time.now_ms()
            await projects.suspend(tx, project.id, at_ms=since_ms)
            if not await self._metering.wakes(tx, project):
                return
            await projects.set_status(tx, project.id, ProjectStatus.ACTIVE)
        await self._metering.begin(tx, project.id)
        if suspended:
            await outbox.record(
                tx,
                wallet=project.wallet,
                kind=EventKind.PROJECT_RESUMED,
                data={"project_id": project.id},
                now_ms=now_ms,
            )

    async def _fail(
        self, job: Job, deployment: Deployment, project: Project, failure: DeployFailed
    ) -> None:
        """Record the failure, then clear up; credits stay where they are."""
        tail = failure.log_tail or self._runtime.log_tail(deployment.id, LogKind.RUNTIME)
        ended = DeployFailed(failure.cause, failure.reason, log_tail=tail)
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            await self._hold(tx, job, "failed")
            await fail(tx, deployment, ended, wallet=project.wallet, now_ms=now_ms)
            current = await projects.by_id(tx, project.id)
            if current is not None and current.serving_deployment_id is None:
                await projects.set_status(tx, project.id, ProjectStatus.FAILED)
            await jobs.finish(tx, job)
        self._count(deployment, "failed", failure.cause)
        log.info("deployment failed", deployment=deployment.id, cause=failure.cause)
        await self._runtime.remove(deployment.id)
        await self._drop_source(deployment.id)

    def _count(self, deployment: Deployment, outcome: str, cause: str | None) -> None:
        took_ms = max(0, self._clock.now_ms() - deployment.created_at_ms)
        record_deployment(outcome, cause, seconds=took_ms / 1000)

    async def _finish(self, job: Job) -> None:
        async with self._db.transaction(durable=False) as tx:
            await jobs.finish(tx, job)

    async def _drop_source(self, deployment_id: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._sources / deployment_id, ignore_errors=True)


def _note(plan: Plan, instance: Instance) -> str:
    if instance.port == plan.port:
        return ""
    return (
        f"The app listens on port {instance.port}, not on settings.port {plan.port}; "
        f"traffic is led to {instance.port}."
    )


def _crashed(ended: AppExit) -> DeployFailed:
    with_code = (
        "an unknown exit code" if ended.exit_code is None else f"exit code {ended.exit_code}"
    )
    if ended.out_of_memory:
        return DeployFailed(
            FailureCause.OUT_OF_MEMORY,
            f"The app listened, then ran out of memory ({with_code}) before GET / was answered.",
        )
    return DeployFailed(
        FailureCause.CRASHED,
        f"The app listened, then ended with {with_code} before GET / was answered. "
        "The last lines of its log may say why.",
    )


def _interrupted() -> DeployFailed:
    return DeployFailed(
        FailureCause.INTERRUPTED,
        "The gateway was interrupted too often and could not finish this deployment. "
        "Nothing was charged for it: deploy again.",
    )

"""The deploy workflow: takes one deployment from queued to ready, or to failed with a reason.

Each step may run again after a crash, so each is idempotent and names what it makes by the
deployment's id. A step that the job's row records as done is not done again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace

import msgspec
import structlog
from msgspec import UNSET

from moorage.clock import Clock
from moorage.engines.engine import (
    AppExit,
    BuildSpec,
    Engine,
    Instance,
    InstanceSpec,
    Keep,
    Limits,
    log_tail,
)
from moorage.engines.failure import with_code
from moorage.errors import (
    ClusterUnavailable,
    ContentUnavailable,
    DeployFailed,
    FailureCause,
    NoCapacity,
)
from moorage.failpoints import failpoint
from moorage.hosting.limits import app_limits
from moorage.hosting.sources import Sources
from moorage.hosting.work.failure import explain, fail, fail_project, learned, second_try
from moorage.hosting.work.moving import BUILT, build_moved, moves
from moorage.hosting.work.release import ENDS, Release
from moorage.hosting.work.switch import Healthy, Reconfigured, Switch, plan_of, wait_until_healthy
from moorage.ledger.build_time import BuildTime
from moorage.metrics import record_deployment
from moorage.planning.plan import Plan
from moorage.records.deployment import UNDER_WAY, Deployment, DeploymentStatus, Job, LogKind
from moorage.records.project import Project, ProjectStatus
from moorage.records.size import Sizes
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database
from moorage.storage.vault import Vault
from moorage.threads import in_thread


class Specs:
    """Makes specs. Raises VariablesUnreadable when variables cannot be decrypted."""

    def __init__(
        self,
        *,
        vault: Vault,
        sizes: Sizes,
        build_limits: Limits,
        build_seconds: int,
        sources: Sources,
    ) -> None:
        self._vault = vault
        self._sizes = sizes
        self._build_limits = build_limits
        self._build_seconds = build_seconds
        self._sources = sources

    def build(self, deployment: Deployment, *, owner: str) -> BuildSpec:
        """Returns how its upload is built, with `owner`'s caches and the variables of builds."""
        variables = self._vault.open(deployment.variables, deployment.project_id)
        app = app_limits(self._sizes.of(deployment.size))
        return BuildSpec(
            deployment_id=deployment.id,
            source=self._sources.path(deployment.id),
            plan=plan_of(deployment),
            limits=replace(self._build_limits, disk_bytes=app.disk_bytes),
            timeout_seconds=self._build_seconds,
            owner=owner,
            variables=variables.build,
        )

    def instance(self, deployment: Deployment, project: Project) -> InstanceSpec:
        """Returns how its app is run, with the variables of apps."""
        variables = self._vault.open(deployment.variables, deployment.project_id)
        plan = plan_of(deployment)
        return InstanceSpec(
            deployment_id=deployment.id,
            plan=plan,
            listens=plan.listens,
            limits=app_limits(self._sizes.of(deployment.size)),
            owner=project.wallet,
            variables=variables.run,
            volume=project.id if project.volume and deployment.id != project.volume_after else None,
            makes_volume=project.makes_volume,
        )


log = structlog.get_logger()

_STORE_TRIES = 120
_STORE_PAUSE_SECONDS = 5.0
_LASTING_SECONDS = 10.0  # so long a worker must live at first
MAX_ATTEMPTS = 3
"""How often a deployment may be begun; it may be what crashes the gateway each time."""


Moved = Callable[[Job, Deployment, Project], AbstractAsyncContextManager[str]]
"""As `VolumeMoves.moved`."""


class Timing(msgspec.Struct, frozen=True):
    """How long each stage may take."""

    listen_seconds: float = 60.0
    healthy_seconds: float = 30.0
    release_seconds: int = 1_800


class Workflow:
    """Carries out deploy jobs."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Engine,
        switch: Switch,
        specs: Specs,
        build_time: BuildTime,
        timing: Timing,
        sources: Sources,
        clock: Clock,
        on_built: Callable[[], None],
        on_failed: Callable[[Plan], Awaitable[None]],
        engine: str = "",
        healthy: Healthy = wait_until_healthy,
        moved: Moved,
        retries_installs: bool,
    ) -> None:
        """`engine` is the kind of engine that uploads are built on."""
        self._retries_installs = retries_installs
        self._moved = moved
        self._db = db
        self._runtime = runtime
        self._switch = switch
        self._specs = specs
        self._build_time = build_time
        self._release = Release(
            db=db,
            runtime=runtime,
            build_time=build_time,
            timeout_seconds=timing.release_seconds,
            clock=clock,
        )
        self._timing = timing
        self._sources = sources
        self._on_built = on_built
        self._on_failed = on_failed
        self._engine = engine
        self._healthy = healthy
        self._clock = clock

    async def run(self, job: Job) -> None:
        """Brings the job's deployment to an end. Raises LostJob; other errors may be retried."""
        deployment = await deployments.by_id(self._db, job.subject_id)
        if deployment is None or deployment.status not in UNDER_WAY:
            return await self._finish(job)
        project = await projects.by_id(self._db, deployment.project_id)
        if project is None:
            return await self._finish(job)
        try:
            if job.attempts > MAX_ATTEMPTS:
                raise _interrupted()
            await self._advance(job, deployment, project)
        except DeployFailed as failure:
            return await self._fail(job, deployment, project, failure)
        except NoCapacity:
            return await self._fail(job, deployment, project, _no_room())
        except ClusterUnavailable as away:
            if job.attempts < MAX_ATTEMPTS:
                raise
            return await self._fail(job, deployment, project, _interrupted(away.message))
        self._count(deployment, "ready", None)
        return await self._sources.drop(deployment.id)

    async def _advance(self, job: Job, deployment: Deployment, project: Project) -> None:
        """Builds, then starts; starts again when the configuration is changed meanwhile."""
        if plan_of(deployment).listens:
            await self._switch.begin(project)
        if job.step not in (BUILT, jobs.MOVING):
            await self._build(job, deployment, project)
        while True:
            current = await deployments.by_id(self._db, deployment.id) or deployment
            project = await projects.by_id(self._db, project.id) or project
            try:
                return await self._bring_up(job, current, project)
            except Reconfigured:
                pass
            except DeployFailed as failure:
                if failure.cause in ENDS or not await self._is_reconfigured(current):
                    raise
            await self._runtime.stop(deployment.id)

    async def _bring_up(self, job: Job, deployment: Deployment, project: Project) -> None:
        """Releases and starts the app, checks its health, and switches to it.

        Raises Reconfigured.
        """
        failpoint("start")
        spec = replace(self._specs.instance(deployment, project), resizes=True)
        async with self._moved(job, deployment, project) as moved:
            await self._release.run(job, deployment, project, spec, moved=bool(moved))
            instance = await self._runtime.start(spec, timeout_seconds=self._timing.listen_seconds)
            failpoint("health")
            await self._wait_until_healthy(
                instance, host=self._switch.host(project), path=deployment.health_path
            )
            await self._switch.to(
                instance,
                job=job,
                deployment=deployment,
                project=project,
                note=_note(spec.plan, instance),
                moved=moved,
            )

    async def _is_reconfigured(self, begun: Deployment) -> bool:
        current = await deployments.by_id(self._db, begun.id)
        return current is not None and current.configuration != begun.configuration

    async def _build(self, job: Job, deployment: Deployment, project: Project) -> None:
        failpoint("build")
        await self._move(job, deployment, DeploymentStatus.BUILDING, ProjectStatus.BUILDING)
        if deployment.copy_of is None:
            await self._build_upload(job, deployment, project)
        elif await moves(self._db, deployment):
            spec = self._specs.build(deployment, owner=project.wallet)
            await build_moved(self._runtime, deployment, spec, self._engine)
        else:
            await self._runtime.copy(deployment.copy_of, deployment.id)
        failpoint("built")
        await self._move(
            job, deployment, DeploymentStatus.DEPLOYING, ProjectStatus.DEPLOYING, step=BUILT
        )
        self._on_built()

    async def _build_upload(self, job: Job, deployment: Deployment, project: Project) -> None:
        spec = self._specs.build(deployment, owner=project.wallet)
        if not await self._fetch_source(deployment.id):
            raise _interrupted()
        await self._build_time.spend(
            lambda: self._build_with_second_try(job, project, spec),
            wallet=project.wallet,
            project_id=project.id,
            deployment_id=deployment.id,
        )

    async def _build_with_second_try(self, job: Job, project: Project, spec: BuildSpec) -> None:
        """Builds; once more if the install failed, and another may succeed and costs nothing.

        What worked so for the project before is tried first, and then the install as planned.
        """
        if not self._retries_installs:
            await self._runtime.build(spec)
            return
        known = await self._learned(spec, project)
        if known is not None:
            await self._replan(job, spec, known)
        began_seconds = self._clock.monotonic_seconds()
        try:
            await self._runtime.build(replace(spec, plan=known or spec.plan))
        except DeployFailed as failed:
            took_ms = round((self._clock.monotonic_seconds() - began_seconds) * 1000)
            if known is None:
                inputs = await in_thread(spec.inputs_sha256)
                again = await in_thread(second_try, spec.plan, failed, inputs_sha256=inputs)
            else:
                again = spec.plan if failed.cause is FailureCause.INSTALL_FAILED else None
            if again is None or not await self._is_free(project, 2 * took_ms):
                raise
            await self._replan(job, spec, again)
            await self._runtime.build(replace(spec, plan=again))

    async def _learned(self, spec: BuildSpec, project: Project) -> Plan | None:
        text = await deployments.installed_plan(self._db, project.id)
        if text is None:
            return None
        earlier = msgspec.json.decode(text, type=Plan)
        inputs = await in_thread(spec.inputs_sha256)
        return learned(spec.plan, earlier, inputs_sha256=inputs)

    async def _replan(self, job: Job, spec: BuildSpec, plan: Plan) -> None:
        async with self._db.transaction(durable=False) as tx:
            await jobs.hold(tx, job, job.step)
            text = msgspec.json.encode(plan).decode()
            await deployments.replan(tx, spec.deployment_id, text)

    async def _is_free(self, project: Project, build_ms: int) -> bool:
        left_ms = await self._build_time.left_ms(wallet=project.wallet, project_id=project.id)
        return left_ms >= build_ms

    async def _fetch_source(self, deployment_id: str) -> bool:
        """Returns whether the files are here. Waits for a store that cannot be reached."""
        for _ in range(_STORE_TRIES):
            try:
                return await self._sources.fetch(deployment_id)
            except ContentUnavailable as error:
                log.warning("source is waited for", deployment=deployment_id, error=error.message)
                await asyncio.sleep(_STORE_PAUSE_SECONDS)
        return await self._sources.fetch(deployment_id)

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
            await jobs.hold(tx, job, step)
            await deployments.move(tx, deployment.id, status)
            if step == BUILT and deployment.copy_of is None:
                await deployments.note_engine(tx, [deployment.id], self._engine)
            project = await projects.by_id(tx, deployment.project_id)
            if project is not None and project.serving_deployment_id is None:
                await projects.set_status(tx, project.id, project_status)

    async def _wait_until_healthy(self, instance: Instance, *, host: str, path: str) -> None:
        deployment_id = instance.deployment_id

        async def has_ended() -> bool:
            return (await self._runtime.inspect(deployment_id)).exit is not None

        listens = instance.address is not None
        try:
            await self._healthy(
                instance.address,
                host=host,
                path=path,
                timeout_seconds=self._timing.healthy_seconds if listens else _LASTING_SECONDS,
                has_ended=has_ended,
            )
        except DeployFailed as failure:
            ended = (await self._runtime.inspect(deployment_id)).exit
            if ended is None:
                raise
            raise _crashed(ended, path if listens else None) from failure

    async def _fail(
        self, job: Job, deployment: Deployment, project: Project, failure: DeployFailed
    ) -> None:
        """Records the failure, then removes what the deployment made; credits stay."""
        if project.volume and await jobs.is_moving(self._db, project.id):
            # It may run on a copy still: of an attempt that was cut off, or lost its database.
            with suppress(ClusterUnavailable):
                await self._runtime.stop(deployment.id)
        tail = failure.log_tail or await log_tail(self._runtime, deployment.id, LogKind.RUNTIME)
        ended = DeployFailed(failure.cause, failure.reason, log_tail=tail)
        risks = plan_of(deployment).risks or ()
        explained = await in_thread(explain, failure.cause, failure.reason, tail, risks)
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            await jobs.hold(tx, job, "failed")
            await fail(
                tx, deployment, ended, wallet=project.wallet, now_ms=now_ms, explained=explained
            )
            await fail_project(tx, project.id)
            await jobs.finish(tx, job)
        self._count(deployment, "failed", failure.cause)
        await self._runtime.stop(deployment.id, keep=Keep.LOGS)
        await self._on_failed(plan_of(deployment))
        await self._sources.drop(deployment.id)

    def _count(self, deployment: Deployment, outcome: str, cause: str | None) -> None:
        took_ms = max(0, self._clock.now_ms() - deployment.created_at_ms)
        record_deployment(outcome, cause, seconds=took_ms / 1000)

    async def _finish(self, job: Job) -> None:
        async with self._db.transaction(durable=False) as tx:
            await jobs.finish(tx, job)


def _note(plan: Plan, instance: Instance) -> str:
    said = "" if plan.instead_of is UNSET else f"{plan.because[-1]}."
    if instance.port is None or instance.port == plan.port:
        return said
    return (
        f"{said} The app listens on port {instance.port}, not on settings.port {plan.port}; "
        f"traffic is led to {instance.port}."
    ).strip()


def _crashed(ended: AppExit, path: str | None) -> DeployFailed:
    """Returns the failure of an app that ended early; `path` is None for a worker."""
    code = with_code(ended.exit_code)
    begun, when = "The app listened, then", f"before GET {path} was answered"
    if path is None:
        begun, when = "The worker", f"within its first {_LASTING_SECONDS:g} s"
    if ended.out_of_memory:
        said = f"{begun} ran out of memory ({code}) {when}."
        return DeployFailed(FailureCause.OUT_OF_MEMORY, said)
    said = f"{begun} ended with {code} {when}. The last lines of its log may say why."
    return DeployFailed(FailureCause.CRASHED, said)


def _no_room() -> DeployFailed:
    return DeployFailed(
        FailureCause.NO_CAPACITY,
        "The machine has no room for another app just now. Nothing was charged for it: deploy "
        "again in a while.",
    )


def _interrupted(
    why: str = "The gateway was interrupted too often and could not finish this deployment.",
) -> DeployFailed:
    return DeployFailed(
        FailureCause.INTERRUPTED, f"{why} Nothing was charged for it: deploy again."
    )

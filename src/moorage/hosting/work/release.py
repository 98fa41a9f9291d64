"""The release command: what is run once for an upload, after its build and before it serves.

It runs in the app's own sandbox, with its variables and its volume, while the version before
serves on. A row says that it is begun, durably, before it is: one whose end nobody knows is never
run again.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace

from msgspec import UNSET

from moorage.clock import Clock
from moorage.engines.engine import AppExit, Engine, InstanceSpec, Runs, log_tail
from moorage.engines.failure import abbreviated, with_code
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause
from moorage.failpoints import failpoint
from moorage.ledger.build_time import BuildTime
from moorage.records.deployment import Deployment, Job, LogKind, ReleaseStep
from moorage.records.project import Project
from moorage.storage.apps import deployments, jobs
from moorage.storage.database import Database
from moorage.threads import to_its_end

_FIRST_PAUSE_SECONDS = 0.02
_MAX_PAUSE_SECONDS = 1.0
_LATE_SHARE = 20  # its end is known a twentieth of its duration later at most, or in a second


async def run_to_end(
    runtime: Runs, spec: InstanceSpec, *, timeout_seconds: float, clock: Clock
) -> AppExit | None:
    """Runs what does not listen, and returns how it ended; None if it was stopped at the timeout.

    Nothing runs afterwards, whatever is raised. Raises DeployFailed, ClusterUnavailable.
    """
    begun = clock.monotonic_seconds()
    try:
        await runtime.start(spec, timeout_seconds=timeout_seconds)
        while (waited := clock.monotonic_seconds() - begun) < timeout_seconds:
            with suppress(ClusterUnavailable):  # it runs on meanwhile
                ended = (await runtime.inspect(spec.deployment_id)).exit
                if ended is not None:
                    return ended
            pause = max(waited / _LATE_SHARE, _FIRST_PAUSE_SECONDS)
            await asyncio.sleep(min(pause, _MAX_PAUSE_SECONDS))
        return None
    finally:
        await to_its_end(runtime.stop(spec.deployment_id))


ENDS = frozenset(
    {
        *(FailureCause.RELEASE_FAILED, FailureCause.INTERRUPTED),
        *(FailureCause.OUT_OF_CREDITS, FailureCause.AT_LIMIT),
    }
)
"""Causes with which a deployment is over, even if its configuration changed meanwhile."""

_UNKNOWN = (
    "The gateway stopped while the release command ran, and its end is unknown: look at your data "
    "before you deploy again. It is not run a second time for this deployment."
)
_LOST = (
    "The app's configuration changed after its release command had run, on a copy of the volume "
    "that does not count now. Deploy again."
)


class Release:
    """Runs release commands; their time is booked as build time is."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Engine,
        build_time: BuildTime,
        timeout_seconds: int,
        clock: Clock,
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._build_time = build_time
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    async def run(
        self, job: Job, deployment: Deployment, project: Project, spec: InstanceSpec, *, moved: bool
    ) -> None:
        """Runs the plan's release command, unless it has run; `spec` is the app's.

        `moved`: its volume was filled just now. Copies of a deployment have none to run. Raises
        DeployFailed, with a cause in `ENDS`, and LostJob.
        """
        if spec.plan.release is UNSET or deployment.copy_of is not None:
            return
        if deployment.release_step is ReleaseStep.DONE and not moved:
            return
        if deployment.release_step is not None:
            is_done = deployment.release_step is ReleaseStep.DONE
            raise DeployFailed(FailureCause.INTERRUPTED, _LOST if is_done else _UNKNOWN)
        await self._note(job, deployment, ReleaseStep.BEGUN)
        failpoint("releasing")
        command = replace(spec, command=spec.plan.release, listens=False, log=LogKind.BUILD)
        await self._build_time.spend(
            lambda: self._carry_out(command),
            wallet=project.wallet,
            project_id=project.id,
            deployment_id=deployment.id,
        )
        await self._note(job, deployment, ReleaseStep.DONE)
        failpoint("released")

    async def _note(self, job: Job, deployment: Deployment, step: ReleaseStep) -> None:
        async with self._db.transaction(durable=True) as tx:
            await jobs.hold(tx, job, job.step)
            await deployments.note_release(tx, deployment.id, step)

    async def _carry_out(self, spec: InstanceSpec) -> None:
        said = f"$ {abbreviated(spec.command)}"
        await self._runtime.note(spec.deployment_id, said, log=LogKind.BUILD)
        ended = await run_to_end(
            self._runtime, spec, timeout_seconds=self._timeout_seconds, clock=self._clock
        )
        if ended is None or ended.out_of_memory or ended.exit_code != 0:
            tail = await log_tail(self._runtime, spec.deployment_id, LogKind.BUILD)
            how = self._how(ended, spec)
            reason = f"the release command, `{abbreviated(spec.command)}`, {how}"
            raise DeployFailed(FailureCause.RELEASE_FAILED, reason, log_tail=tail)

    def _how(self, ended: AppExit | None, spec: InstanceSpec) -> str:
        if ended is None:
            return f"took longer than {self._timeout_seconds} s, and was stopped"
        if ended.out_of_memory:
            limit = spec.limits.memory_bytes // (1024 * 1024)
            return f"ran out of its {limit} MiB of memory ({with_code(ended.exit_code)})"
        return f"failed with {with_code(ended.exit_code)}"

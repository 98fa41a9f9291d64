"""Succession: a new deployment is queued, and supersedes those of its project under way."""

import uuid
from collections.abc import Sequence

import msgspec

from moorage.deploy.work.failure import fail
from moorage.errors import DeployFailed, FailureCause
from moorage.records.deployment import Deployment, DeploymentStatus, JobKind, Origin
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Transaction


def copy_of(built: Deployment, origin: Origin, *, now_ms: int) -> Deployment:
    """Returns a new deployment of the files that an earlier one has built."""
    return msgspec.structs.replace(
        built,
        id=str(uuid.uuid4()),
        status=DeploymentStatus.QUEUED,
        request_digest="",  # never equal to that of an upload
        note="",
        log_tail="",
        created_at_ms=now_ms,
        origin=origin,
        copy_of=built.id,
        superseded_at_ms=None,
    )


async def queue(
    tx: Transaction,
    project: Project,
    deployment: Deployment,
    *,
    in_place_of: Sequence[Deployment],
    builds: bool = False,
) -> tuple[str, ...]:
    """Stores the deployment and its job, and ends `in_place_of` as superseded; returns their ids.

    `builds` is whether the owner's commands are run before the app.
    """
    now_ms = deployment.created_at_ms
    for earlier in in_place_of:
        late = DeployFailed(
            FailureCause.SUPERSEDED,
            f"A later deployment of this project, {deployment.id}, took its place "
            "before it was ready. Poll that one.",
        )
        await fail(tx, earlier, late, wallet=project.wallet, now_ms=now_ms)
        await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id=earlier.id)
    await deployments.add(tx, deployment)
    if project.serving_deployment_id is None:
        await projects.set_status(tx, project.id, ProjectStatus.QUEUED)
    await jobs.add(
        tx,
        job_id=str(uuid.uuid4()),
        kind=JobKind.DEPLOY,
        subject_id=deployment.id,
        wallet=project.wallet,
        builds=builds,
        run_at_ms=now_ms,
    )
    return tuple(item.id for item in in_place_of)

"""Failure of a deployment: stored in its row with the reason, and told to its wallet."""

from moorage.deploy.work.advice import explain
from moorage.errors import DeployFailed
from moorage.events import outbox
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.event import EventKind
from moorage.records.project import ProjectStatus
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Transaction


async def fail(
    tx: Transaction, deployment: Deployment, failure: DeployFailed, *, wallet: str, now_ms: int
) -> None:
    """Records the failure, unless the deployment has ended already."""
    failed = await deployments.move(
        tx,
        deployment.id,
        DeploymentStatus.FAILED,
        reason=failure.reason,
        reason_code=failure.cause,
        log_tail=failure.log_tail,
        at_ms=now_ms,
    )
    if failed:
        data = {
            "project_id": deployment.project_id,
            "deployment_id": deployment.id,
            "reason": explain(failure.cause, failure.reason, failure.log_tail).reason,
            "reason_code": failure.cause.value,
        }
        await outbox.record(
            tx, wallet=wallet, kind=EventKind.DEPLOYMENT_FAILED, data=data, now_ms=now_ms
        )


async def fail_project(tx: Transaction, project_id: str) -> None:
    """Records that a project has failed, unless a version of it serves."""
    project = await projects.by_id(tx, project_id)
    if project is not None and project.serving_deployment_id is None:
        await projects.set_status(tx, project_id, ProjectStatus.FAILED)

"""The endpoints of a project's deployments: listed, rolled back to, cancelled."""

import hashlib
from dataclasses import dataclass

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.bodies import parse_small, read_whole
from moorage.api.http.caller import Front, owned_project
from moorage.api.http.idempotency import Idempotency
from moorage.api.http.named import named_deployment
from moorage.api.http.problems import json_response
from moorage.api.http.query import whole_number
from moorage.clock import iso_utc
from moorage.deploy.work.cancellation import Cancellation
from moorage.deploy.work.rollback import Rollback, RollingBack
from moorage.engines.engine import EngineView
from moorage.errors import DeploymentNotFound, InvalidField, ProjectNotFound
from moorage.planning.plan import Plan
from moorage.records.deployment import DeploymentStatus, Summary
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments
from moorage.storage.money import billing
from moorage.wire.deploy import Deployed
from moorage.wire.deployments import (
    Cancelled,
    DeploymentItem,
    DeploymentList,
    DeploymentShown,
    RollbackBody,
)

_DEFAULT_ITEMS = 20
_MAX_ITEMS = 100


@dataclass(frozen=True, kw_only=True)
class DeploymentRoom(Front):
    """What the handlers of deployments need."""

    cancellation: Cancellation
    idempotency: Idempotency
    rollback: Rollback
    runtime: EngineView


async def list_deployments(room: DeploymentRoom, request: Request) -> Response:
    """`GET /agent/projects/{projectId}/deployments`: newest first, a page of them."""
    project = await owned_project(room, request)
    limit = whole_number(request, "limit", default=_DEFAULT_ITEMS, min_=1, max_=_MAX_ITEMS)
    before = request.query_params.get("before")
    found = await deployments.release_page(
        room.db, project_id=project.id, before=before, limit=limit
    )
    if found is None:
        raise InvalidField("before", "must be the id of a deployment of this project")
    on_machine = await room.runtime.known()
    return json_response(
        DeploymentList(
            project_id=project.id,
            deployments=[_item(each, project, on_machine) for each in found],
            next=found[-1].id if len(found) == limit else None,
        )
    )


async def show_deployment(room: DeploymentRoom, request: Request) -> Response:
    """`GET /agent/projects/{projectId}/deployments/{deploymentId}`: one with its plan."""
    project = await owned_project(room, request)
    wanted = await named_deployment(room.db, request.path_params["deploymentId"], project=project)
    summary, superseded_at_ms = await deployments.release(room.db, wanted, project_id=project.id)
    stored = await deployments.by_id(room.db, wanted)
    if stored is None:
        raise DeploymentNotFound
    build = await billing.last_build_of(room.db, wanted, wallet=project.wallet)
    item = _item(summary, project, await room.runtime.known())
    return json_response(
        DeploymentShown(
            **msgspec.structs.asdict(item),
            plan=msgspec.json.decode(stored.plan, type=Plan),
            build_started_at=_time(build.started_at_ms if build else None),
            build_seconds=build.ran_ms / 1000 if build else None,
            superseded_at=_time(superseded_at_ms),
        )
    )


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_utc(at_ms)


async def roll_back(room: DeploymentRoom, request: Request) -> Response:
    """`POST /agent/projects/{projectId}/rollback`: serve an earlier release again."""
    project = await owned_project(room, request)
    body = await read_whole(request)
    wanted = parse_small(body, RollbackBody) if body else RollbackBody()
    async with room.idempotency.attempt(
        request,
        wallet=project.wallet,
        body_digest=hashlib.sha256(body).hexdigest(),
        outcome=RollingBack,
        render=_begun,
    ) as keyed:
        if keyed.answer is not None:
            return keyed.answer
        return keyed.answered(
            await room.rollback.to(project, wanted.deployment_id, claim=keyed.claim)
        )


async def cancel(room: DeploymentRoom, request: Request) -> Response:
    """`POST /agent/deploy/{projectId}/{deploymentId}/cancel`: end a deployment under way."""
    project = await owned_project(room, request)
    if project.status is ProjectStatus.DELETING:
        raise ProjectNotFound
    wanted = await named_deployment(room.db, request.path_params["deploymentId"], project=project)
    deployment = await deployments.by_id(room.db, wanted)
    if deployment is None or deployment.project_id != project.id:
        raise DeploymentNotFound
    await room.cancellation.cancel(project, deployment)
    return json_response(Cancelled(project_id=project.id, deployment_id=deployment.id))


def _begun(begun: RollingBack) -> Response:
    return json_response(
        Deployed(
            project_id=begun.project_id,
            deployment_id=begun.deployment_id,
            message=f"Rolling back to {begun.release_id}. Its files, variables and health path "
            "come back as they were then; title, description, variables of builds and /data stay "
            "as they are now. Poll status for updates.",
        )
    )


def _item(each: Summary, project: Project, on_machine: set[str]) -> DeploymentItem:
    is_release = each.status is DeploymentStatus.SUPERSEDED and each.is_kept
    return DeploymentItem(
        id=each.id,
        status=each.status,
        origin=each.origin,
        copy_of=each.copy_of or UNSET,
        created_at=iso_utc(each.created_at_ms),
        ended_at=_time(each.ended_at_ms),
        is_serving=each.id == project.serving_deployment_id,
        can_roll_back=is_release and each.id in on_machine,
        reason=each.reason or UNSET,
        reason_code=each.reason_code or UNSET,
    )

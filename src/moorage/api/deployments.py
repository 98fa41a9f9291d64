"""The endpoints of a project's deployments: where one stands, listed, rolled back to, cancelled."""

import hashlib
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import Caller, Front, Polled
from moorage.api.http.idempotency import Idempotency
from moorage.api.http.problems import json_response
from moorage.api.http.request import (
    named_deployment,
    parse_small,
    read_whole,
    whole_number,
)
from moorage.clock import iso_utc
from moorage.engines.engine import EngineView
from moorage.errors import (
    DeploymentNotFound,
    FailureCause,
    InvalidField,
    ProjectBlocked,
    ProjectNotFound,
)
from moorage.hosting.addresses.addresses import Hosts
from moorage.hosting.entrance.attempt import warnings, written_warnings
from moorage.hosting.entrance.written import Written
from moorage.hosting.keeping.restarts import CrashLoop, crash_loop
from moorage.hosting.keeping.space import NO_SPACE
from moorage.hosting.work.cancellation import Cancellation
from moorage.hosting.work.rollback import Rollback, RollingBack
from moorage.ledger import ledger
from moorage.ledger.metering import AT_LIMIT, Metering
from moorage.ledger.running_costs import Waiting, hour_of, lacking
from moorage.money import NOTHING, MicroUsd, usd_text
from moorage.planning.plan import Plan
from moorage.records.deployment import (
    UNDER_WAY,
    Advice,
    DeploymentStatus,
    DeploymentView,
    Finding,
    ReleaseStep,
    Summary,
)
from moorage.records.project import Kind, Project, ProjectStatus
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.money import billing
from moorage.wire.deploy import Deployed
from moorage.wire.deployments import (
    RELEASING,
    Cancelled,
    DeploymentItem,
    DeploymentList,
    DeploymentProgress,
    DeploymentShown,
    RollbackBody,
)
from moorage.wire.shape import WarningItem


@dataclass(frozen=True, kw_only=True)
class StatusRoom(Front):
    """What the handler of a deployment's status needs."""

    metering: Metering
    hosts: Hosts
    minimum_charge: MicroUsd
    written: Written


_PAUSED = "You have paused this project: its app is stopped and kept, and burns nothing."
_RESUME = 'Resume it: PATCH /agent/projects/{projectId} with {"paused": false}'
_RAISE_LIMIT = (
    'PUT /agent/projects/{projectId}/purse {"limit_usd_month": …} raises it, and it starts.'
)
_TOP_UP = ["Top up with POST /agent/credits; the app then starts by itself."]
_ADD_TO_PURSE = [
    'Add to its purse: PUT /agent/projects/{projectId}/purse {"add_usd": …}; it then starts.',
    'Or let it share your credits: PUT /agent/projects/{projectId}/purse {"shared": true}.',
]
_TOP_UP_A_PURSE = [
    "Top up with POST /agent/credits and its manage_token; the app then starts by itself.",
    "Or have it share the credits of its wallet: POST /agent/projects/{projectId}/adopt, signed.",
]


async def status(room: StatusRoom, polled: Polled) -> DeploymentProgress:
    """`GET /agent/deploy/{projectId}/{deploymentId}/status`: where a deployment stands."""
    found = polled.deployment
    progress = await _progress(room, found)
    return msgspec.structs.replace(progress, warnings=await _warnings(room, found))


async def _warnings(room: StatusRoom, found: DeploymentView) -> list[WarningItem] | UnsetType:
    findings = msgspec.json.decode(found.findings, type=tuple[Finding, ...])
    by = room.written.successor(found)
    told = warnings(findings, volume=by.volume)
    if found.serving_deployment_id == found.id:
        told = (*written_warnings(await room.written.by(found.id), by), *told)
    return list(told) or UNSET


async def _progress(room: StatusRoom, found: DeploymentView) -> DeploymentProgress:
    """Returns the answer of contract 1.4."""
    if found.status is DeploymentStatus.QUEUED:
        return await _queued(room, found)
    if found.status in UNDER_WAY:
        is_releasing = found.release_step is ReleaseStep.BEGUN
        return _under_way(found, RELEASING if is_releasing else found.status)
    if found.status is DeploymentStatus.FAILED:
        return _failed(found)
    if found.blocked_reason is not None:
        why = ProjectBlocked(found.blocked_reason).message
        return _stopped(found, FailureCause.BLOCKED, why)
    if found.project_status is ProjectStatus.SUSPENDED:
        return await _suspended(room, found)
    serving = found.serving_deployment_id
    if serving is not None and found.down_since_ms is not None:
        loop = await crash_loop(room.db, serving, now_ms=room.clock.now_ms())
        return _restarting(found) if loop is None else _crash_looping(found, loop)
    return _ready(room, found)


def _failed(found: DeploymentView) -> DeploymentProgress:
    serving = _serving_now(found)
    reason = found.reason or ""
    if serving is not None:
        reason = f"{reason.rstrip('. ')}. Deployment {serving} serves on."
    advice = msgspec.json.decode(found.advice, type=Advice)
    return DeploymentProgress(
        status="failed",
        deployment_id=found.id,
        reason=reason,
        reason_code=found.reason_code or FailureCause.INTERRUPTED,
        log_tail=found.log_tail,
        next_actions=advice.next_actions or UNSET,
        next_settings=advice.next_settings or UNSET,
        serving_deployment_id=UNSET if serving is None else serving,
    )


def _serving_now(found: DeploymentView) -> str | None:
    """Returns the deployment that serves the project, if it runs or wakes on a request."""
    is_up = found.project_status is ProjectStatus.ACTIVE and found.down_since_ms is None
    return found.serving_deployment_id if is_up else None


def _stopped(
    found: DeploymentView, code: str, reason: str, actions: list[str] | UnsetType = UNSET
) -> DeploymentProgress:
    """Returns where the serving deployment of a suspended project stands, and what resumes it."""
    return DeploymentProgress(
        status="failed",
        deployment_id=found.id,
        deployment_status="suspended",
        reason=reason,
        reason_code=code,
        next_actions=actions,
    )


async def _suspended(room: StatusRoom, found: DeploymentView) -> DeploymentProgress:
    if found.paused_at_ms is not None:
        return _stopped(found, FailureCause.PAUSED, _PAUSED, [_RESUME])
    if found.no_space_since_ms is not None:
        return _stopped(found, "no_capacity", NO_SPACE)
    project = await projects.by_id(room.db, found.project_id)
    if project is not None and await room.metering.is_at_limit(room.db, project):
        reason = f"{AT_LIMIT} Until then the app is stopped and kept."
        return _stopped(found, FailureCause.AT_LIMIT, reason, [_RAISE_LIMIT])
    return await _out_of_credits(room, found)


async def _out_of_credits(room: StatusRoom, found: DeploymentView) -> DeploymentProgress:
    """Names the least top-up that starts the app again; the balance may be just below an hour."""
    price, now_ms = found.monthly_price_micro_usd, room.metering.time.now_ms()
    reach = await ledger.reach(room.db, found.project_id, wallet=found.wallet)
    balance = reach.total
    burning = [] if reach.wallet is None else await billing.open_of_wallet(room.db, found.wallet)
    waiting = Waiting(found.project_id, price, reach.purse)
    least = lacking(reach.wallet or NOTHING, burning, waiting, now_ms=now_ms)
    how = _TOP_UP
    if reach.wallet is None:
        apart = await ledger.opened_apart(room.db, found.project_id)
        how = _TOP_UP_A_PURSE if apart else _ADD_TO_PURSE
    if how is not _ADD_TO_PURSE:
        least = max(room.minimum_charge, least)
    reason = (
        "Out of credits: the app is stopped and kept. "
        f"Its next hour costs {usd_text(hour_of(price))}, and {usd_text(balance)} is left. "
        f"Top up by {usd_text(least)} or more, and it starts again by itself."
    )
    return _stopped(found, "out_of_credits", reason, how)


def _crash_looping(found: DeploymentView, loop: CrashLoop) -> DeploymentProgress:
    code = "an unknown exit code" if loop.exit_code is None else f"exit code {loop.exit_code}"
    how = "was killed at its memory limit" if loop.out_of_memory else f"ended with {code}"
    next_try_at = iso_utc(loop.next_try_ms)
    return DeploymentProgress(
        status="failed",
        deployment_id=found.id,
        deployment_status="crash_looping",
        reason=f"The app was restarted {loop.restarts} times within ten minutes; at last it {how}. "
        f"The next try is at {next_try_at}. Its log may say why: deploy a version that lasts.",
        reason_code=FailureCause.OUT_OF_MEMORY if loop.out_of_memory else FailureCause.CRASHED,
        restarts=loop.restarts,
        exit_code=UNSET if loop.exit_code is None else loop.exit_code,
        out_of_memory=loop.out_of_memory,
        next_try_at=next_try_at,
    )


async def _queued(room: StatusRoom, found: DeploymentView) -> DeploymentProgress:
    position = await jobs.position(room.db, subject_id=found.id, now_ms=room.clock.now_ms())
    return DeploymentProgress(
        status="deploying",
        deployment_id=found.id,
        deployment_status=found.status,
        position=UNSET if position is None else position,
    )


def _under_way(found: DeploymentView, stage: str) -> DeploymentProgress:
    return DeploymentProgress(status="deploying", deployment_id=found.id, deployment_status=stage)


def _restarting(found: DeploymentView) -> DeploymentProgress:
    """The contract has no other word for it than `deploying`."""
    message = "This deployment was ready; its app ended, and is being started again."
    return msgspec.structs.replace(_under_way(found, "restarting"), message=message)


def _ready(room: StatusRoom, found: DeploymentView) -> DeploymentProgress:
    superseded = found.status is DeploymentStatus.SUPERSEDED
    return DeploymentProgress(
        status="ready",
        deployment_id=found.id,
        deployment_status=DeploymentStatus.SUPERSEDED if superseded else UNSET,
        endpoint=room.hosts.url(found.unique_name) if found.kind is Kind.WEB else None,
        kind=UNSET if found.kind is Kind.WEB else found.kind,
        message=found.note or UNSET,
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


async def list_deployments(
    room: DeploymentRoom, request: Request, project: Project
) -> DeploymentList:
    """`GET /agent/projects/{projectId}/deployments`: newest first, a page of them."""
    limit = whole_number(request, "limit", default=_DEFAULT_ITEMS, min_=1, max_=_MAX_ITEMS)
    before = request.query_params.get("before")
    found = await deployments.release_page(
        room.db, project_id=project.id, before=before, limit=limit
    )
    if found is None:
        raise InvalidField("before", "must be the id of a deployment of this project")
    on_machine = await room.runtime.known()
    return DeploymentList(
        project_id=project.id,
        deployments=[_item(each, project, on_machine) for each in found],
        next=found[-1].id if len(found) == limit else None,
    )


async def show_deployment(
    room: DeploymentRoom, request: Request, project: Project
) -> DeploymentShown:
    """`GET /agent/projects/{projectId}/deployments/{deploymentId}`: one with its plan."""
    wanted = await named_deployment(room.db, request.path_params["deploymentId"], project=project)
    summary, superseded_at_ms = await deployments.release(room.db, wanted, project_id=project.id)
    stored = await deployments.by_id(room.db, wanted)
    if stored is None:
        raise DeploymentNotFound
    build = await billing.last_build_of(room.db, wanted, wallet=project.wallet)
    item = _item(summary, project, await room.runtime.known())
    return DeploymentShown(
        **msgspec.structs.asdict(item),
        plan=msgspec.json.decode(stored.plan, type=Plan),
        build_started_at=_time(build.started_at_ms if build else None),
        build_seconds=build.ran_ms / 1000 if build else None,
        superseded_at=_time(superseded_at_ms),
    )


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_utc(at_ms)


async def roll_back(
    room: DeploymentRoom, request: Request, caller: Caller, project: Project
) -> Response:
    """`POST /agent/projects/{projectId}/rollback`: serve an earlier release again.

    As with deploys, wallet, tokens and delegates have keys apart.
    """
    body = await read_whole(request)
    wanted = parse_small(body, RollbackBody) if body else RollbackBody()
    async with room.idempotency.attempt(
        request, hashlib.sha256(body).hexdigest(), RollingBack, wallet=caller.speaker, render=_begun
    ) as keyed:
        if keyed.answer is not None:
            return keyed.answer
        return keyed.answered(
            await room.rollback.to(project, wanted.deployment_id, claim=keyed.claim)
        )


async def cancel(room: DeploymentRoom, request: Request, project: Project) -> Cancelled:
    """`POST /agent/deploy/{projectId}/{deploymentId}/cancel`: end a deployment under way."""
    if project.status is ProjectStatus.DELETING:
        raise ProjectNotFound
    wanted = await named_deployment(room.db, request.path_params["deploymentId"], project=project)
    deployment = await deployments.by_id(room.db, wanted)
    if deployment is None or deployment.project_id != project.id:
        raise DeploymentNotFound
    await room.cancellation.cancel(project, deployment)
    return Cancelled(project_id=project.id, deployment_id=deployment.id)


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
        acted_by=each.acted_by or UNSET,
    )

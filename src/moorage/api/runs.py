"""The endpoints of a project's runs: begun, listed, read, ended."""

import hashlib
from dataclasses import dataclass
from functools import partial

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import Caller, Front, may_still_read
from moorage.api.http.idempotency import Idempotency
from moorage.api.http.problems import json_response
from moorage.api.http.request import IN_LOOP_BYTES, parse_small, read_whole, whole_number
from moorage.api.logs import (
    MAX_LINES,
    Followers,
    LogStreamResponse,
    follows,
    log_item,
    log_reader,
    owners_log,
    streamed,
)
from moorage.clock import iso_utc
from moorage.engines.engine import EngineView
from moorage.errors import InvalidField
from moorage.hosting.entrance.runs import QueuedRun, Runs
from moorage.money import usd_number
from moorage.records.deployment import LogKind
from moorage.records.project import Project
from moorage.records.run import Run, Schedule
from moorage.storage.apps import runs
from moorage.storage.database import Source
from moorage.uploads.request import COMMAND_LENGTH, check_command, check_timeout
from moorage.wire.deployments import LogBody
from moorage.wire.runs import RunBody, RunItem, RunList, RunQueued, ScheduleItem

_DEFAULT_ITEMS = 20
_MAX_ITEMS = 100


@dataclass(frozen=True, kw_only=True)
class RunRoom(Front):
    """What the handlers of runs need."""

    runs: Runs
    idempotency: Idempotency
    runtime: EngineView
    followers: Followers


async def begin_run(room: RunRoom, request: Request, caller: Caller, project: Project) -> Response:
    """`POST /agent/projects/{projectId}/runs`: run a command once beside the app."""
    body = await read_whole(request, max_bytes=2 * IN_LOOP_BYTES)
    if len(body) > IN_LOOP_BYTES:
        raise InvalidField("command", f"must be at most {COMMAND_LENGTH} bytes")
    wanted = parse_small(body, RunBody)
    check_command("command", wanted.command)
    check_timeout("timeout_seconds", wanted.timeout_seconds)
    async with room.idempotency.attempt(
        request,
        wallet=caller.speaker,
        body_digest=hashlib.sha256(body).hexdigest(),
        outcome=QueuedRun,
        render=_queued,
    ) as keyed:
        if keyed.answer is not None:
            return keyed.answer
        queued = await room.runs.queue(
            project,
            wanted.command,
            timeout_seconds=wanted.timeout_seconds,
            size=wanted.size,
            claim=keyed.claim,
        )
        return keyed.answered(queued)


def _queued(queued: QueuedRun) -> Response:
    return json_response(RunQueued(run_id=queued.run_id), status=202)


async def list_runs(room: RunRoom, request: Request, project: Project) -> RunList:
    """`GET /agent/projects/{projectId}/runs`: newest first, a page of them."""
    limit = whole_number(request, "limit", default=_DEFAULT_ITEMS, min_=1, max_=_MAX_ITEMS)
    before = request.query_params.get("before")
    if before is not None:
        last = await runs.by_id(room.db, before)
        if last is None or last.project_id != project.id:
            raise InvalidField("before", "must be the id of a run of this project")
    found = await runs.page(room.db, project, before=before, limit=limit)
    return RunList(
        project_id=project.id,
        runs=[_item(each) for each in found],
        next=found[-1].id if len(found) == limit else None,
    )


async def show_run(room: RunRoom, request: Request, project: Project) -> RunItem:
    """`GET /agent/projects/{projectId}/runs/{runId}`: where a run stands."""
    return _item(await room.runs.of(project, request.path_params["runId"]))


async def end_run(room: RunRoom, request: Request, project: Project) -> RunItem:
    """`DELETE /agent/projects/{projectId}/runs/{runId}`: end a run that waits or runs."""
    return _item(await room.runs.cancel(project, request.path_params["runId"]))


async def show_run_log(
    room: RunRoom, request: Request, caller: Caller, project: Project
) -> Response | LogBody:
    """`GET /agent/projects/{projectId}/runs/{runId}/logs`: what it wrote, also live."""
    run = await room.runs.of(project, request.path_params["runId"])
    read = log_reader(await owners_log(room.db, room.runtime, project.id), run.id, request)

    async def is_over() -> bool:
        now = await runs.by_id(room.db, run.id)
        return now is None or (now.is_over and not now.holds)

    if follows(request):
        return LogStreamResponse(
            room.followers,
            caller.share,
            read=streamed(read),
            is_over=is_over,
            lasts=partial(may_still_read, room, request, caller, project.id),
            kept=run.is_kept or not run.is_over,
        )
    over = await is_over()  # asked before reading, so that no line written in between is missed
    page = await read(None, MAX_LINES)
    return LogBody(
        project_id=project.id,
        deployment_id=run.deployment_id or "",
        run=_item(await room.runs.of(project, run.id)),
        kind=LogKind.RUNTIME,
        lines=[log_item(line) for line in page.lines],
        next=str(page.next),
        ended=over and not (await read(page.next, 1)).lines,
        kept=run.is_kept or not run.is_over,
    )


async def schedules_shown(source: Source, project: Project) -> list[ScheduleItem]:
    """Returns a project's schedules, each with its last run."""
    return [
        _schedule(each, await runs.last_of(source, project, each.name))
        for each in await runs.schedules_of(source, project.id)
    ]


def _schedule(schedule: Schedule, last: Run | None) -> ScheduleItem:
    return ScheduleItem(
        name=schedule.name,
        cron=schedule.cron,
        timezone=schedule.timezone,
        command=schedule.command or UNSET,
        path=schedule.path or UNSET,
        timeout_seconds=schedule.timeout_seconds,
        next_due_at=iso_utc(schedule.next_due_at_ms),
        last_run=UNSET if last is None else _item(last),
    )


def _item(run: Run) -> RunItem:
    return RunItem(
        run_id=run.id,
        status=run.status,
        kind=run.kind,
        command=run.command or UNSET,
        path=run.path or UNSET,
        schedule=run.schedule or UNSET,
        due_at=UNSET if run.due_at_ms is None else iso_utc(run.due_at_ms),
        missed=run.missed or UNSET,
        deployment_id=run.deployment_id or UNSET,
        timeout_seconds=run.timeout_seconds,
        size=run.size or UNSET,
        exit_code=UNSET if run.exit_code is None else run.exit_code,
        reason=run.reason or UNSET,
        created_at=iso_utc(run.created_at_ms),
        started_at=UNSET if run.started_at_ms is None else iso_utc(run.started_at_ms),
        ended_at=UNSET if run.ended_at_ms is None else iso_utc(run.ended_at_ms),
        ran_seconds=run.ran_ms / 1000,
        charged_usd=usd_number(run.charged_micro_usd),
        has_log=run.is_kept,
        acted_by=run.acted_by or UNSET,
    )

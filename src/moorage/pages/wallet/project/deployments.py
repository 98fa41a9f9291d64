"""A project's deployments, and one of them: its steps, why it failed, how it was built."""

from dataclasses import dataclass
from typing import Any

from msgspec import UNSET
from starlette.responses import Response

from moorage.pages.rendering.written import harmless, ms
from moorage.pages.wallet.project.logs import Lines
from moorage.pages.wallet.project.shown import project_of
from moorage.pages.wallet.times import ms_or_none
from moorage.pages.wallet.view import View
from moorage.records.deployment import UNDER_WAY, DeploymentStatus
from moorage.wire.deployments import (
    DeploymentList,
    DeploymentProgress,
    DeploymentShown,
)

DEPLOYMENTS_A_PAGE = 20
_BUILD_LINES = 500


async def list_deployments(view: View) -> Response:
    """`GET …/deployments`: newest first."""
    project = await project_of(view)
    found = await view.api.get(
        DeploymentList,
        "projects",
        project.id,
        "deployments",
        limit=DEPLOYMENTS_A_PAGE,
        before=view.query.get("before"),
    )
    return view.page(
        "wallet/project/deployments.html",
        project=project,
        deployments=found.deployments,
        next=found.next,
        is_first="before" not in view.query,
    )


async def show_deployment(view: View) -> Response:
    """`GET …/deployments/{deployment_id}`: its timeline, its build log, and what to do."""
    project = await project_of(view)
    wanted = view.request.path_params["deployment_id"]
    shown = await view.api.get(DeploymentShown, "projects", project.id, "deployments", wanted)
    progress = await view.api.get(DeploymentProgress, "deploy", project.id, shown.id, "status")
    log = await view.api.get(
        Lines, "deploy", project.id, shown.id, "logs", kind="build", tail=_BUILD_LINES
    )
    return view.page(
        "wallet/project/deployment.html",
        project=project,
        deployment=shown,
        progress=progress,
        steps=steps(shown),
        is_under_way=shown.status in UNDER_WAY,
        log=log,
    )


@dataclass(frozen=True)
class _Times:
    """When each step of a deployment began, as far as it did."""

    queued_ms: int
    building_ms: int | None
    starting_ms: int | None
    ended_ms: int | None


def steps(shown: DeploymentShown) -> list[dict[str, Any]]:
    """Returns the timeline: every step that it went through, and those that are to come."""
    times = _times(shown)
    status = shown.status
    failed = status is DeploymentStatus.FAILED
    found = [_step("Accepted", "done", times.queued_ms, _ORIGINS[shown.origin])]
    reached = _reached(shown, times)
    for number, (title, at_ms) in enumerate(
        (("Built", times.building_ms), ("Started and checked", times.starting_ms))
    ):
        if number + 1 < reached:
            found.append(_step(title, "done", at_ms))
        elif number + 1 == reached:
            found.append(_step(title, "failed" if failed else "busy", at_ms))
        elif not failed:
            found.append(_step(title, "waiting"))
    if failed:
        reason = shown.reason if shown.reason is not UNSET else ""
        return [*found, _step("Failed", "failed", times.ended_ms, harmless(reason))]
    if status in UNDER_WAY:
        return [*found, _step("Ready", "waiting")]
    found.append(_step("Ready", "done", times.ended_ms))
    if shown.superseded_at is not None:
        found.append(_step("Replaced by a later version", "done", ms(shown.superseded_at)))
    return found


_ORIGINS = {
    "upload": "Uploaded",
    "rollback": "An earlier version, to be served again",
    "configuration": "The same files, with other variables or started again",
}


def _reached(shown: DeploymentShown, times: _Times) -> int:
    """Returns which step it is at: 0 waits, 1 builds, 2 starts, 3 is past these."""
    match shown.status:
        case DeploymentStatus.QUEUED:
            return 0
        case DeploymentStatus.BUILDING:
            return 1
        case DeploymentStatus.DEPLOYING:
            return 2
        case DeploymentStatus.FAILED:
            if times.building_ms is None and shown.copy_of is UNSET:
                return 0
            return 1 if shown.reason_code in _BUILD_CAUSES else 2
    return 3


_BUILD_CAUSES = {
    *("upload_invalid", "plan_not_found", "install_failed", "build_failed", "build_timeout"),
    *("interrupted", "superseded", "cancelled", "out_of_credits", "project_blocked"),
}


def _times(shown: DeploymentShown) -> _Times:
    building_ms = ms_or_none(shown.build_started_at)
    over = shown.status not in (DeploymentStatus.QUEUED, DeploymentStatus.BUILDING)
    starting_ms = None
    if over and building_ms is not None and shown.build_seconds is not None:
        starting_ms = building_ms + round(shown.build_seconds * 1000)
    return _Times(ms(shown.created_at), building_ms, starting_ms, ms_or_none(shown.ended_at))


def _step(title: str, state: str, at_ms: int | None = None, text: str = "") -> dict[str, Any]:
    return {"title": title, "state": state, "at_ms": at_ms, "text": text}

"""Projects of all wallets, by what they use; suspend and resume one."""

import re

from starlette.responses import Response

from moorage.errors import InvalidField
from moorage.ledger.running_costs import HOUR_MS
from moorage.operate.customers import evictions
from moorage.operate.customers.evictions import Subject
from moorage.pages.operator.view import PER_PAGE, View
from moorage.records.project import Project
from moorage.records.usage import latency_in
from moorage.storage.apps import deployments, projects, usage
from moorage.storage.operation import overview
from moorage.storage.operation.overview import ProjectOrder

_SPANS = {"1": "hour", "24": "day", "168": "week", "720": "month"}
_ORDERS = {
    ProjectOrder.CPU: "Processor",
    ProjectOrder.MEMORY: "Memory",
    ProjectOrder.REQUESTS: "Requests",
    ProjectOrder.OUT: "Bytes sent",
    ProjectOrder.ANSWER: "Slowest answers",
    ProjectOrder.PRICE: "Price",
    ProjectOrder.NEWEST: "Newest",
}
_DEPLOYMENTS = 10
_MAX_DAYS = 3650
_DAYS = re.compile("[0-9]{1,4}")


async def listed(view: View) -> Response:
    """`GET /operator/projects`: those that used most of something first."""
    hours = view.query.get("hours", "24")
    hours = hours if hours in _SPANS else "24"
    asked = view.query.get("by", "")
    by = next((each for each in _ORDERS if each == asked), ProjectOrder.CPU)
    text = view.query.get("q", "").strip().lower()
    since_ms = view.context.clock.now_ms() - int(hours) * HOUR_MS
    found = await overview.used_projects(
        view.books.db,
        by,
        since_ms=since_ms,
        text=text,
        limit=PER_PAGE + 1,
        offset=view.offset,
    )
    shown = found[:PER_PAGE]
    return view.page(
        "projects.html",
        projects=shown,
        latencies=await overview.latencies_of(
            view.books.db, [each.id for each in shown], since_ms=since_ms
        ),
        total=await overview.count_used_projects(view.books.db, text=text),
        hours=hours,
        spans=list(_SPANS.items()),
        by=by,
        orders=list(_ORDERS.items()),
        parts=view.neighbours(has_more=len(found) > PER_PAGE),
        evicted=await evictions.evicted(view.books),
    )


async def one(view: View) -> Response:
    """`GET /operator/projects/{name}`."""
    project, db = await _project(view), view.books.db
    now_ms = view.context.clock.now_ms()
    hours = await usage.between(
        db, project_id=project.id, from_ms=now_ms - 24 * HOUR_MS, until_ms=now_ms
    )
    return view.page(
        "project.html",
        project=project,
        deployments=(await deployments.of_project(db, project.id))[:_DEPLOYMENTS],
        hours=[(hour, latency_in([hour])) for hour in hours],
        latency=latency_in(hours),
        base_domain=view.context.settings.base_domain,
        eviction=next(
            (
                each
                for each in await evictions.evicted(view.books)
                if each.name == project.unique_name
            ),
            None,
        ),
    )


async def suspend(view: View) -> Response:
    """`POST …/suspend`: stops its app whatever its credits."""
    project = await _project(view)
    view.require_confirmed()
    await evictions.suspend(view.books, Subject(project.unique_name, ""), view.reason())
    return view.done(_path(project), "suspended")


async def resume(view: View) -> Response:
    """`POST …/resume`: lets its credits decide again."""
    project = await _project(view)
    subject = Subject(project.unique_name, "")
    await evictions.unsuspend(view.books, subject, reason=view.reason())
    return view.done(_path(project), "resumed")


async def evict(view: View) -> Response:
    """`POST …/evict`: orders its deletion, after notice to its owner."""
    project = await _project(view)
    if view.form.get("name", "").strip() != project.unique_name:
        raise InvalidField("name", f"type {project.unique_name} to say that you mean this project")
    days = view.form.get("days", "")
    if not (_DAYS.fullmatch(days) and int(days) <= _MAX_DAYS):
        raise InvalidField("days", f"must be a whole number from 0 to {_MAX_DAYS}")
    await evictions.evict(
        view.books,
        project.unique_name,
        reason=view.reason(),
        days=int(days),
        with_export=view.form.get("without_export") != "true",
    )
    return view.done(_path(project), "evicted")


async def keep(view: View) -> Response:
    """`POST …/keep`: cancels that."""
    project = await _project(view)
    await evictions.keep(view.books, project.unique_name, reason=view.reason())
    return view.done(_path(project), "kept")


async def _project(view: View) -> Project:
    """Returns the project that the address names. Raises InvalidField."""
    name = view.request.path_params["name"].lower()
    project = await projects.by_name(view.books.db, name)
    if project is None:
        raise InvalidField("project", "no project has this name")
    return project


def _path(project: Project) -> str:
    return f"/operator/projects/{project.unique_name}"

"""Projects of all wallets, by what they use; suspend and resume one."""

import re
from collections.abc import Callable

from starlette.responses import Response

from moorage.errors import InvalidField
from moorage.ledger.burn import HOUR_MS
from moorage.operate.customers import evictions, overview, suspension
from moorage.operate.customers.overview import ProjectUse
from moorage.operate.customers.suspension import Subject
from moorage.pages.operator.view import PER_PAGE, View
from moorage.records.project import Project
from moorage.storage.apps import deployments, projects, usage

_SPANS = {"1": "hour", "24": "day", "168": "week", "720": "month"}
_ORDERS: dict[str, tuple[str, Callable[[ProjectUse], int]]] = {
    "cpu": ("Processor", lambda each: each.project.cpu_ms),
    "memory": ("Memory", lambda each: each.project.memory_peak_bytes),
    "requests": ("Requests", lambda each: each.project.requests),
    "out": ("Bytes sent", lambda each: each.project.bytes_out),
    "price": ("Price", lambda each: each.project.monthly_price),
    "newest": ("Newest", lambda each: each.project.created_at_ms),
}
_DEPLOYMENTS = 10
_MAX_DAYS = 3650
_DAYS = re.compile("[0-9]{1,4}")


async def listed(view: View) -> Response:
    """`GET /operator/projects`: those that used most of something first."""
    hours = view.query.get("hours", "24")
    hours = hours if hours in _SPANS else "24"
    by = view.query.get("by", "cpu")
    by = by if by in _ORDERS else "cpu"
    text = view.query.get("q", "").strip().lower()
    since_ms = view.desk.clock.now_ms() - int(hours) * HOUR_MS
    found = [
        each
        for each in await overview.projects(view.books, since_ms=since_ms)
        if not text or text in each.project.name or text == each.project.wallet
    ]
    found.sort(key=lambda each: (-_ORDERS[by][1](each), each.project.name))
    return view.page(
        "projects.html",
        projects=found[view.offset : view.offset + PER_PAGE],
        total=len(found),
        hours=hours,
        spans=list(_SPANS.items()),
        by=by,
        orders=[(key, name) for key, (name, _) in _ORDERS.items()],
        parts=view.neighbours(has_more=len(found) > view.offset + PER_PAGE),
        evicted=await evictions.evicted(view.books),
    )


async def one(view: View) -> Response:
    """`GET /operator/projects/{name}`."""
    project, db = await _project(view), view.books.db
    now_ms = view.desk.clock.now_ms()
    hours = await usage.between(
        db, project_id=project.id, from_ms=now_ms - 24 * HOUR_MS, until_ms=now_ms
    )
    return view.page(
        "project.html",
        project=project,
        deployments=list(await deployments.of_project(db, project.id))[-_DEPLOYMENTS:][::-1],
        hours=hours,
        base_domain=view.desk.settings.base_domain,
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
    await suspension.suspend(view.books, Subject(project.unique_name, ""), view.reason())
    return view.done(_path(project), "suspended")


async def resume(view: View) -> Response:
    """`POST …/resume`: lets its credits decide again."""
    project = await _project(view)
    subject = Subject(project.unique_name, "")
    await suspension.unsuspend(view.books, subject, reason=view.reason())
    return view.done(_path(project), "resumed")


async def evict(view: View) -> Response:
    """`POST …/evict`: orders its deletion, after notice to its owner."""
    project = await _project(view)
    view.require_confirmed()
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

"""Queries over a wallet's projects: those that are looked for, a page at a time."""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Text, and_, bindparam, func, or_, select

from moorage.records.project import Project
from moorage.storage.apps.projects import of_row
from moorage.storage.database import Source, Statement
from moorage.storage.schema import projects

MAX_IDS = 100
"""How many ids one query takes."""


class ProjectQuery(NamedTuple):
    """Which projects of a wallet are looked for; by itself all of them."""

    wallet: str
    text: str = ""  # a part of the name or the title
    status: str = ""
    ids: tuple[str, ...] = ()  # these alone, MAX_IDS at most; of none all


class Place(NamedTuple):
    """A project's place in the list, which is sorted by this."""

    created_at_ms: int
    id: str


NEWEST = Place(2**62, "")
"""The place that all others come before."""


def _holds(column: ColumnElement[str]) -> ColumnElement[bool]:
    """Returns whether a text is in a column; both folded by the database."""
    pattern = func.lower(bindparam("pattern", type_=Text))
    return func.lower(column).like(pattern, escape="\\")


_wanted = (
    projects.c.wallet == bindparam("wallet"),
    projects.c.deleted_at_ms.is_(None),
    or_(bindparam("status") == "", projects.c.status == bindparam("status")),
    or_(
        bindparam("pattern", type_=Text) == "%%",
        _holds(projects.c.unique_name),
        _holds(projects.c.display_name),
    ),
)
_id_names = [f"id_{number}" for number in range(MAX_IDS)]
_has_id = projects.c.id.in_([bindparam(name, type_=Text) for name in _id_names])
_comes_before = or_(
    projects.c.created_at_ms < bindparam("before_ms"),
    and_(
        projects.c.created_at_ms == bindparam("before_ms"),
        projects.c.id < bindparam("before_id"),
    ),
)


def _page(*narrowed: ColumnElement[bool]) -> Statement:
    return Statement(
        select(*(projects.c[name] for name in Project.__struct_fields__))
        .where(*_wanted, *narrowed, _comes_before)
        .order_by(projects.c.created_at_ms.desc(), projects.c.id.desc())
        .limit(bindparam("limit"))
    )


def _count(*narrowed: ColumnElement[bool]) -> Statement:
    return Statement(select(func.count()).select_from(projects).where(*_wanted, *narrowed))


_PAGE, _PAGE_OF_IDS = _page(), _page(_has_id)
_COUNT, _COUNT_OF_IDS = _count(), _count(_has_id)


async def page(
    source: Source, query: ProjectQuery, *, before: Place = NEWEST, limit: int
) -> list[Project]:
    """Returns the newest `limit` of the projects that come before a place, oldest first."""
    rows = await source.all(
        _PAGE_OF_IDS if query.ids else _PAGE,
        before_ms=before.created_at_ms,
        before_id=before.id,
        limit=limit,
        **_values(query),
    )
    return [of_row(row) for row in reversed(rows)]


async def count(source: Source, query: ProjectQuery) -> int:
    """Returns how many projects a query finds on all pages."""
    row = await source.one(_COUNT_OF_IDS if query.ids else _COUNT, **_values(query))
    return int(row[0]) if row else 0


def _values(query: ProjectQuery) -> dict[str, Any]:
    escaped = query.text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    ids: dict[str, str | None] = {}
    if query.ids:
        ids = dict.fromkeys(_id_names) | dict(zip(_id_names, query.ids, strict=False))
    return {"wallet": query.wallet, "status": query.status, "pattern": f"%{escaped}%", **ids}

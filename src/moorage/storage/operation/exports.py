"""Queries over the archives that owners of evicted projects may fetch."""

import msgspec
from sqlalchemy import bindparam, delete, or_, select

from moorage.storage.database import Row, Source, Statement, Transaction, Upsert
from moorage.storage.schema import evictions, exports


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """An archive with what a project had. Whoever knows its token may fetch it."""

    project_id: str
    token: str
    file_name: str  # that it is saved under by whoever fetches it
    size_bytes: int
    is_last: bool  # made when the project was about to be deleted
    until_ms: int  # when it goes

    @property
    def stored_as(self) -> str:
        """The name of its file, which no earlier archive of the same link has."""
        return f"{self.token}.{self.until_ms}.{'last' if self.is_last else 'first'}"


_COLUMNS = [exports.c[name] for name in Export.__struct_fields__]
_OF_PROJECT = Statement(select(*_COLUMNS).where(exports.c.project_id == bindparam("of_project")))
_BY_TOKEN = Statement(select(*_COLUMNS).where(exports.c.token == bindparam("of_token")))
_ALL = Statement(select(*_COLUMNS))
_ENDED = Statement(
    select(*_COLUMNS)
    .outerjoin(evictions, evictions.c.project_id == exports.c.project_id)
    .where(or_(exports.c.until_ms <= bindparam("now_ms"), evictions.c.project_id.is_(None)))
)
_PUT = Statement(
    Upsert(
        table=exports,
        values={name: bindparam(name) for name in Export.__struct_fields__},
        replaced=Export.__struct_fields__[1:],
    )
)
_REMOVE = Statement(delete(exports).where(exports.c.project_id == bindparam("of_project")))


def _export(row: Row) -> Export:
    """SQLite tells truth as 1 and 0."""
    fields = dict(zip(Export.__struct_fields__, row, strict=True))
    return msgspec.convert(fields, Export, strict=False)


async def of_project(source: Source, project_id: str) -> Export | None:
    """Returns the archive of a project, if there is one."""
    row = await source.one(_OF_PROJECT, of_project=project_id)
    return _export(row) if row else None


async def by_token(source: Source, token: str) -> Export | None:
    """Returns the archive that a token opens, if there is one."""
    row = await source.one(_BY_TOKEN, of_token=token)
    return _export(row) if row else None


async def every(source: Source) -> list[Export]:
    """Returns all archives."""
    return [_export(row) for row in await source.all(_ALL)]


async def ended(source: Source, *, now_ms: int) -> list[Export]:
    """Returns those whose time is over, and those of evictions that were cancelled."""
    return [_export(row) for row in await source.all(_ENDED, now_ms=now_ms)]


async def put(tx: Transaction, export: Export) -> None:
    """Stores the archive of a project, in place of an earlier one."""
    await tx.execute(_PUT, **msgspec.structs.asdict(export))


async def remove(tx: Transaction, project_id: str) -> None:
    """Removes the archive of a project."""
    await tx.execute(_REMOVE, of_project=project_id)

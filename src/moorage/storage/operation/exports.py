"""Queries over archives of projects, which their owners may fetch."""

from enum import StrEnum

import msgspec
from sqlalchemy import and_, bindparam, case, delete, false, func, or_, select, true

from moorage.storage.database import Source, Statement, Transaction, columns_of, given, upsert_of
from moorage.storage.schema import evictions, exports, projects


class ExportState(StrEnum):
    """How far an archive is."""

    MAKING = "making"
    READY = "ready"
    FAILED = "failed"


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """An archive with what a project has. Whoever knows its token may fetch it."""

    project_id: str
    by_owner: bool = False  # else an operator has ordered the project's deletion
    token: str
    state: ExportState = ExportState.READY
    file_name: str  # that it is saved under by who fetches it
    size_bytes: int = 0
    sha256: str = ""
    is_last: bool = False  # made when the project was about to be deleted
    public_key: str | None = None  # to which variables are sealed
    attempts: int = 0
    reason: str = ""  # why it could not be made
    began_at_ms: int = 0
    until_ms: int  # when it goes

    @property
    def stored_as(self) -> str:
        """The name of its file, which no earlier archive of the same link has."""
        return f"{self.token}.{self.until_ms}.{'last' if self.is_last else 'first'}"


_COLUMNS = columns_of(exports, Export)
_OF_PROJECT = Statement(
    select(*_COLUMNS).where(*given(exports, project_id="of_project", by_owner="asked_by_owner"))
)
_BY_TOKEN = Statement(select(*_COLUMNS).where(exports.c.token == bindparam("of_token")))
_ALL = Statement(select(*_COLUMNS))
_MAKING = Statement(
    select(*_COLUMNS)
    .where(exports.c.state == ExportState.MAKING)
    .order_by(exports.c.began_at_ms, exports.c.project_id)
)
_MAKING_OF = Statement(
    select(func.count())
    .select_from(exports.join(projects, projects.c.id == exports.c.project_id))
    .where(exports.c.state == ExportState.MAKING, *given(projects, wallet="of_wallet"))
)
_HELD = Statement(
    select(
        func.coalesce(func.sum(exports.c.size_bytes), 0),
        func.coalesce(
            func.sum(
                case((projects.c.wallet == bindparam("of_wallet"), exports.c.size_bytes), else_=0)
            ),
            0,
        ),
    )
    .select_from(exports.join(projects, projects.c.id == exports.c.project_id))
    .where(exports.c.state == ExportState.READY, exports.c.by_owner == true())
)
_BY_SHA256 = Statement(
    select(*_COLUMNS)
    .select_from(exports.join(projects, projects.c.id == exports.c.project_id))
    .where(
        *given(exports, sha256="of_sha256"),
        exports.c.state == ExportState.READY,
        exports.c.until_ms > bindparam("now_ms"),
        *given(projects, wallet="of_wallet"),
    )
    .limit(1)
)
_ENDED = Statement(
    select(*_COLUMNS)
    .outerjoin(evictions, evictions.c.project_id == exports.c.project_id)
    .where(
        or_(
            exports.c.until_ms <= bindparam("now_ms"),
            and_(exports.c.by_owner == false(), evictions.c.project_id.is_(None)),
        )
    )
)
_PUT = upsert_of(exports, Export)
_REMOVE = Statement(
    delete(exports).where(
        exports.c.token == bindparam("of_token"), exports.c.until_ms == bindparam("that_ends_ms")
    )
)


async def of_project(source: Source, project_id: str, *, by_owner: bool = False) -> Export | None:
    """Returns the archive of a project, if there is one."""
    return await source.record(Export, _OF_PROJECT, of_project=project_id, asked_by_owner=by_owner)


async def by_token(source: Source, token: str) -> Export | None:
    """Returns the archive that a token opens, if there is one."""
    return await source.record(Export, _BY_TOKEN, of_token=token)


async def every(source: Source) -> list[Export]:
    """Returns all archives."""
    return await source.records(Export, _ALL)


async def making(source: Source) -> list[Export]:
    """Returns those that are to be made, the oldest first."""
    return await source.records(Export, _MAKING)


async def making_of(source: Source, wallet: str) -> int:
    """Returns how many of a wallet's are to be made."""
    return await source.number(_MAKING_OF, of_wallet=wallet)


async def held_bytes(source: Source, wallet: str) -> tuple[int, int]:
    """Returns the size of all archives that owners asked for, and of this wallet's."""
    row = await source.one(_HELD, of_wallet=wallet)
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def by_sha256(source: Source, wallet: str, sha256: str, *, now_ms: int) -> Export | None:
    """Returns an archive of one of the wallet's projects that has this digest, if there is one."""
    return await source.record(
        Export, _BY_SHA256, of_wallet=wallet, of_sha256=sha256, now_ms=now_ms
    )


async def ended(source: Source, *, now_ms: int) -> list[Export]:
    """Returns those whose time is over, and those of evictions that were cancelled."""
    return await source.records(Export, _ENDED, now_ms=now_ms)


async def put(tx: Transaction, export: Export) -> None:
    """Stores an archive of a project, in place of an earlier one of its kind."""
    await tx.execute(_PUT, **msgspec.structs.asdict(export))


async def remove(tx: Transaction, export: Export) -> None:
    """Removes an archive, unless another took its place."""
    await tx.execute(_REMOVE, of_token=export.token, that_ends_ms=export.until_ms)

"""Queries over what an operator tells all customers at the moment."""

from enum import StrEnum

from sqlalchemy import bindparam, delete, select

from moorage.storage.database import Source, Statement, Transaction, Upsert
from moorage.storage.schema import notices


class NoticeKind(StrEnum):
    """What a notice does."""

    MAINTENANCE = "maintenance"  # new deploys are refused; all else goes on
    ANNOUNCEMENT = "announcement"  # it is told, and changes nothing


_ALL = Statement(select(notices.c.kind, notices.c.text))
_ONE = Statement(select(notices.c.text).where(notices.c.kind == bindparam("kind")))
_SET = Statement(
    Upsert(
        table=notices,
        values={name: bindparam(name) for name in ("kind", "text", "since_ms")},
        replaced=("text", "since_ms"),
    )
)
_REMOVE = Statement(delete(notices).where(notices.c.kind == bindparam("kind")))


async def current(source: Source) -> dict[str, str]:
    """Returns the text of each notice that is in force, by its kind."""
    return dict(await source.all(_ALL))


async def text(source: Source, kind: NoticeKind) -> str | None:
    """Returns a notice's text; None if it is not in force."""
    row = await source.one(_ONE, kind=kind)
    return row[0] if row else None


async def put(tx: Transaction, kind: NoticeKind, words: str, *, now_ms: int) -> None:
    """Puts a notice in force, in place of an earlier one."""
    await tx.execute(_SET, kind=kind, text=words, since_ms=now_ms)


async def remove(tx: Transaction, kind: NoticeKind) -> bool:
    """Ends a notice; returns False when it was not in force."""
    return await tx.execute(_REMOVE, kind=kind) == 1

"""Queries over manage tokens; of a token its SHA-256 alone is stored."""

from typing import NamedTuple

from sqlalchemy import bindparam, delete, insert, select

from moorage.storage.database import Source, Statement, Transaction
from moorage.storage.schema import manage_tokens, projects

_ADD = Statement(insert(manage_tokens).values({c.name: bindparam(c.name) for c in manage_tokens.c}))
_FIND = Statement(
    select(projects.c.id, projects.c.unique_name, projects.c.wallet)
    .join_from(manage_tokens, projects, manage_tokens.c.project_id == projects.c.id)
    .where(manage_tokens.c.digest == bindparam("digest"), projects.c.deleted_at_ms.is_(None))
)
_NEWEST = Statement(
    select(manage_tokens.c.created_at_ms)
    .where(manage_tokens.c.project_id == bindparam("project_id"))
    .order_by(manage_tokens.c.created_at_ms.desc())
    .limit(1)
)
_SURPLUS = Statement(
    select(manage_tokens.c.digest)
    .where(manage_tokens.c.project_id == bindparam("project_id"))
    .order_by(manage_tokens.c.created_at_ms.desc(), manage_tokens.c.digest)
    .offset(bindparam("kept"))
    .limit(1_000)
)
_REMOVE = Statement(delete(manage_tokens).where(manage_tokens.c.digest == bindparam("digest")))
_REVOKE = Statement(
    delete(manage_tokens).where(manage_tokens.c.project_id == bindparam("project_id"))
)


class ManagedProject(NamedTuple):
    """The project that a token manages."""

    id: str
    unique_name: str
    wallet: str


async def add(tx: Transaction, *, digest: str, project_id: str, now_ms: int, max_kept: int) -> None:
    """Stores a token's digest; of the project's tokens the newest `max_kept` stay.

    It counts as newer than the others also if the clock went back meanwhile.
    """
    newest = await tx.one(_NEWEST, project_id=project_id)
    created_at_ms = now_ms if newest is None else max(now_ms, newest[0] + 1)
    await tx.execute(_ADD, digest=digest, project_id=project_id, created_at_ms=created_at_ms)
    for (surplus,) in await tx.all(_SURPLUS, project_id=project_id, kept=max_kept):
        await tx.execute(_REMOVE, digest=surplus)


async def find(source: Source, digest: str) -> ManagedProject | None:
    """Returns the project of a token, unless it is deleted."""
    row = await source.one(_FIND, digest=digest)
    return None if row is None else ManagedProject(*row)


async def revoke(tx: Transaction, project_id: str) -> int:
    """Removes all tokens of a project; returns how many there were."""
    return await tx.execute(_REVOKE, project_id=project_id)

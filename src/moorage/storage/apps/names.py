"""Queries over names: each belongs to one wallet at a time, by a quote or by a project."""

from typing import NamedTuple

from sqlalchemy import BigInteger, bindparam, case, delete, func, literal, null, or_, select, update

from moorage.errors import UniqueViolation
from moorage.storage.database import Source, Statement, Transaction, Upsert, given, parameters
from moorage.storage.schema import names, projects, quotes

_TAKE = Statement(
    Upsert(
        table=names,
        values=parameters(names.c.keys()),
        replaced=("wallet",),
        changed={
            "held_until_ms": case(
                (names.c.held_until_ms.is_(None), null()),
                else_=bindparam("held_until_ms", type_=BigInteger),
            )
        },
        where=or_(
            names.c.wallet == bindparam("wallet"), names.c.held_until_ms <= bindparam("now_ms")
        ),
    )
)
_OWNER = Statement(
    select(names.c.wallet, names.c.held_until_ms).where(
        *given(names, "unique_name"),
        or_(names.c.held_until_ms.is_(None), names.c.held_until_ms > bindparam("now_ms")),
    )
)
_HELD = Statement(
    select(func.count()).select_from(
        select(literal(1))
        .where(*given(names, "wallet"), names.c.held_until_ms > bindparam("now_ms"))
        .limit(bindparam("limit"))
        .subquery()
    )
)
_FREE = Statement(
    update(names)
    .where(
        names.c.unique_name
        == select(projects.c.unique_name).where(*given(projects, id="project_id")).scalar_subquery()
    )
    .values(
        held_until_ms=select(func.coalesce(func.max(quotes.c.expires_at_ms), 0))
        .where(quotes.c.wallet == names.c.wallet, quotes.c.unique_name == names.c.unique_name)
        .scalar_subquery()
    )
)
_RELEASE = Statement(
    delete(names).where(
        *given(names, "unique_name", "wallet"),
        names.c.held_until_ms.is_not(None),
        ~select(quotes.c.id)
        .where(quotes.c.wallet == names.c.wallet, quotes.c.unique_name == names.c.unique_name)
        .exists(),
    )
)
_FORGET = Statement(delete(names).where(names.c.held_until_ms <= bindparam("until_ms")))


async def hold(
    tx: Transaction, *, wallet: str, unique_name: str, until_ms: int, now_ms: int
) -> bool:
    """Holds a name for a wallet until `until_ms`; returns False when it is another wallet's."""
    return await _take(tx, wallet, unique_name, until_ms, now_ms)


async def take(tx: Transaction, *, wallet: str, unique_name: str, now_ms: int) -> None:
    """Gives a name to a project of the wallet. Raises UniqueViolation when it is another's."""
    if not await _take(tx, wallet, unique_name, None, now_ms):
        raise UniqueViolation(f"the name {unique_name} is another wallet's")


async def free(tx: Transaction, project_id: str) -> None:
    """Frees a project's name; the name stays held while the wallet has a quote for it."""
    await tx.execute(_FREE, project_id=project_id)


async def release(tx: Transaction, *, wallet: str, unique_name: str) -> None:
    """Frees a name that is held for the wallet, unless a quote or a project has it."""
    await tx.execute(_RELEASE, wallet=wallet, unique_name=unique_name)


class Owner(NamedTuple):
    """Whose a name is."""

    wallet: str
    held_until_ms: int | None
    """Until when a quote holds it; None while a project has it."""


async def owner(source: Source, unique_name: str, *, now_ms: int) -> Owner | None:
    """Returns whose the name is; None for a free one, which no project has and no live quote."""
    return await source.record(Owner, _OWNER, unique_name=unique_name, now_ms=now_ms)


async def holds(source: Source, *, wallet: str, now_ms: int, limit: int) -> bool:
    """Whether quotes hold `limit` names or more for the wallet."""
    row = await source.one(_HELD, wallet=wallet, now_ms=now_ms, limit=limit)
    return row is not None and row[0] >= limit


async def forget(tx: Transaction, *, until_ms: int) -> None:
    """Removes names that were held until `until_ms` or earlier."""
    await tx.execute(_FORGET, until_ms=until_ms)


async def _take(
    tx: Transaction, wallet: str, unique_name: str, until_ms: int | None, now_ms: int
) -> bool:
    touched = await tx.execute(
        _TAKE, wallet=wallet, unique_name=unique_name, held_until_ms=until_ms, now_ms=now_ms
    )
    return touched == 1

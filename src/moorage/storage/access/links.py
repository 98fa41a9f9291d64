"""Queries over links; of a link's secret its SHA-256 alone is stored."""

import msgspec
from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update

from moorage.records.access import Link, Role
from moorage.storage.database import Row, Source, Statement, Transaction
from moorage.storage.schema import links, wallets

_COLUMNS = [links.c[name] for name in Link.__struct_fields__]
_of_who = and_(links.c.who == bindparam("of_who"), links.c.role == bindparam("of_role"))
_of_id = links.c.id == bindparam("of_id")
_opens = and_(
    links.c.digest == bindparam("of_digest"),
    links.c.role == bindparam("of_role"),
    links.c.expires_ms > bindparam("now_ms"),
    or_(links.c.once.is_(False), links.c.used_ms.is_(None)),
)
_lives = links.c.expires_ms > bindparam("now_ms")

_ADD = Statement(insert(links).values({column.name: bindparam(column.name) for column in links.c}))
_FIND = Statement(select(*_COLUMNS).where(_opens))
_USE = Statement(update(links).where(_opens).values(used_ms=bindparam("now_ms")))
_LIST = Statement(
    select(*_COLUMNS)
    .where(_of_who, links.c.once.is_(False), _lives)
    .order_by(links.c.created_at_ms, links.c.id)
)
_REMOVE = Statement(delete(links).where(_of_id, _of_who))
_REMOVE_OF_ROLE = Statement(delete(links).where(links.c.role == bindparam("of_role")))
_DELETE = Statement(delete(links).where(_of_id))
_COUNT_OF_WHO = Statement(
    select(func.count()).select_from(links).where(_of_who, links.c.once.is_(False), _lives)
)
_UNUSED = Statement(
    select(links.c.id)
    .where(_of_who, links.c.once.is_(True))
    .order_by(links.c.created_at_ms.desc(), links.c.id)
    .offset(bindparam("kept"))
    .limit(100)
)
_COUNT = Statement(select(func.count()).select_from(links))
_OF_STRANGERS = Statement(
    select(links.c.id)
    .where(links.c.role == Role.WALLET, links.c.who.not_in(select(wallets.c.address)))
    .order_by(links.c.created_at_ms, links.c.id)
    .limit(bindparam("surplus"))
)
_PURGE = Statement(delete(links).where(links.c.expires_ms <= bindparam("now_ms")))


async def add(tx: Transaction, link: Link, *, digest: str, max_once: int, max_rows: int) -> None:
    """Stores a link. Of one wallet's that open once, the newest `max_once` stay.

    Beyond `max_rows` in all, the oldest go of wallets without an account here: keys cost nothing.
    """
    await tx.execute(_ADD, **msgspec.structs.asdict(link), digest=digest)
    unused = await tx.all(_UNUSED, of_who=link.who, of_role=link.role, kept=max_once)
    row = await tx.one(_COUNT)
    surplus = (row[0] if row else 0) - max_rows
    strangers = await tx.all(_OF_STRANGERS, surplus=surplus) if surplus > 0 else []
    for (link_id,) in (*unused, *strangers):
        await tx.execute(_DELETE, of_id=link_id)


async def find(source: Source, digest: str, *, role: Role, now_ms: int) -> Link | None:
    """Returns the link, unless it has expired or is used up."""
    row = await source.one(_FIND, of_digest=digest, of_role=role, now_ms=now_ms)
    return None if row is None else _link(row)


async def use(tx: Transaction, digest: str, *, role: Role, now_ms: int) -> Link | None:
    """Opens a link: of several calls with one that opens once, one gets it."""
    found = await find(tx, digest, role=role, now_ms=now_ms)
    used = await tx.execute(_USE, of_digest=digest, of_role=role, now_ms=now_ms)
    return found if used == 1 else None


async def listed(source: Source, who: str, *, role: Role, now_ms: int) -> list[Link]:
    """Returns the links that can be opened again and again, the oldest first."""
    rows = await source.all(_LIST, of_who=who, of_role=role, now_ms=now_ms)
    return [_link(row) for row in rows]


async def count(source: Source, who: str, *, role: Role, now_ms: int) -> int:
    """Returns how many links there are that can be opened again and again."""
    row = await source.one(_COUNT_OF_WHO, of_who=who, of_role=role, now_ms=now_ms)
    return int(row[0]) if row else 0


async def remove(tx: Transaction, link_id: str, *, who: str, role: Role) -> bool:
    """Removes a link; returns False if there is no such link of theirs."""
    return await tx.execute(_REMOVE, of_id=link_id, of_who=who, of_role=role) == 1


async def remove_of_role(tx: Transaction, role: Role) -> int:
    """Removes the links of all operators, or of all wallets; returns how many."""
    return await tx.execute(_REMOVE_OF_ROLE, of_role=role)


async def purge(tx: Transaction, *, now_ms: int) -> None:
    """Removes what has expired."""
    await tx.execute(_PURGE, now_ms=now_ms)


def _link(row: Row) -> Link:
    fields = dict(zip(Link.__struct_fields__, row, strict=True))
    truths = {name: bool(fields[name]) for name in ("may_change", "once")}  # numbers in a file
    return msgspec.convert(fields | truths, Link)

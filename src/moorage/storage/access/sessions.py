"""Queries over sessions; of a session's secret its SHA-256 alone is stored."""

import msgspec
from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update

from moorage.records.access import Role, StoredSession
from moorage.storage.database import Row, Source, Statement, Transaction
from moorage.storage.schema import sessions, wallets

_COLUMNS = [sessions.c[name] for name in StoredSession.__struct_fields__]
_of_digest = sessions.c.digest == bindparam("of_digest")
_of_role = sessions.c.role == bindparam("of_role")
_of_link = sessions.c.link_id == bindparam("of_link")
_of_who = and_(sessions.c.who == bindparam("of_who"), _of_role)
_never_ended = sessions.c.ended_ms.is_(None)
_lives = and_(_never_ended, sessions.c.expires_ms > bindparam("now_ms"))
_newest_first = (sessions.c.created_at_ms.desc(), sessions.c.digest)

_ADD = Statement(
    insert(sessions).values({column.name: bindparam(column.name) for column in _COLUMNS})
)
_FIND = Statement(select(*_COLUMNS).where(_of_digest, _of_role, _lives))
_END = Statement(update(sessions).where(_of_digest, _lives).values(ended_ms=bindparam("now_ms")))
_WHO = Statement(select(sessions.c.who, sessions.c.role).where(_of_digest))
_END_OF_WHO = Statement(
    update(sessions).where(_of_who, _lives).values(ended_ms=bindparam("now_ms"))
)
_END_OF_ROLE = Statement(
    update(sessions).where(_of_role, _lives).values(ended_ms=bindparam("now_ms"))
)
_END_OF_LINK = Statement(
    update(sessions).where(_of_link, _lives).values(ended_ms=bindparam("now_ms"))
)
_SURPLUS_OF_WHO = Statement(
    select(sessions.c.digest)
    .where(_of_who, sessions.c.link_id.is_(None), _lives)
    .order_by(*_newest_first)
    .offset(bindparam("kept"))
    .limit(100)
)
_SURPLUS_OF_LINK = Statement(
    select(sessions.c.digest)
    .where(_of_link, _lives)
    .order_by(*_newest_first)
    .offset(bindparam("kept"))
    .limit(100)
)
_COUNT = Statement(select(func.count()).select_from(sessions))
_OF_STRANGERS = Statement(
    select(sessions.c.digest)
    .where(
        sessions.c.role == Role.WALLET,
        sessions.c.who.not_in(select(wallets.c.address)),
    )
    .order_by(sessions.c.created_at_ms, sessions.c.digest)
    .limit(bindparam("surplus"))
)
_DELETE = Statement(delete(sessions).where(_of_digest))
_SIGNED = Statement(
    update(sessions)
    .where(
        _of_digest,
        _never_ended,
        or_(sessions.c.signed_ms.is_(None), sessions.c.signed_ms < bindparam("issued_ms")),
    )
    .values(signed_ms=bindparam("issued_ms"))
)
_PURGE = Statement(delete(sessions).where(sessions.c.expires_ms <= bindparam("now_ms")))


async def add(tx: Transaction, session: StoredSession, *, max_kept: int, max_rows: int) -> None:
    """Stores a session. Of one wallet, or one link, the newest `max_kept` stay.

    Beyond `max_rows` in all, the oldest go of wallets without an account here: keys cost nothing.
    Raises UniqueViolation when its nonce was used.
    """
    await tx.execute(_ADD, **msgspec.structs.asdict(session))
    now_ms = session.created_at_ms
    if session.link_id is None:
        surplus = await tx.all(
            _SURPLUS_OF_WHO, of_who=session.who, of_role=session.role, kept=max_kept, now_ms=now_ms
        )
    else:
        surplus = await tx.all(
            _SURPLUS_OF_LINK, of_link=session.link_id, kept=max_kept, now_ms=now_ms
        )
    for (digest,) in surplus:
        await tx.execute(_END, of_digest=digest, now_ms=now_ms)
    await _drop_strangers(tx, max_rows)


async def _drop_strangers(tx: Transaction, max_rows: int) -> None:
    row = await tx.one(_COUNT)
    surplus = (row[0] if row else 0) - max_rows
    if surplus > 0:
        for (digest,) in await tx.all(_OF_STRANGERS, surplus=surplus):
            await tx.execute(_DELETE, of_digest=digest)


async def find(source: Source, digest: str, *, role: Role, now_ms: int) -> StoredSession | None:
    """Returns the session, unless it was ended or has expired."""
    row = await source.one(_FIND, of_digest=digest, of_role=role, now_ms=now_ms)
    return None if row is None else _session(row)


async def end(tx: Transaction, digest: str, *, now_ms: int) -> None:
    """Ends a session."""
    await tx.execute(_END, of_digest=digest, now_ms=now_ms)


async def end_all(tx: Transaction, digest: str, *, now_ms: int) -> None:
    """Ends all sessions of the wallet, or operator, whose session this is."""
    found = await tx.one(_WHO, of_digest=digest)
    if found is not None:
        await tx.execute(_END_OF_WHO, of_who=found[0], of_role=found[1], now_ms=now_ms)


async def end_of_role(tx: Transaction, role: Role, *, now_ms: int) -> int:
    """Ends the sessions of all operators, or of all wallets; returns how many."""
    return await tx.execute(_END_OF_ROLE, of_role=role, now_ms=now_ms)


async def end_of_link(tx: Transaction, link_id: str, *, now_ms: int) -> None:
    """Ends the sessions that a link has opened."""
    await tx.execute(_END_OF_LINK, of_link=link_id, now_ms=now_ms)


async def note_signature(tx: Transaction, digest: str, *, issued_ms: int) -> bool:
    """Notes that a text which was issued then was signed; False for one that is not newer.

    So each text counts once.
    """
    return await tx.execute(_SIGNED, of_digest=digest, issued_ms=issued_ms) == 1


async def purge(tx: Transaction, *, now_ms: int) -> None:
    """Removes what has expired."""
    await tx.execute(_PURGE, now_ms=now_ms)


def _session(row: Row) -> StoredSession:
    fields = dict(zip(StoredSession.__struct_fields__, row, strict=True))
    fields["may_change"] = bool(fields["may_change"])  # an SQLite file has numbers
    return msgspec.convert(fields, StoredSession)

"""Queries over what opens pages and projects: sessions, links to pages, manage tokens.

Of their secrets the SHA-256 alone is stored.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import ColumnElement, and_, bindparam, delete, func, or_, select, update

from moorage.records.access import Link, Role, StoredSession
from moorage.storage.access_schema import links, manage_tokens, sessions
from moorage.storage.database import (
    Source,
    Statement,
    Transaction,
    columns_of,
    given,
    insert_of,
)
from moorage.storage.schema import projects, wallets

_LINKS_COLUMNS = columns_of(links, Link)
_links_of_who = and_(*given(links, who="of_who", role="of_role"))
_of_id = links.c.id == bindparam("of_id")
_opens = and_(
    *given(links, digest="of_digest", role="of_role"),
    links.c.expires_ms > bindparam("now_ms"),
    or_(links.c.once.is_(False), links.c.used_ms.is_(None)),
)
_links_lives = links.c.expires_ms > bindparam("now_ms")

_LINKS_ADD = insert_of(links)
_LINKS_FIND = Statement(select(*_LINKS_COLUMNS).where(_opens))
_USE = Statement(update(links).where(_opens).values(used_ms=bindparam("now_ms")))
_LIST = Statement(
    select(*_LINKS_COLUMNS)
    .where(_links_of_who, links.c.once.is_(False), _links_lives)
    .order_by(links.c.created_at_ms, links.c.id)
)
_REMOVE = Statement(delete(links).where(_of_id, _links_of_who))
_REMOVE_OF_ROLE = Statement(delete(links).where(*given(links, role="of_role")))
_LINKS_DELETE = Statement(delete(links).where(_of_id))
_COUNT_OF_WHO = Statement(
    select(func.count())
    .select_from(links)
    .where(_links_of_who, links.c.once.is_(False), _links_lives)
)
_UNUSED = Statement(
    select(links.c.id)
    .where(_links_of_who, links.c.once.is_(True))
    .order_by(links.c.created_at_ms.desc(), links.c.id)
    .offset(bindparam("kept"))
    .limit(100)
)
_LINKS_COUNT = Statement(select(func.count()).select_from(links))
_LINKS_OF_STRANGERS = Statement(
    select(links.c.id)
    .where(links.c.role == Role.WALLET, links.c.who.not_in(select(wallets.c.address)))
    .order_by(links.c.created_at_ms, links.c.id)
    .limit(bindparam("surplus"))
)
_LINKS_PURGE = Statement(delete(links).where(links.c.expires_ms <= bindparam("now_ms")))


async def add_link(
    tx: Transaction, link: Link, *, digest: str, max_once: int, max_rows: int
) -> None:
    """Stores a link. Of one wallet's that open once, the newest `max_once` stay.

    Beyond `max_rows` in all, the oldest go of wallets without an account here: keys cost nothing.
    """
    await tx.execute(_LINKS_ADD, **msgspec.structs.asdict(link), digest=digest)
    unused = await tx.values(_UNUSED, of_who=link.who, of_role=link.role, kept=max_once)
    surplus = max(0, await tx.number(_LINKS_COUNT) - max_rows)
    strangers = await tx.values(_LINKS_OF_STRANGERS, surplus=surplus)
    for link_id in (*unused, *strangers):
        await tx.execute(_LINKS_DELETE, of_id=link_id)


async def find_link(source: Source, digest: str, *, role: Role, now_ms: int) -> Link | None:
    """Returns the link, unless it has expired or is used up."""
    return await source.record(Link, _LINKS_FIND, of_digest=digest, of_role=role, now_ms=now_ms)


async def use_link(tx: Transaction, digest: str, *, role: Role, now_ms: int) -> Link | None:
    """Opens a link: of several calls with one that opens once, one gets it."""
    found = await find_link(tx, digest, role=role, now_ms=now_ms)
    used = await tx.execute(_USE, of_digest=digest, of_role=role, now_ms=now_ms)
    return found if used == 1 else None


async def listed_links(source: Source, who: str, *, role: Role, now_ms: int) -> list[Link]:
    """Returns the links that can be opened again and again, the oldest first."""
    return await source.records(Link, _LIST, of_who=who, of_role=role, now_ms=now_ms)


async def count_links(source: Source, who: str, *, role: Role, now_ms: int) -> int:
    """Returns how many links there are that can be opened again and again."""
    return await source.number(_COUNT_OF_WHO, of_who=who, of_role=role, now_ms=now_ms)


async def remove_link(tx: Transaction, link_id: str, *, who: str, role: Role) -> bool:
    """Removes a link; returns False if there is no such link of theirs."""
    return await tx.execute(_REMOVE, of_id=link_id, of_who=who, of_role=role) == 1


async def remove_links_of_role(tx: Transaction, role: Role) -> int:
    """Removes the links of all operators, or of all wallets; returns how many."""
    return await tx.execute(_REMOVE_OF_ROLE, of_role=role)


async def purge_links(tx: Transaction, *, now_ms: int) -> None:
    """Removes what has expired."""
    await tx.execute(_LINKS_PURGE, now_ms=now_ms)


_MANAGE_TOKENS_ADD = insert_of(manage_tokens)
_MANAGE_TOKENS_FIND = Statement(
    select(
        projects.c.id,
        projects.c.unique_name,
        projects.c.wallet,
        manage_tokens.c.id,
        manage_tokens.c.scopes,
    )
    .join_from(manage_tokens, projects, manage_tokens.c.project_id == projects.c.id)
    .where(
        *given(manage_tokens, "digest"),
        projects.c.deleted_at_ms.is_(None),
        or_(
            manage_tokens.c.expires_ms.is_(None),
            manage_tokens.c.expires_ms > bindparam("now_ms"),
        ),
    )
)
_NEWEST = Statement(
    select(manage_tokens.c.created_at_ms)
    .where(*given(manage_tokens, "project_id"))
    .order_by(manage_tokens.c.created_at_ms.desc())
    .limit(1)
)
_SURPLUS = Statement(
    select(manage_tokens.c.digest)
    .where(*given(manage_tokens, "project_id"))
    .order_by(manage_tokens.c.created_at_ms.desc(), manage_tokens.c.digest)
    .offset(bindparam("kept"))
    .limit(1_000)
)
_MANAGE_TOKENS_REMOVE = Statement(delete(manage_tokens).where(*given(manage_tokens, "digest")))
_MANAGE_TOKENS_REPLACE = Statement(
    update(manage_tokens)
    .where(*given(manage_tokens, "project_id", id="of_id"))
    .values(digest=bindparam("new"))
)
_REVOKE = Statement(delete(manage_tokens).where(*given(manage_tokens, "project_id")))


_REVOKE_OF_WALLET = Statement(
    delete(manage_tokens).where(
        manage_tokens.c.project_id.in_(
            select(projects.c.id).where(*given(projects, wallet="of_wallet"))
        )
    )
)


class ManagedProject(NamedTuple):
    """The project that a token manages."""

    id: str
    unique_name: str
    wallet: str
    token_id: str = ""
    scopes: str = "read deploy delete"  # of the token, as a delegation's


class ManageToken(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `manage_tokens`."""

    id: str
    digest: str
    project_id: str
    created_at_ms: int
    scopes: str
    expires_ms: int | None


async def add_manage_token(tx: Transaction, token: ManageToken, *, max_kept: int) -> None:
    """Stores a token; of the project's tokens the newest `max_kept` stay.

    It counts as newer than the others also if the clock went back meanwhile.
    """
    newest = await tx.number(_NEWEST, project_id=token.project_id)
    token = msgspec.structs.replace(token, created_at_ms=max(token.created_at_ms, newest + 1))
    await tx.execute(_MANAGE_TOKENS_ADD, **msgspec.structs.asdict(token))
    for (surplus,) in await tx.all(_SURPLUS, project_id=token.project_id, kept=max_kept):
        await tx.execute(_MANAGE_TOKENS_REMOVE, digest=surplus)


async def find_manage_token(source: Source, digest: str, *, now_ms: int) -> ManagedProject | None:
    """Returns the project of a token, unless that is deleted or the token has expired."""
    return await source.record(ManagedProject, _MANAGE_TOKENS_FIND, digest=digest, now_ms=now_ms)


async def replace_manage_token(tx: Transaction, token: ManageToken) -> bool:
    """Gives a token another digest; returns False if it was revoked."""
    return (
        await tx.execute(
            _MANAGE_TOKENS_REPLACE, new=token.digest, of_id=token.id, project_id=token.project_id
        )
        == 1
    )


async def revoke_all_tokens(tx: Transaction, wallet: str) -> None:
    """Removes all tokens of all projects of a wallet."""
    await tx.execute(_REVOKE_OF_WALLET, of_wallet=wallet)


async def revoke_manage_tokens(tx: Transaction, project_id: str) -> int:
    """Removes all tokens of a project; returns how many there were."""
    return await tx.execute(_REVOKE, project_id=project_id)


def end_access(path: Path) -> None:
    """Removes every session and every link from the SQLite file at `path`."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in (sessions, links):
            connection.execute(f"DELETE FROM {table.name}")  # noqa: S608 (names of ours)


_COLUMNS = columns_of(sessions, StoredSession)
_of_digest = sessions.c.digest == bindparam("of_digest")
_of_role = sessions.c.role == bindparam("of_role")
_of_link = sessions.c.link_id == bindparam("of_link")
_of_who = and_(*given(sessions, who="of_who"), _of_role)
_never_ended = sessions.c.ended_ms.is_(None)
_lives = and_(_never_ended, sessions.c.expires_ms > bindparam("now_ms"))
_newest_first = (sessions.c.created_at_ms.desc(), sessions.c.digest)

_ADD = insert_of(sessions, StoredSession)
_FIND = Statement(select(*_COLUMNS).where(_of_digest, _of_role, _lives))


def _ended(*which: ColumnElement[bool]) -> Statement:
    ended = update(sessions).where(*which, _lives)
    return Statement(ended.values(ended_ms=bindparam("now_ms")))


def _surplus(*which: ColumnElement[bool]) -> Statement:
    newest = select(sessions.c.digest).where(*which, _lives).order_by(*_newest_first)
    return Statement(newest.offset(bindparam("kept")).limit(100))


_END, _END_OF_WHO, _END_OF_ROLE, _END_OF_LINK = map(
    _ended, (_of_digest, _of_who, _of_role, _of_link)
)
_WHO = Statement(select(sessions.c.who, sessions.c.role).where(_of_digest))
_SURPLUS_OF_WHO = _surplus(_of_who, sessions.c.link_id.is_(None))
_SURPLUS_OF_LINK = _surplus(_of_link)
_COUNT = Statement(select(func.count()).select_from(sessions))
_OF_STRANGERS = Statement(
    select(sessions.c.digest)
    .where(sessions.c.role == Role.WALLET, sessions.c.who.not_in(select(wallets.c.address)))
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


async def add_session(
    tx: Transaction, session: StoredSession, *, max_kept: int, max_rows: int
) -> None:
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
    too_many = max(0, await tx.number(_COUNT) - max_rows)
    for digest in await tx.values(_OF_STRANGERS, surplus=too_many):
        await tx.execute(_DELETE, of_digest=digest)


async def find_session(
    source: Source, digest: str, *, role: Role, now_ms: int
) -> StoredSession | None:
    """Returns the session, unless it was ended or has expired."""
    return await source.record(StoredSession, _FIND, of_digest=digest, of_role=role, now_ms=now_ms)


async def end_session(tx: Transaction, digest: str, *, now_ms: int) -> None:
    """Ends a session."""
    await tx.execute(_END, of_digest=digest, now_ms=now_ms)


async def end_sessions(tx: Transaction, digest: str, *, now_ms: int) -> None:
    """Ends all sessions of the wallet, or operator, whose session this is."""
    found = await tx.one(_WHO, of_digest=digest)
    if found is not None:
        await tx.execute(_END_OF_WHO, of_who=found[0], of_role=found[1], now_ms=now_ms)


async def end_sessions_of(tx: Transaction, who: str, *, role: Role, now_ms: int) -> None:
    """Ends all sessions of a wallet, or of an operator."""
    await tx.execute(_END_OF_WHO, of_who=who, of_role=role, now_ms=now_ms)


async def end_sessions_of_role(tx: Transaction, role: Role, *, now_ms: int) -> int:
    """Ends the sessions of all operators, or of all wallets; returns how many."""
    return await tx.execute(_END_OF_ROLE, of_role=role, now_ms=now_ms)


async def end_sessions_of_link(tx: Transaction, link_id: str, *, now_ms: int) -> None:
    """Ends the sessions that a link has opened."""
    await tx.execute(_END_OF_LINK, of_link=link_id, now_ms=now_ms)


async def note_signature(tx: Transaction, digest: str, *, issued_ms: int) -> bool:
    """Notes that a text which was issued then was signed; False for one that is not newer.

    So each text counts once.
    """
    return await tx.execute(_SIGNED, of_digest=digest, issued_ms=issued_ms) == 1


async def purge_sessions(tx: Transaction, *, now_ms: int) -> None:
    """Removes what has expired."""
    await tx.execute(_PURGE, now_ms=now_ms)

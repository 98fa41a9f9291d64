"""The sessions of pages: of a wallet's people and of operators, and whose a request is by them."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import Person
from moorage.auth.tokens import digest_of
from moorage.clock import Clock
from moorage.errors import NonceReused, UniqueViolation
from moorage.loop import Loop, Scope
from moorage.records.access import Link, Role, StoredSession
from moorage.signing import host_of
from moorage.storage import page_access
from moorage.storage.database import Database, Transaction

LIFETIME_MS = 12 * 3_600_000
"""How long a session lasts."""

MAX_SESSIONS = 20
"""How many a wallet, or a link, has at most; with one more the oldest ends."""

_MAX_ROWS = 50_000


class Opened(NamedTuple):
    """A new session, and the secret for its browser alone."""

    session: StoredSession
    secret: str


class Sessions:
    """Opens, finds and ends sessions."""

    def __init__(self, *, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def sign_in(self, who: str, *, role: Role, nonce: str, issued_ms: int) -> Opened:
        """Opens a session for who signed a text. Raises NonceReused: a text counts once."""
        now_ms = self._clock.now_ms()
        opened = _new(who, role, now_ms=now_ms, may_change=True, nonce=nonce, signed_ms=issued_ms)
        try:
            async with self._db.transaction(durable=True) as tx:
                await self._add(tx, opened.session)
        except UniqueViolation as again:
            raise NonceReused from again
        return opened

    async def look_at_link(self, secret: str, *, role: Role) -> Link | None:
        """Returns the link, unless it has expired, was revoked or is used up; it stays unused."""
        now_ms = self._clock.now_ms()
        return await page_access.find_link(self._db, digest_of(secret), role=role, now_ms=now_ms)

    async def open_link(self, secret: str, *, role: Role) -> Opened | None:
        """Opens a session by a link; None if it has expired, was revoked or is used up.

        What a link opens that can be opened again ends when the link does.
        """
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            link = await page_access.use_link(tx, digest_of(secret), role=role, now_ms=now_ms)
            if link is None:
                return None
            opened = _new(link.who, role, now_ms=now_ms, may_change=link.may_change)
            session = msgspec.structs.replace(opened.session, project_id=link.project_id)
            if not link.once:
                expires_ms = min(session.expires_ms, link.expires_ms)
                session = msgspec.structs.replace(session, link_id=link.id, expires_ms=expires_ms)
            await self._add(tx, session)
        return Opened(session, opened.secret)

    async def find(self, secret: str, *, role: Role) -> StoredSession | None:
        """Returns the session of a browser's secret, while it lasts."""
        return await self._find(digest_of(secret), role) if secret else None

    async def lasts(self, digest: str, *, role: Role) -> bool:
        """Whether a session has not ended yet."""
        return await self._find(digest, role) is not None

    async def end(self, secret: str) -> None:
        """Ends the session of a browser's secret."""
        async with self._db.transaction(durable=True) as tx:
            await page_access.end_session(tx, digest_of(secret), now_ms=self._clock.now_ms())

    async def end_all(self, digest: str) -> None:
        """Ends all sessions of the wallet, or operator, whose session this is."""
        async with self._db.transaction(durable=True) as tx:
            await page_access.end_sessions(tx, digest, now_ms=self._clock.now_ms())

    async def note_signature(self, digest: str, *, issued_ms: int) -> bool:
        """Notes a text that the session's wallet signed; False if it, or a newer one, counted."""
        async with self._db.transaction(durable=True) as tx:
            return await page_access.note_signature(tx, digest, issued_ms=issued_ms)

    @property
    def loop(self) -> Loop:
        """Removes what has expired."""
        return Loop("old sessions", every_seconds=300, tick=self.purge, scope=Scope.CLUSTER)

    async def purge(self) -> None:
        """Removes sessions and links that have expired."""
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=False) as tx:
            await page_access.purge_sessions(tx, now_ms=now_ms)
            await page_access.purge_links(tx, now_ms=now_ms)

    async def _find(self, digest: str, role: Role) -> StoredSession | None:
        return await page_access.find_session(
            self._db, digest, role=role, now_ms=self._clock.now_ms()
        )

    async def _add(self, tx: Transaction, session: StoredSession) -> None:
        await page_access.add_session(tx, session, max_kept=MAX_SESSIONS, max_rows=_MAX_ROWS)


def _new(
    who: str,
    role: Role,
    *,
    now_ms: int,
    may_change: bool,
    nonce: str | None = None,
    signed_ms: int | None = None,
) -> Opened:
    secret = secrets.token_urlsafe(32)
    session = StoredSession(
        digest=digest_of(secret),
        role=role,
        who=who,
        may_change=may_change,
        nonce=nonce,
        created_at_ms=now_ms,
        expires_ms=now_ms + LIFETIME_MS,
        signed_ms=signed_ms,
    )
    return Opened(session, secret)


_SECURE_PREFIX = "__Host-"


@dataclass(frozen=True)
class Cookie:
    """One cookie's name, and whether browsers send it over https alone."""

    plain_name: str
    secure: bool  # False where pages are served without TLS, such as on loopback

    @property
    def name(self) -> str:
        """Its name in requests."""
        return f"{_SECURE_PREFIX}{self.plain_name}" if self.secure else self.plain_name

    def read(self, request: Request) -> str:
        """Returns the secret; "" without one."""
        return request.cookies.get(self.name, "")

    def set(self, response: Response, secret: str, *, seconds: int = LIFETIME_MS // 1000) -> None:
        """Gives the browser a secret for so long, in place of any other."""
        response.set_cookie(
            self.name,
            secret,
            max_age=seconds,
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="strict",
        )

    def clear(self, response: Response) -> None:
        """Has the browser forget it."""
        response.delete_cookie(
            self.name, path="/", secure=self.secure, httponly=True, samesite="strict"
        )


def csrf_of(secret: str) -> str:
    """Returns the token that the forms of a session repeat; the secret can't be had from it."""
    return hmac.new(secret.encode(), b"moorage: the forms of a session", hashlib.sha256).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Session:
    """Somebody who signed in, or opened a link."""

    id: str  # not its secret
    who: str  # a wallet: 0x and 40 hex digits in lower case; of an operator also who made the link
    project_id: str | None = None  # a link may be for one project alone
    may_change: bool = True  # False for read-only links
    csrf: str  # every form that changes something repeats it
    expires_ms: int
    signed_ms: int | None = None  # when the last text was issued that the wallet signed

    @property
    def person(self) -> Person:
        """Who asks, as the API in this process knows them."""
        return Person(self.who, project_id=self.project_id, may_change=self.may_change)


@dataclass(frozen=True, kw_only=True)
class AuthGuard:
    """Finds the sessions of one site: its cookie, and the hosts that its pages are served at."""

    role: Role
    sessions: Sessions
    cookie: Cookie
    url: str  # where its pages are served
    hosts: frozenset[str]  # as the `Origin` of its pages names them

    def url_of(self, request: Request) -> str:
        """Returns where its pages are served, with the host as the browser spells it."""
        host = request.headers.get("host", "").lower()
        scheme = self.url.partition("://")[0]
        return f"{scheme}://{host}" if host in self.hosts else self.url

    async def session(self, request: Request) -> Session | None:
        """Returns the session of a request to one of its pages."""
        secret = self.cookie.read(request)
        found = await self.sessions.find(secret, role=self.role)
        if found is None:
            return None
        return Session(
            id=found.digest,
            who=found.who,
            project_id=found.project_id,
            may_change=found.may_change,
            csrf=csrf_of(secret),
            expires_ms=found.expires_ms,
            signed_ms=found.signed_ms,
        )

    async def enter(self, request: Request, response: Response, secret: str) -> Response:
        """Has `response` give the browser a new session, and ends the one that it had."""
        await self._end(request)
        self.cookie.set(response, secret)
        return response

    async def leave(self, request: Request, response: Response) -> Response:
        """Ends the browser's session, and has `response` make it forget it."""
        await self._end(request)
        self.cookie.clear(response)
        return response

    async def _end(self, request: Request) -> None:
        secret = self.cookie.read(request)
        if secret:
            await self.sessions.end(secret)


def wallet_guard(sessions: Sessions, *, public_url: str) -> AuthGuard:
    """Returns the guard of wallets' pages, which are served where the API is."""
    secure = public_url.startswith("https:")
    hosts = frozenset({host_of(public_url)})
    cookie = Cookie("moorage", secure)
    return AuthGuard(
        role=Role.WALLET, sessions=sessions, cookie=cookie, url=public_url, hosts=hosts
    )


def operator_guard(sessions: Sessions, *, url: str) -> AuthGuard:
    """Returns the guard of operators' pages, served at `url`: the operator's port, or the public.

    A browser on this machine may spell the port's host in other ways.
    """
    secure, host = url.startswith("https:"), host_of(url)
    port = host.rpartition(":")[2]
    local = (f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))
    hosts = frozenset((host,) if secure else (host, *local))
    cookie = Cookie("moorage-operator", secure)
    return AuthGuard(role=Role.OPERATOR, sessions=sessions, cookie=cookie, url=url, hosts=hosts)

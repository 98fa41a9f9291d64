"""Who a request to a page comes from, by its cookie."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from moorage.pages.sessions.operator import OperatorSession
from moorage.pages.sessions.session import Cookie, Session, Sessions, csrf_of
from moorage.records.access import Role, StoredSession
from moorage.signing import host_of


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Finds the sessions of one site: its cookie, and the hosts that its pages are served at."""

    sessions: Sessions
    cookie: Cookie
    url: str  # where its pages are served
    hosts: frozenset[str]  # as the `Origin` of its pages names them

    def url_of(self, request: Request) -> str:
        """Returns where its pages are served, with the host as the browser spells it."""
        host = request.headers.get("host", "").lower()
        scheme = self.url.partition("://")[0]
        return f"{scheme}://{host}" if host in self.hosts else self.url

    async def stored_session(self, request: Request, role: Role) -> StoredSession | None:
        """Returns the row of a request's session."""
        return await self.sessions.find(self.cookie.read(request), role=role)

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

    async def wallet_session(self, request: Request) -> Session | None:
        """Returns the session of a request to a wallet's page."""
        found = await self.stored_session(request, Role.WALLET)
        if found is None:
            return None
        return Session(
            id=found.digest,
            wallet=found.who,
            project_id=found.project_id,
            may_change=found.may_change,
            csrf=csrf_of(self.cookie.read(request)),
            expires_ms=found.expires_ms,
            signed_ms=found.signed_ms,
        )

    async def operator_session(self, request: Request) -> OperatorSession | None:
        """Returns the session of a request to an operator's page."""
        found = await self.stored_session(request, Role.OPERATOR)
        if found is None:
            return None
        return OperatorSession(
            id=found.digest,
            name=found.who,
            csrf=csrf_of(self.cookie.read(request)),
            expires_ms=found.expires_ms,
        )


def wallet_gate(sessions: Sessions, *, public_url: str) -> Gate:
    """Returns the gate of wallets' pages, which are served where the API is."""
    secure = public_url.startswith("https:")
    hosts = frozenset({host_of(public_url)})
    return Gate(sessions=sessions, cookie=Cookie("moorage", secure), url=public_url, hosts=hosts)


def operator_gate(sessions: Sessions, *, url: str) -> Gate:
    """Returns the gate of operators' pages, served at `url`: the operator's port, or the public.

    A browser on this machine may spell the port's host in other ways.
    """
    secure, host = url.startswith("https:"), host_of(url)
    port = host.rpartition(":")[2]
    local = (f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))
    hosts = frozenset((host,) if secure else (host, *local))
    return Gate(sessions=sessions, cookie=Cookie("moorage-operator", secure), url=url, hosts=hosts)

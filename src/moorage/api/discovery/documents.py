"""The documents and their paths: made once, all but the page that people get."""

import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage import __version__
from moorage.api.discovery.guide import (
    NAME,
    QUOTE_MINUTES,
    SKILL,
    SUMMARY,
    UPLOAD_MIB,
    Facts,
    llms_text,
    skill_description,
    skill_text,
    template,
)
from moorage.api.discovery.openapi import openapi_document
from moorage.api.http.dispatch import Operation
from moorage.clock import Clock
from moorage.errors import DatabaseUnavailable
from moorage.pages.rendering.templates import SECURITY_HEADERS, render
from moorage.signing import host_of
from moorage.storage.operation.wallet_rules import NoticeKind
from moorage.uploads.request import MAX_MONTHS

_REFUSED = re.compile(r"\s*q=0(\.0{0,3})?\s*")


@dataclass(frozen=True)
class Document:
    """An ASGI app that answers GET and HEAD with the same bytes; 304 to who has them.

    With `packs`, clients that accept gzip get it; it is made once.
    """

    body: bytes
    media_type: str
    more_headers: tuple[tuple[str, str], ...] = ()
    max_age_seconds: int = 300
    packs: bool = False

    @cached_property
    def etag(self) -> str:
        """The validator of these bytes."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    @cached_property
    def packed(self) -> bytes:
        """The same bytes, in gzip."""
        return gzip.compress(self.body, mtime=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        asked = Headers(scope=scope)
        packed = self.packs and takes_gzip(asked.get("accept-encoding", ""))
        etag = f'"{self.etag[1:-1]}-gzip"' if packed else self.etag
        headers = {
            "Cache-Control": f"max-age={self.max_age_seconds}",
            "ETag": etag,
            "X-Content-Type-Options": "nosniff",
            **dict(self.more_headers),
        }
        if self.packs:
            varies = headers.get("Vary")
            headers["Vary"] = f"{varies}, Accept-Encoding" if varies else "Accept-Encoding"
        if packed:
            headers["Content-Encoding"] = "gzip"
        if etag in asked.get("if-none-match", ""):
            response = Response(status_code=304, headers=headers)
        else:
            body = self.packed if packed else self.body
            response = Response(body, headers=headers, media_type=self.media_type)
        await response(scope, receive, send)


def takes_gzip(accepted: str) -> bool:
    """Whether a value of Accept-Encoding accepts gzip (RFC 9110, 12.5.3)."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() == "gzip":
            return _REFUSED.fullmatch(weight) is None
    return False


LINKS = (
    '</.well-known/api-catalog>; rel="api-catalog", </openapi.json>; rel="service-desc", '
    '</llms.txt>; rel="service-doc"'
)
"""The value of a `Link` header (RFC 8288, RFC 9727)."""

MCP_CARD_TYPE = "application/mcp-server-card+json"
MCP_PROTOCOL_VERSIONS = ["2026-07-28", "2025-11-25"]
_SCHEMA = "https://static.modelcontextprotocol.io/schemas/v1/server-card.schema.json"


def skill_index(facts: Facts) -> dict[str, Any]:
    """Returns `/.well-known/agent-skills/index.json`."""
    digest = hashlib.sha256(skill_text(facts).encode()).hexdigest()
    return {
        "$schema": "https://schemas.agentskills.io/discovery/0.2.0/schema.json",
        "skills": [
            {
                "name": SKILL,
                "type": "skill-md",
                "description": skill_description(facts),
                "url": f"{facts.url}/skill.md",
                "digest": f"sha256:{digest}",
            }
        ],
    }


def api_catalog(facts: Facts) -> dict[str, Any]:
    """Returns `/.well-known/api-catalog` (RFC 9727)."""
    return {
        "linkset": [
            {"anchor": f"{facts.url}/.well-known/api-catalog", "item": [{"href": f"{facts.url}/"}]},
            {
                "anchor": f"{facts.url}/",
                "service-desc": [{"href": f"{facts.url}/openapi.json", "type": "application/json"}],
                "service-doc": [
                    {"href": f"{facts.url}/llms.txt", "type": "text/plain"},
                    {"href": f"{facts.url}/", "type": "text/html"},
                ],
                "status": [{"href": f"{facts.url}/health", "type": "application/json"}],
            },
        ]
    }


def ai_catalog(facts: Facts) -> dict[str, Any]:
    """Returns `/.well-known/ai-catalog.json`."""
    host = urlsplit(facts.url).hostname
    kinds = (
        ("skill", "text/markdown", "/skill.md"),
        ("mcp", MCP_CARD_TYPE, "/mcp/server-card"),
    )
    entries = [
        {
            "identifier": f"urn:air:{host}:{kind}:{SKILL}",
            "type": media_type,
            "url": f"{facts.url}{path}",
        }
        for kind, media_type, path in kinds
    ]
    return {"specVersion": "1.0", "entries": entries}


def mcp_card(facts: Facts) -> dict[str, Any]:
    """Returns the card of the MCP server at `/mcp` (SEP-2127)."""
    host = urlsplit(facts.url).hostname or "localhost"
    return {
        "$schema": _SCHEMA,
        "name": f"{'.'.join(reversed(host.split('.')))}/{SKILL}",
        "version": __version__,
        "title": NAME,
        "description": SUMMARY,
        "remotes": [
            {
                "type": "streamable-http",
                "url": f"{facts.url}/mcp",
                "supportedProtocolVersions": MCP_PROTOCOL_VERSIONS,
            }
        ],
    }


@dataclass(frozen=True, kw_only=True)
class PublicStatus:
    """What works, and what the operator tells everybody; never why something does not work."""

    checked_ms: int | None  # when the gateway last looked at itself; None: it has just started
    deploys: bool
    apps: bool
    payments: Mapping[str, bool] = field(default_factory=dict)  # by the chain's name
    maintenance: str | None = None  # new deploys are refused meanwhile
    announcement: str | None = None


class PublicStatusBoard:
    """The last look at the gateway's parts, and the notices that are in force."""

    def __init__(
        self,
        read_notices: Callable[[], Awaitable[Mapping[str, str]]],
        *,
        chains: Iterable[str],
        clock: Clock,
    ) -> None:
        self._read_notices = read_notices
        self._chains = tuple(chains)
        self.clock = clock
        self._ill: frozenset[str] = frozenset()
        self._checked_ms: int | None = None

    def note(self, parts: Mapping[str, str]) -> None:
        """Keeps what a look at the parts of /ready found: "ok", or what is wrong."""
        self._ill = frozenset(part for part, state in parts.items() if state != "ok")
        self._checked_ms = self.clock.now_ms()

    async def read(self) -> PublicStatus:
        """Returns how well the gateway is."""
        try:
            told = await self._read_notices()
        except DatabaseUnavailable:
            return PublicStatus(
                checked_ms=self._checked_ms, deploys=False, apps=self._works("runtime")
            )
        maintenance = told.get(NoticeKind.MAINTENANCE)
        return PublicStatus(
            checked_ms=self._checked_ms,
            deploys=maintenance is None and self._works("database", "disk", "runtime"),
            apps=self._works("runtime", "proxy"),
            payments={name: self._works("database", f"chain {name}") for name in self._chains},
            maintenance=maintenance,
            announcement=told.get(NoticeKind.ANNOUNCEMENT),
        )

    def _works(self, *parts: str) -> bool:
        return self._ill.isdisjoint(parts)


_KEPT_SECONDS = 10
"""The page is made again after this long, so that what it says of now is true and costs nothing."""

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_MONTHS = (1, 3, 12, MAX_MONTHS)


class PublicPage:
    """The page as an ASGI app."""

    def __init__(
        self, facts: Facts, board: PublicStatusBoard, headers: tuple[tuple[str, str], ...]
    ) -> None:
        safe = {**SECURITY_HEADERS, "Content-Security-Policy": _POLICY}
        self._facts = facts
        self._board = board
        self._headers = (*headers, *safe.items())
        self._made: tuple[int, Document] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        document = await self._document()
        await document(scope, receive, send)

    async def _document(self) -> Document:
        now_ms = self._board.clock.now_ms()
        if self._made is not None and 0 <= now_ms - self._made[0] < _KEPT_SECONDS * 1000:
            return self._made[1]
        status = await self._board.read()
        html = page_html(self._facts, status, now_ms=now_ms).encode()
        made = Document(html, "text/html; charset=utf-8", self._headers, _KEPT_SECONDS)
        self._made = (now_ms, made)
        return made


def page_html(facts: Facts, status: PublicStatus, *, now_ms: int) -> str:
    """Returns the page as it is at a time."""
    return render(
        "public.html",
        name=NAME,
        summary=SUMMARY,
        host=host_of(facts.url),
        facts=facts,
        status=status,
        prices=[(months, facts.prices.deploy(facts.size, months=months)) for months in _MONTHS],
        upload_mib=UPLOAD_MIB,
        quote_minutes=QUOTE_MINUTES,
        max_months=MAX_MONTHS,
        now_ms=now_ms,
    )


_TEXT = "text/plain; charset=utf-8"
_MARKDOWN = "text/markdown; charset=utf-8"
_JSON = "application/json"


@dataclass(frozen=True)
class Front:
    """`/`: a page for who accepts HTML, as browsers do; text for agents and everybody else."""

    page: PublicPage
    text: Document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        accepted = Headers(scope=scope).get("accept", "")
        document: ASGIApp = self.page if "text/html" in accepted else self.text
        await document(scope, receive, send)


class Documents:
    """Every document by its path; made again when what they say has changed."""

    def __init__(
        self, facts: Facts, operations: Sequence[Operation], board: PublicStatusBoard
    ) -> None:
        self._facts = facts
        self._operations = operations
        self._board = board
        self.renew()

    def renew(self) -> None:
        """Makes all of them from the facts as they are now."""
        self._made = dict(documents(self._facts, self._operations, self._board))

    def apps(self) -> Iterator[tuple[str, ASGIApp]]:
        """Yields the path of each, and an ASGI app that answers with it."""
        for path in self._made:
            yield path, partial(self._answer, path)

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        await self._made[path](scope, receive, send)


def icon() -> Document:
    """Returns the picture of the gateway's pages."""
    return Document(template("icon.svg").template.encode(), "image/svg+xml")


def documents(
    facts: Facts, operations: Sequence[Operation], board: PublicStatusBoard
) -> Iterator[tuple[str, Document | Front]]:
    """Yields each document with its path."""
    text = llms_text(facts).encode()
    beside = (("Link", LINKS), ("Vary", "Accept"))
    yield "/", Front(PublicPage(facts, board, beside), Document(text, _TEXT, beside, packs=True))
    yield "/openapi.json", _json(openapi_document(operations, facts=facts))
    yield "/llms.txt", Document(text, _TEXT, packs=True)
    yield "/skill.md", Document(skill_text(facts).encode(), _MARKDOWN, packs=True)
    yield "/favicon.svg", icon()
    yield "/robots.txt", Document(b"User-agent: *\nDisallow: /agent/\n", _TEXT)
    yield "/.well-known/agent-skills/index.json", _json(skill_index(facts))
    yield "/.well-known/api-catalog", _json(api_catalog(facts), "application/linkset+json")
    yield "/.well-known/ai-catalog.json", _json(ai_catalog(facts))
    card = _json(mcp_card(facts), MCP_CARD_TYPE)
    yield "/mcp/server-card", card
    yield "/.well-known/mcp/server-card.json", card


def _json(body: object, media_type: str = _JSON) -> Document:
    return Document(msgspec.json.encode(body), media_type, packs=True)

"""The documents as they are served: made once, cached by clients, the same bytes for everybody."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.discovery.catalogs import (
    LINKS,
    MCP_CARD_TYPE,
    ai_catalog,
    api_catalog,
    mcp_card,
    skill_index,
)
from moorage.api.discovery.facts import Facts
from moorage.api.discovery.guide import llms_text, skill_text, template
from moorage.api.discovery.openapi import openapi_document
from moorage.api.discovery.page import page_html, page_policy
from moorage.api.http.operation import Operation

_TEXT = "text/plain; charset=utf-8"
_MARKDOWN = "text/markdown; charset=utf-8"
_JSON = "application/json"


@dataclass(frozen=True)
class Document:
    """An ASGI app that answers GET and HEAD with the same bytes; 304 to who has them."""

    body: bytes
    media_type: str
    more_headers: tuple[tuple[str, str], ...] = ()

    @cached_property
    def etag(self) -> str:
        """The validator of these bytes."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        headers = {
            "Cache-Control": "max-age=300",
            "ETag": self.etag,
            "X-Content-Type-Options": "nosniff",
            **dict(self.more_headers),
        }
        if self.etag in Headers(scope=scope).get("if-none-match", ""):
            response = Response(status_code=304, headers=headers)
        else:
            response = Response(self.body, headers=headers, media_type=self.media_type)
        await response(scope, receive, send)


@dataclass(frozen=True)
class Front:
    """`/`: a page for who accepts HTML, as browsers do; text for agents and everybody else."""

    page: Document
    text: Document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        accepted = Headers(scope=scope).get("accept", "")
        document = self.page if "text/html" in accepted else self.text
        await document(scope, receive, send)


class Documents:
    """Every document by its path; made anew when what they tell has changed."""

    def __init__(self, facts: Facts, operations: Sequence[Operation]) -> None:
        self._facts = facts
        self._operations = operations
        self.renew()

    def renew(self) -> None:
        """Makes all of them from the facts as they are now."""
        self._made = dict(documents(self._facts, self._operations))

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
    facts: Facts, operations: Sequence[Operation]
) -> Iterator[tuple[str, Document | Front]]:
    """Yields each document with its path."""
    text = llms_text(facts).encode()
    beside = (("Link", LINKS), ("Vary", "Accept"))
    policy = ("Content-Security-Policy", page_policy())
    page = Document(page_html(facts).encode(), "text/html; charset=utf-8", (*beside, policy))
    yield "/", Front(page, Document(text, _TEXT, beside))
    yield "/openapi.json", _json(openapi_document(operations, facts=facts))
    yield "/llms.txt", Document(text, _TEXT)
    yield "/skill.md", Document(skill_text(facts).encode(), _MARKDOWN)
    yield "/favicon.svg", icon()
    yield "/robots.txt", Document(b"User-agent: *\nDisallow: /agent/\n", _TEXT)
    yield "/.well-known/agent-skills/index.json", _json(skill_index(facts))
    yield "/.well-known/api-catalog", _json(api_catalog(facts), "application/linkset+json")
    yield "/.well-known/ai-catalog.json", _json(ai_catalog(facts))
    card = _json(mcp_card(facts), MCP_CARD_TYPE)
    yield "/mcp/server-card", card
    yield "/.well-known/mcp/server-card.json", card


def _json(body: object, media_type: str = _JSON) -> Document:
    return Document(msgspec.json.encode(body), media_type)

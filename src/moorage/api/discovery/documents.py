"""The documents and their paths: made once, all but the page that people get."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.discovery.catalogs import (
    LINKS,
    MCP_CARD_TYPE,
    ai_catalog,
    api_catalog,
    mcp_card,
    skill_index,
)
from moorage.api.discovery.document import Document
from moorage.api.discovery.facts import Facts
from moorage.api.discovery.guide import llms_text, skill_text, template
from moorage.api.discovery.openapi import openapi_document
from moorage.api.discovery.page import PublicPage
from moorage.api.discovery.standing import StandingBoard
from moorage.api.http.operation import Operation

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
    """Every document by its path; made anew when what they tell has changed."""

    def __init__(self, facts: Facts, operations: Sequence[Operation], board: StandingBoard) -> None:
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
    facts: Facts, operations: Sequence[Operation], board: StandingBoard
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

"""The page that people get at `/`: offer, prices, whether all works; without a script."""

from starlette.types import Receive, Scope, Send

from moorage.api.discovery.document import Document
from moorage.api.discovery.facts import NAME, QUOTE_MINUTES, SUMMARY, UPLOAD_MIB, Facts
from moorage.api.discovery.standing import Standing, StandingBoard
from moorage.pages.rendering.policy import SECURITY_HEADERS
from moorage.pages.rendering.templates import render
from moorage.signing.signed_request import host_of
from moorage.uploads.request import MAX_MONTHS

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
        self, facts: Facts, board: StandingBoard, headers: tuple[tuple[str, str], ...]
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
        standing = await self._board.read()
        html = page_html(self._facts, standing, now_ms=now_ms).encode()
        made = Document(html, "text/html; charset=utf-8", self._headers, _KEPT_SECONDS)
        self._made = (now_ms, made)
        return made


def page_html(facts: Facts, standing: Standing, *, now_ms: int) -> str:
    """Returns the page as it is at a time."""
    return render(
        "public.html",
        name=NAME,
        summary=SUMMARY,
        host=host_of(facts.url),
        facts=facts,
        standing=standing,
        prices=[(months, facts.prices.deploy(facts.size, months=months)) for months in _MONTHS],
        upload_mib=UPLOAD_MIB,
        quote_minutes=QUOTE_MINUTES,
        max_months=MAX_MONTHS,
        now_ms=now_ms,
    )

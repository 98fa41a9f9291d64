"""What a handler of an operator's page is given."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from moorage import __version__
from moorage.address import parse_address
from moorage.errors import InvalidField
from moorage.operate.books import OpenBooks
from moorage.pages.operator.health import OperatorContext
from moorage.pages.rendering.templates import page
from moorage.pages.sessions.form import Form
from moorage.pages.sessions.session import Session

PER_PAGE = 50
_MAX_PAGE = 10_000
_MAX_DIGITS = 9
_MAX_REASON = 500

DONE = {
    "released": "The payment is credited to who paid. Their apps continue.",
    "refund-declined": "The refund is declined: its customer has the credits back.",
    "refund-sent": "The refund is on its way. Its state is below; never send it by hand as well.",
    "suspended": "It is suspended: its apps stop within seconds, and it burns nothing.",
    "resumed": "It is not suspended any more. From now on its credits decide.",
    "evicted": "Its owner is told, and it is deleted when the time is over.",
    "kept": "It is not to be deleted any more.",
    "given": "The credits are given, and their wallet is told.",
    "given-before": "These credits were given already, and are not given again.",
    "taken-back": "The credits are taken back.",
    "allowed": "The wallet's rules are changed.",
    "announced": "It is announced: wallets that have projects are told.",
    "ended": "It is ended.",
    "maintenance": "New deploys are refused from now on, with your words.",
    "prices-ordered": "The price is ordered, and the owners are told.",
    "prices-kept": "It is taken back: projects keep the price that they have.",
    "audit": "The audit has begun.",
    "audit-runs": "An audit is under way already.",
}
"""What a page says after an act, by the word that its address has."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A request for one page, by an operator with a session."""

    request: Request
    session: Session
    context: OperatorContext
    form: Form = field(default_factory=dict)  # of a page of ours; empty for a GET

    @cached_property
    def books(self) -> OpenBooks:
        """The books, for acts of this operator."""
        return replace(self.context.books, operator=self.session.who)

    @property
    def query(self) -> dict[str, str]:
        """The query's fields."""
        return dict(self.request.query_params)

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """Returns a page; every template knows the session, the time and what was just done."""
        return page(
            f"operator/{template}",
            status=status,
            session=self.session,
            now_ms=self.context.clock.now_ms(),
            path=self.request.url.path,
            query=self.query,
            version=__version__,
            done=DONE.get(self.query.get("done", "")),
            context=self.context,
            **context,
        )

    def done(self, path: str, what: str) -> Response:
        """Returns to a page that says what was done."""
        return RedirectResponse(f"{path}?{urlencode({'done': what})}", 303)

    @property
    def page_number(self) -> int:
        """Which part of a long list is asked for, from 1."""
        text = self.query.get("page", "1")
        is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
        return min(max(int(text), 1), _MAX_PAGE) if is_number else 1

    @property
    def offset(self) -> int:
        """How many rows come before that part."""
        return (self.page_number - 1) * PER_PAGE

    def neighbours(self, *, has_more: bool) -> dict[str, str | None]:
        """Returns the addresses of the parts of a list before and after this one."""
        number = self.page_number
        return {
            "previous": self._part(number - 1) if number > 1 else None,
            "next": self._part(number + 1) if has_more else None,
        }

    def _part(self, number: int) -> str:
        asked = {name: value for name, value in self.query.items() if name not in ("page", "done")}
        return f"{self.request.url.path}?{urlencode({**asked, 'page': number})}"

    def reason(self, name: str = "reason") -> str:
        """Returns why the operator does it. Raises InvalidField without a reason."""
        text = self.form.get(name, "").strip()
        if not text:
            raise InvalidField(name, "say why: it is kept for the record")
        if len(text) > _MAX_REASON:
            raise InvalidField(name, f"must have at most {_MAX_REASON} characters")
        return text

    def require_confirmed(self) -> None:
        """Raises InvalidField unless the box was ticked that says what an act means."""
        if self.form.get("confirmed") != "true":
            raise InvalidField("confirmed", "tick the box to say that you mean it")

    def wallet(self) -> str:
        """Returns the wallet in the page's address. Raises InvalidField."""
        return wallet_address(self.request.path_params["wallet"])


def wallet_address(text: str) -> str:
    """Returns a wallet's address in lower case. Raises InvalidField."""
    with InvalidField.of("wallet", "must be 0x and 40 hex digits"):
        return parse_address(text.strip())

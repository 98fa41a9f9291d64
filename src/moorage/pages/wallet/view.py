"""What a page's handler is given."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from moorage.api.discovery.facts import Facts
from moorage.clock import Clock
from moorage.pages.rendering.templates import page
from moorage.pages.sessions.form import Form
from moorage.pages.sessions.session import Session
from moorage.pages.wallet.api import Api


@dataclass(frozen=True, kw_only=True)
class View:
    """A request for one page, by somebody with a session."""

    request: Request
    session: Session
    form: Form  # the fields that were sent; none with GET
    api: Api
    facts: Facts
    clock: Clock

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """Returns a page; every template knows the session, the gateway and the time."""
        return page(
            template,
            status=status,
            session=self.session,
            facts=self.facts,
            now_ms=self.clock.now_ms(),
            path=self.request.url.path,
            **context,
        )

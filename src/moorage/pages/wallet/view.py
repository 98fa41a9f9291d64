"""What a page's handler is given."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from msgspec import UnsetType
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from moorage.api.discovery.guide import Facts
from moorage.clock import Clock
from moorage.pages.rendering.templates import page
from moorage.pages.sessions.confirmation import Confirmations
from moorage.pages.sessions.form import Form
from moorage.pages.sessions.session import Session
from moorage.pages.sessions.typed import is_part
from moorage.pages.wallet.api import Api
from moorage.pages.wallet.runway import Runway, runway_of
from moorage.pages.wallet.told import TOLD
from moorage.wire.credits import Credits
from moorage.wire.projects import ProjectList

_NAVIGATION = (
    ("Overview", "/wallet"),
    ("Top up", "/wallet/top-up"),
    ("Credits", "/wallet/credits"),
    ("Payments", "/wallet/payments"),
    ("Events", "/wallet/events"),
    ("Links", "/wallet/links"),
)


@dataclass(frozen=True, kw_only=True)
class View:
    """A request for one page, by somebody with a session."""

    request: Request
    session: Session
    form: Form  # the fields that were sent; none with GET
    api: Api
    facts: Facts
    clock: Clock
    confirmations: Confirmations

    async def confirmed(self, statement: str, *, sentence: str) -> Api:
        """Returns the API as it is for what cannot be undone, once the wallet signed `statement`.

        The form may lack the signature: then whoever sent it is shown the statement to sign, or
        `sentence`, which asks their agent for the same. Raises Unconfirmed.
        """
        await self.confirmations.require(
            self.request, self.session, self.form, statement, sentence=sentence
        )
        return self.api.confirmed()

    @property
    def query(self) -> QueryParams:
        """What stands behind the question mark of the page's address."""
        return self.request.query_params

    @property
    def project_id(self) -> str:
        """The project that the page's address names."""
        return str(self.request.path_params["project_id"])

    @property
    def is_part(self) -> bool:
        """Whether a part of a page that is shown already asks for its newest state."""
        return is_part(self.request)

    @property
    def sees_wallet(self) -> bool:
        """Whether they may look at all of the wallet, not at one project alone."""
        return self.session.project_id is None

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """Returns a page; every template knows the session, the gateway and the time."""
        return page(
            template,
            status=status,
            session=self.session,
            facts=self.facts,
            now_ms=self.clock.now_ms(),
            path=self.request.url.path,
            navigation=self._navigation,
            told=TOLD.get(self.query.get("told", "")),
            **context,
        )

    def redirect(self, path: str, told: str = "") -> Response:
        """Has the browser go on to another page, which says one of `TOLD`."""
        return RedirectResponse(f"{path}?told={told}" if told else path, 303)

    async def project_names(self, ids: Iterable[str | UnsetType | None]) -> dict[str, str]:
        """Returns the names of the projects that a page names, by their ids; of 100 at most."""
        named = ",".join(sorted({each for each in ids if isinstance(each, str)}))
        if not named:
            return {}
        found = await self.api.get(ProjectList, "projects", ids=named)
        return {each.id: each.name for each in found.projects}

    def runway(self, account: Credits) -> Runway:
        """Returns until when the wallet's apps run."""
        retention_days = self.facts.retention_days
        return runway_of(account, now_ms=self.clock.now_ms(), retention_days=retention_days)

    @property
    def _navigation(self) -> tuple[tuple[str, str], ...]:
        if self.sees_wallet:
            return _NAVIGATION
        return (("Project", f"/wallet/projects/{self.session.project_id}"),)

"""What a page's handler is given."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from msgspec import UnsetType
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from moorage.api.discovery.guide import Facts
from moorage.clock import Clock
from moorage.money import MICRO_USD_PER_USD, MicroUsd
from moorage.pages.rendering.formatting import ms
from moorage.pages.rendering.templates import page
from moorage.pages.sessions.form import Form
from moorage.pages.sessions.session import Session
from moorage.pages.sessions.sign_in import Confirmations, is_part
from moorage.pages.wallet.api import Api
from moorage.wire import calls
from moorage.wire.credits import Credits
from moorage.wire.projects import ProjectShown

FLASH_MESSAGES = {
    "paused": "Paused: the app stops within seconds, and costs nothing.",
    "resumed": "Resumed: the app starts within seconds, if the credits pay for it.",
    "restarting": "The app is started again. The present one serves until the new one is healthy.",
    "rolling-back": "An earlier version comes back. The present one serves until it is healthy.",
    "cancelled": "The deployment was cancelled. Whatever served before it serves on.",
    "deleted": "The project is gone, with its address and its files. It costs nothing any more.",
    "saved": "Saved.",
    "saved-restarting": "Saved. The app is started again to take it in.",
    "saved-next-deploy": "Saved. It takes effect with the next deploy.",
    "nothing-changed": "Nothing was changed: all of this was so before.",
    "domain-added": "The domain is noted. Set the records below; we check them automatically.",
    "domain-checked": "The domain was looked at just now.",
    "domain-removed": "The domain leads to this project no more.",
    "credited": "The payment is part of your credits.",
    "webhook-removed": "Nothing is sent to that address any more, not even what waited.",
    "redelivered": "The event is sent once more, after those that wait.",
    "link-removed": "The link opens nothing any more, and who had opened it is signed out.",
    "refund-asked": "The refund is asked for: its state is below.",
    "delegate-ended": "That wallet acts for this one no more, by what was ended.",
    "delegates-ended": "No other wallet acts for this one, whatever was signed before now.",
    "tokens-revoked": "No manage token of this project is valid any more.",
}
"""By key, so that no address can make a page say anything else."""


HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def ms_or_none(iso: str | None) -> int | None:
    """Returns Unix milliseconds, of no time none."""
    return None if iso is None else ms(iso)


_SOON_MS = 3 * DAY_MS


class RunwayState(StrEnum):
    """How it stands with a wallet's apps."""

    RUNS = "runs"  # and lasts
    SOON = "soon"  # credits end within three days
    NOTHING_RUNS = "nothing_runs"  # so nothing burns


@dataclass(frozen=True)
class Runway:
    """Times in Unix milliseconds."""

    state: RunwayState
    balance: MicroUsd
    an_hour: MicroUsd
    ends_ms: int | None  # None: nothing burns, or it lasts beyond the calendar
    left_seconds: float | None
    deleted_ms: int | None  # when what is suspended then is deleted


_NAVIGATION = (
    ("Overview", "/wallet"),
    ("Top up", "/wallet/top-up"),
    ("Credits", "/wallet/credits"),
    ("Payments", "/wallet/payments"),
    ("Money back", "/wallet/refunds"),
    ("Events", "/wallet/events"),
    ("Links", "/wallet/links"),
    ("Delegates", "/wallet/delegates"),
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

        The form may lack the signature: then its sender sees the statement to sign, or
        `sentence`, which asks their agent for the same. Raises Unconfirmed.
        """
        await self.confirmations.require(
            self.request, self.session, self.form, statement, sentence=sentence
        )
        return self.api.confirmed(nonce=self.form.get("nonce", ""))

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
            told=FLASH_MESSAGES.get(self.query.get("told", "")),
            **context,
        )

    def redirect(self, path: str, told: str = "") -> Response:
        """Has the browser load another page, which says one of `FLASH_MESSAGES`."""
        return RedirectResponse(f"{path}?told={told}" if told else path, 303)

    async def project_names(self, ids: Iterable[str | UnsetType | None]) -> dict[str, str]:
        """Returns the names of the projects that a page names, by their ids; of 100 at most."""
        named = ",".join(sorted({each for each in ids if isinstance(each, str)}))
        if not named:
            return {}
        found = await self.api.call(calls.PROJECTS, ids=named)
        return {each.id: each.name for each in found.projects}

    def runway(self, account: Credits) -> Runway:
        """Returns until when the wallet's apps run."""
        retention_days = self.facts.retention_days
        balance = MicroUsd(account.balance_micro_usd)
        an_hour = MicroUsd(account.burn_per_hour_micro_usd)
        if account.runs_out_at is None:
            state = RunwayState.RUNS if an_hour else RunwayState.NOTHING_RUNS
            return Runway(state, balance, an_hour, None, None, None)
        ends_ms = ms(account.runs_out_at)
        left_ms = max(0, ends_ms - self.clock.now_ms())
        return Runway(
            RunwayState.SOON if left_ms < _SOON_MS else RunwayState.RUNS,
            balance,
            an_hour,
            ends_ms,
            left_ms / 1000,
            ends_ms + retention_days * DAY_MS,
        )

    @property
    def _navigation(self) -> tuple[tuple[str, str], ...]:
        if self.sees_wallet:
            return _NAVIGATION
        return (("Project", f"/wallet/projects/{self.session.project_id}"),)


_DEPLOYMENTS_SHOWN = 5


async def project_of(view: View) -> ProjectShown:
    """Returns the project that the page's address names. Raises ApiRefused."""
    return await view.api.call(calls.PROJECT, view.project_id)


def hour_asleep(project: ProjectShown) -> MicroUsd:
    """Returns what an hour of it asleep costs."""
    return MicroUsd(round(project.asleep_per_hour_usd * MICRO_USD_PER_USD))


async def show_project(view: View) -> Response:
    """`GET /wallet/projects/{project_id}`."""
    project = await project_of(view)
    newest = await view.api.call(calls.DEPLOYMENTS, project.id, limit=_DEPLOYMENTS_SHOWN)
    progress = None
    if newest.deployments:
        latest = newest.deployments[0].id
        progress = await view.api.call(calls.STATUS, project.id, latest)
    latest_runs = await view.api.call(calls.RUNS, project.id, limit=_DEPLOYMENTS_SHOWN)
    return view.page(
        "wallet/project/shown.html",
        runs=latest_runs.runs,
        project=project,
        deployments=newest.deployments,
        progress=progress,
        burns=project.burn_per_hour_usd > 0,
        an_hour=MicroUsd(round(project.price_per_hour_usd * MICRO_USD_PER_USD)),
        an_hour_asleep=hour_asleep(project),
    )

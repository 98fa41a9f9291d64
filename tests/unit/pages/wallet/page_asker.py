"""Asks for a wallet's pages of an API that answers what a test says."""

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from moorage.api.http.caller import PERSON, Person
from moorage.clock import iso_utc
from moorage.pages.sessions.form import Form
from moorage.pages.sessions.session import Session
from moorage.pages.sessions.sign_in import Confirmations, Unconfirmed
from moorage.pages.wallet.api import Api
from moorage.pages.wallet.site import PAGES
from moorage.pages.wallet.view import View
from moorage.planning.plan import Plan, Stack
from moorage.records.deployment import DeploymentStatus, Origin
from moorage.records.project import Kind, ProjectStatus
from moorage.wire.credits import BuildAllowance, BurningProject, Credits
from moorage.wire.deployments import (
    DeploymentItem,
    DeploymentList,
    DeploymentProgress,
    DeploymentShown,
)
from moorage.wire.events import EventPage
from moorage.wire.projects import ProjectItem, ProjectList, ProjectShown
from moorage.wire.runs import RunList
from support.gateway.clock import START_MS, MovableClock
from support.gateway.discovery_facts import FACTS

WALLET = "0x" + "a1" * 20
PROJECT = "5f0c4bb4-9f9c-4d9f-8f4e-0d5a6a1b2c3d"
DEPLOYMENT = "0e1f2a3b-9f9c-4d9f-8f4e-0d5a6a1b2c3d"
HOSTILE = '"><script>alert(1)</script>\u202e{{7*7}}\x1b[31m'
NOW = iso_utc(START_MS)

PERSON_OF_WALLET = Session(
    id="s",
    who=WALLET,
    csrf="token-of-the-session",
    expires_ms=START_MS + 1,
)
READER = Session(
    id="r",
    who=WALLET,
    may_change=False,
    csrf="token-of-the-session",
    expires_ms=START_MS + 1,
)


class SignedIfItSaysSo:
    """Takes any signature for the wallet's."""

    async def require(
        self, _request: Request, _session: Session, form: Form, statement: str, *, sentence: str
    ) -> None:
        if not form.get("signature"):
            raise Unconfirmed(statement, sentence=sentence, error="")


SIGNED_IF_IT_SAYS_SO = SignedIfItSaysSo()


class FakeApi:
    """Answers by method and path; remembers what it was asked, and by whom.

    An answer may be one for each time, or what makes one of the query.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.people: list[Person] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode()
        path = scope["path"].removeprefix("/agent")
        self.asked.append(f"{scope['method']} {path}" + (f"?{query}" if query else ""))
        self.people.append(scope[PERSON])
        self.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        content = (await receive()).get("body", b"")
        self.bodies.append(msgspec.json.decode(content) if content else None)
        found = self.answers.get(f"{scope['method']} {path}")
        if isinstance(found, list):  # one after another
            found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            found = found(query)
        status, body = found if isinstance(found, tuple) else (200, found)
        if found is None:
            status, body = (
                404,
                {"error": "There is no such thing.", "code": "not_found", "retryable": False},
            )
        answer = Response(msgspec.json.encode(body), status, media_type="application/json")
        await answer(scope, receive, send)


class Asker:
    """A browser with a session."""

    def __init__(self, answers: Mapping[str, Any], session: Session = PERSON_OF_WALLET) -> None:
        self.api = FakeApi(answers)
        self.session = session
        self.clock = MovableClock()

    async def get(self, path: str, **query: str) -> Response:
        return await self._ask("GET", path, query, {})

    async def post(self, path: str, **form: str) -> Response:
        return await self._ask("POST", path, {}, form)

    async def text(self, path: str, **query: str) -> str:
        """A page's HTML."""
        return bytes((await self.get(path, **query)).body).decode()

    async def _ask(
        self, method: str, path: str, query: dict[str, str], form: dict[str, str]
    ) -> Response:
        for each, template, handler in PAGES:
            matched = compile_path(template)[0].match(path)
            if each == method and matched:
                scope: Scope = {
                    "type": "http",
                    "method": method,
                    "path": path,
                    "raw_path": path.encode(),
                    "query_string": urlencode(query).encode(),
                    "headers": [(b"host", b"moor.example.com")],
                    "scheme": "https",
                    "server": ("moor.example.com", 443),
                    "client": ("192.0.2.1", 1),
                    "path_params": matched.groupdict(),
                }
                view = View(
                    request=Request(scope),
                    session=self.session,
                    form=form,
                    api=Api(self.api, scope=scope, person=self.session.person),
                    facts=FACTS,
                    clock=self.clock,
                    confirmations=cast("Confirmations", SIGNED_IF_IT_SAYS_SO),
                )
                return await handler(view)
        raise AssertionError(f"no page answers {method} {path}")


def account(**changed: Any) -> Credits:
    """Credits of $10 that burn 24 cents a day, for another 30 days."""
    usual: dict[str, Any] = {
        "wallet": WALLET,
        "balance_usd": 10.0,
        "balance_micro_usd": 10_000_000,
        "burn_per_hour_usd": 0.01,
        "burn_per_hour_micro_usd": 10_000,
        "runs_out_at": iso_utc(START_MS + 30 * 86_400_000),
        "burning": [
            BurningProject(
                project_id=PROJECT, burn_per_hour_usd=0.01, burn_per_hour_micro_usd=10_000
            )
        ],
        "build_allowance": BuildAllowance(
            allowed_seconds=36_000, used_seconds=60, left_seconds=35_940, beyond_per_minute_usd=0.01
        ),
        "ledger": [],
        "next": None,
    }
    return Credits(**usual | changed)


def item(**changed: Any) -> ProjectItem:
    usual: dict[str, Any] = {
        "id": PROJECT,
        "name": "my-app",
        "display_name": "My app",
        "description": "",
        "status": ProjectStatus.ACTIVE,
        "url": "https://my-app.example.com",
        "created_at": NOW,
        "kind": Kind.WEB,
    }
    return ProjectItem(**usual | changed)


def project_list(*items: ProjectItem) -> ProjectList:
    return ProjectList(wallet=WALLET, count=len(items), projects=list(items))


def shown(**changed: Any) -> ProjectShown:
    usual: dict[str, Any] = {
        "id": PROJECT,
        "name": "my-app",
        "display_name": "My app",
        "description": "",
        "status": ProjectStatus.ACTIVE,
        "url": "https://my-app.example.com",
        "domains": [],
        "created_at": NOW,
        "kind": Kind.WEB,
        "serving_deployment_id": DEPLOYMENT,
        "deployment_in_progress": None,
        "run_env_names": [],
        "build_var_names": [],
        "health_path": "/",
        "size": "standard",
        "volume": False,
        "asleep": False,
        "burn_per_hour_usd": 0.000685,
        "price_per_hour_usd": 0.000685,
        "asleep_per_hour_usd": 0.000274,
        "sleep_after_seconds": 600,
    }
    return ProjectShown(**usual | changed)


def deployment(**changed: Any) -> DeploymentItem:
    return DeploymentItem(**_deployment() | changed)


def deployment_shown(**changed: Any) -> DeploymentShown:
    plan = Plan(
        stack=Stack.NODE,
        directory="",
        install="npm ci",
        build=None,
        start="node server.js",
        port=3000,
        build_env={},
        run_env={},
        because=("There is a package.json.",),
    )
    usual = {"plan": plan, "build_started_at": None, "build_seconds": None, "superseded_at": None}
    return DeploymentShown(**_deployment() | usual | changed)


def _deployment() -> dict[str, Any]:
    return {
        "id": DEPLOYMENT,
        "status": DeploymentStatus.READY,
        "origin": Origin.UPLOAD,
        "created_at": NOW,
        "ended_at": iso_utc(START_MS + 4_000),
        "is_serving": True,
        "can_roll_back": False,
    }


def deployments(*items: DeploymentItem) -> DeploymentList:
    return DeploymentList(project_id=PROJECT, deployments=list(items), next=None)


def of_project(**answers: Any) -> dict[str, Any]:
    """What the API answers of a project that serves; `shown`, `listed` and `progress` replace."""
    ready = DeploymentProgress(
        status="ready", deployment_id=DEPLOYMENT, endpoint="https://my-app.example.com"
    )
    base = f"GET /projects/{PROJECT}"
    return {
        base: answers.get("shown", shown()),
        f"{base}/deployments": answers.get("listed", deployments(deployment())),
        f"{base}/deployments/{DEPLOYMENT}": answers.get("deployment", deployment_shown()),
        f"{base}/runs": answers.get("runs", RunList(project_id=PROJECT, runs=[], next=None)),
        f"GET /deploy/{PROJECT}/{DEPLOYMENT}/status": answers.get("progress", ready),
    }


def of_wallet(**answers: Any) -> dict[str, Any]:
    """What the API answers of a wallet with one project."""
    return {
        "GET /credits": answers.get("account", account()),
        "GET /projects": answers.get("projects", project_list(item())),
        "GET /events": answers.get("events", EventPage(events=[], last_sequence=0)),
    }

"""The table of operations: every method and path that the API answers, in OpenAPI's order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api import access, deploy, deployments, exports, projects, public, webhooks
from moorage.api.connections.server import Arrivals
from moorage.api.deployments import status
from moorage.api.discovery.documents import Documents
from moorage.api.discovery.guide import Facts
from moorage.api.http.caller import Front, answered, carries_proof, signed_body
from moorage.api.http.dispatch import CrossOrigin, Dispatch, Operation, SlashRefused
from moorage.api.http.payment import accounted, shows_payment
from moorage.api.http.problems import INTERNAL, error_response, problem_response
from moorage.api.http.request import ApiRequest, refuse_unknown
from moorage.api.http.request_context import INTENDED, PAID
from moorage.api.logs import show_logs, show_project_logs
from moorage.api.money import list_payments, pay_for_credits, show_credits, top_up
from moorage.api.projects import show_usage
from moorage.errors import Maintenance, MoorageError, PaymentPending
from moorage.payments.taking.outcomes import Outcomes
from moorage.payments.taking.payment_required import (
    Challenges,
    PaymentRequired,
    error_headers,
    preferred,
)
from moorage.wire import calls
from moorage.wire.calls import Call
from moorage.wire.credits import PaymentList, ToppedUp, TopUpBody
from moorage.wire.deploy import DeployBody, Deployed, FilesUpload, Quoted, ZipUpload
from moorage.wire.deployments import (
    DeploymentShown,
    RollbackBody,
)
from moorage.wire.events import (
    Redelivery,
    WebhookBody,
)
from moorage.wire.logs import ProjectLogBody
from moorage.wire.projects import (
    ChangeBody,
    DomainBody,
    ExportBody,
    ExportItem,
    ManageTokenMade,
    ManageTokensRevoked,
)
from moorage.wire.public import (
    Health,
    LinkBody,
)

_OF_LOGS = {
    "kind": "build or runtime; runtime by default",
    "tail": "the last so many lines, up to 10000; 500 without this, after and since",
    "since": "not before this time: ISO 8601 with an offset, or Unix milliseconds",
    "after": "`next` of the page before this one",
    "follow": "true: server-sent events, `line` for each as it comes, then `end`; Last-Event-ID "
    "continues behind one",
}

_PAGE = {
    "limit": "how many, 20 unless given, at most 100",
    "before": "`next` of the page before this one",
}


def _served(call: Call[Any], **served: Any) -> Operation:
    """Describes an operation that clients call: how it is served is said here."""
    return Operation(
        method=call.method, path=call.path, answer=call.answer, signed=call.signed, **served
    )


OPERATIONS = (
    _served(
        calls.DEPLOY,
        handler=deploy.deploy,
        body=DeployBody,
        or_answer=Quoted,
        fails=(400, 402, 408, 409, 413, 502, 503),
        paid=True,
        priced=True,
    ),
    Operation(
        method="POST",
        path="/deploy",
        handler=deploy.pay_to_deploy,
        body=DeployBody,
        answer=Deployed,
        or_answer=Quoted,
        fails=(400, 401, 402, 403, 408, 409, 413, 429, 502, 503),
        paid=True,
        priced=True,
    ),
    Operation(
        method="POST",
        path="/credits",
        handler=pay_for_credits,
        body=TopUpBody,
        answer=ToppedUp,
        fails=(400, 401, 402, 403, 408, 409, 413, 429, 502, 503),
        paid=True,
        body_optional=True,
    ),
    _served(calls.CREDITS, handler=show_credits, fails=(400, 503), query=_PAGE),
    _served(
        calls.TOP_UP,
        handler=top_up,
        body=TopUpBody,
        fails=(400, 402, 408, 409, 413, 502, 503),
        paid=True,
        body_optional=True,
    ),
    Operation(
        method="GET",
        path="/agent/payments",
        handler=list_payments,
        answer=PaymentList,
        fails=(400, 503),
        signed=True,
        query=_PAGE,
    ),
    _served(
        calls.QUOTE,
        handler=deploy.quote,
        body=DeployBody,
        fails=(400, 408, 413, 503),
        priced=True,
    ),
    _served(
        calls.STORE_UPLOAD,
        handler=deploy.store_upload,
        body=FilesUpload,
        or_body=ZipUpload,
        fails=(400, 408, 413, 503),
    ),
    _served(
        calls.STATUS,
        handler=status,
        fails=(403, 404, 503),
    ),
    _served(calls.LOGS, handler=show_logs, fails=(400, 403, 404, 503), query=_OF_LOGS),
    _served(
        calls.CANCEL,
        handler=deployments.cancel,
        fails=(403, 404, 409, 503),
    ),
    _served(
        calls.DEPLOYMENTS,
        handler=deployments.list_deployments,
        fails=(400, 403, 404, 503),
        query=_PAGE,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/deployments/{deploymentId}",
        handler=deployments.show_deployment,
        answer=DeploymentShown,
        fails=(403, 404, 503),
        signed=True,
    ),
    _served(
        calls.ROLLBACK,
        handler=deployments.roll_back,
        body=RollbackBody,
        fails=(400, 402, 403, 404, 408, 409, 413, 503),
    ),
    _served(
        calls.EXPORT,
        handler=exports.make_export,
        body=ExportBody,
        fails=(400, 403, 404, 408, 413, 503),
        body_optional=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/exports/{exportId}",
        handler=exports.fetch_export,
        answer=ExportItem,
        gives="application/x-tar",
        fails=(403, 404, 409, 503),
        signed=True,
    ),
    _served(
        calls.PROJECTS,
        handler=projects.list_projects,
        fails=(400, 503),
        query={
            "limit": "the newest so many, at most 100; all unless given",
            "before": "`next` of the page before this one",
            "search": "a part of the name or title",
            "status": "in this state alone",
            "ids": "these alone: up to 100, with commas",
        },
    ),
    _served(
        calls.PROJECT,
        handler=projects.show_project,
        fails=(403, 404, 503),
    ),
    _served(
        calls.CHANGE,
        handler=projects.change_project,
        body=ChangeBody,
        fails=(400, 402, 403, 404, 408, 409, 413, 503),
    ),
    _served(
        calls.DELETE,
        handler=projects.delete_project,
        fails=(403, 404, 503),
    ),
    _served(
        calls.ADOPT,
        handler=projects.adopt_project,
        fails=(403, 404, 503),
    ),
    Operation(
        method="POST",
        path="/agent/projects/{projectId}/tokens",
        handler=access.make_manage_token,
        answer=ManageTokenMade,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="DELETE",
        path="/agent/projects/{projectId}/tokens",
        handler=access.revoke_manage_tokens,
        answer=ManageTokensRevoked,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/logs",
        handler=show_project_logs,
        answer=ProjectLogBody,
        fails=(400, 403, 404, 503),
        signed=True,
        query=_OF_LOGS,
    ),
    _served(
        calls.USAGE,
        handler=show_usage,
        fails=(400, 403, 404, 503),
        query={
            "from": "not before this time, a day before `to` unless given",
            "to": "before this time, now unless given; ISO 8601 with an offset, or Unix ms",
            "by": "hour, or 5m for `spans`",
        },
    ),
    _served(
        calls.ADD_DOMAIN,
        handler=projects.add_domain,
        body=DomainBody,
        fails=(400, 403, 404, 408, 413, 503),
    ),
    _served(
        calls.DOMAINS,
        handler=projects.list_domains,
        fails=(403, 404, 503),
    ),
    _served(
        calls.VERIFY_DOMAIN,
        handler=projects.verify_domain,
        fails=(400, 403, 404, 503),
    ),
    _served(
        calls.REMOVE_DOMAIN,
        handler=projects.remove_domain,
        fails=(400, 403, 404, 503),
    ),
    _served(
        calls.SET_WEBHOOK,
        handler=webhooks.set_webhook,
        body=WebhookBody,
        fails=(400, 408, 413, 503),
    ),
    _served(
        calls.WEBHOOK,
        handler=webhooks.show_webhook,
        fails=(404, 503),
    ),
    _served(
        calls.REMOVE_WEBHOOK,
        handler=webhooks.remove_webhook,
        fails=(404, 503),
    ),
    _served(
        calls.EVENTS,
        handler=webhooks.list_events,
        fails=(400, 503),
        query={
            "after": "the sequence to continue from; 0 by default",
            "limit": "how many at most, up to 200; 50 by default",
            "before": "the sequence before which they end, instead of `after`",
        },
    ),
    Operation(
        method="POST",
        path="/agent/events/{eventId}/redeliver",
        handler=webhooks.redeliver_event,
        answer=Redelivery,
        fails=(404, 503),
        signed=True,
    ),
    _served(
        calls.MAKE_LINK,
        handler=access.make_link,
        body=LinkBody,
        fails=(400, 404, 408, 409, 413, 503),
        body_optional=True,
    ),
    _served(
        calls.LINKS,
        handler=access.list_links,
        fails=(503,),
    ),
    _served(
        calls.REMOVE_LINK,
        handler=access.remove_link,
        fails=(404, 503),
    ),
    _served(
        calls.BALANCE,
        handler=public.balance,
        fails=(400, 429, 502),
        query={"chain": "the chain's name; arbitrum by default"},
    ),
    _served(calls.CHAINS, handler=public.chains, fails=(429,)),
    Operation(method="GET", path="/health", handler=public.health, answer=Health),
)


log = structlog.get_logger()

_FAULT_WITH_PROOF = (
    "The gateway failed at this request. Do not pay again: send the same request with the same "
    "payment; it counts once."
)


@dataclass(frozen=True, kw_only=True)
class HttpApi:
    """What endpoints share: the records that handlers need, and what every request passes."""

    front: Front
    rooms: Sequence[Front]
    facts: Facts
    documents: Documents
    challenges: Challenges
    outcomes: Outcomes
    arrivals: Arrivals
    exports: ASGIApp  # archives of evicted projects

    def room(self, kind: type) -> Front:
        """Returns the record of that type."""
        return next(room for room in (self.front, *self.rooms) if type(room) is kind)


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Pages for people, and where their paths begin."""

    app: ASGIApp
    prefixes: tuple[str, ...]


class _Endpoint:
    """An operation as an ASGI app; every error is answered with the contract's JSON."""

    def __init__(self, api: HttpApi, operation: Operation) -> None:
        self._api = api
        self._room = api.room(operation.needs)
        self._handler = operation.handler
        self._is_paid = operation.paid
        self._takes_payment = operation.paid or operation.priced
        self._query = operation.query
        self._has_body = operation.body is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_paid:
            scope[PAID] = True
        arrival = self._api.arrivals.begin(scope, receive)
        receive = arrival.receive
        if self._has_body:
            receive = signed_body(scope, receive)
        try:
            response = await self._answer(ApiRequest(scope, receive, send))
        finally:
            arrival.end()
        if response is not None:
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response | None:
        try:
            if not carries_proof(request):  # money is never held up by a stray key
                refuse_unknown(request, self._query, but_hashes=self._takes_payment)
            return await answered(self._handler, self._room, request)
        except MoorageError as error:
            return await self._refused(error, request)
        except ClientDisconnect:
            return None
        except Exception:
            log.exception("request failed")
            return await self._failed(request)

    async def _failed(self, request: Request) -> Response:
        """Answers an unexpected error; for a request that carried a payment never with a 5xx."""
        if carries_proof(request):
            return await self._refused(PaymentPending(_FAULT_WITH_PROOF), request)
        return problem_response(INTERNAL, "The gateway failed at this request. Try it again.")

    async def _refused(self, error: MoorageError, request: Request) -> Response:
        if carries_proof(request) or shows_payment(error):
            error = await accounted(self._api.outcomes, self._api.front.chains, request, error)
        if isinstance(error, Maintenance):
            request.scope[INTENDED] = True
        url = self._api.front.public_url + request.scope["path"]
        if isinstance(error, PaymentRequired):
            holdings = self._api.front.holdings
            error.demand = await preferred(error.demand, request.headers, holdings)
        signature = request.headers.get("payment-signature") if self._is_paid else None
        return error_response(
            error,
            challenges=self._api.challenges,
            url=url,
            headers=error_headers(error, signature=signature),
            by_hash="x-payment-tx" in request.headers,
        )


def http_app(api: HttpApi, *, mcp: ASGIApp, pages: Pages | None = None) -> ASGIApp:
    """Returns all that the gateway serves as an ASGI app; `mcp` answers at `/mcp`."""
    found = (("GET", path, each) for path, each in api.documents.apps())
    others = (("POST", "/mcp", mcp), ("GET", exports.PATH, api.exports), *found)
    machines = CrossOrigin(Dispatch([*_operations(api), *others]))
    return SlashRefused(machines if pages is None else _beside_pages(machines, pages, api.arrivals))


def _beside_pages(machines: ASGIApp, pages: Pages, arrivals: Arrivals) -> ASGIApp:
    """Returns an app that answers with pages below their paths: no other origin may read those."""

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(pages.prefixes):
            await machines(scope, receive, send)
            return
        arrival = arrivals.begin(scope, receive)
        try:
            await pages.app(scope, arrival.receive, send)
        finally:
            arrival.end()

    return either


def operations_app(api: HttpApi) -> ASGIApp:
    """Returns the operations alone, for calls from within the gateway."""
    return SlashRefused(Dispatch(_operations(api)))


def _operations(api: HttpApi) -> Iterator[tuple[str, str, ASGIApp]]:
    return ((each.method, each.path, _Endpoint(api, each)) for each in OPERATIONS)

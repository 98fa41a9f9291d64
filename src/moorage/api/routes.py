"""The table of routes, and how requests are answered, also after errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from moorage.api import deploy, deployments, domains, projects, public, webhooks
from moorage.api.connections.arrival import Arrivals
from moorage.api.credits import show_credits
from moorage.api.http.caller import PAID, Front, carries_proof, signed_body
from moorage.api.http.dispatch import Dispatch
from moorage.api.http.openapi import openapi_document
from moorage.api.http.operation import Operation
from moorage.api.http.payment_headers import error_headers
from moorage.api.http.problems import INTERNAL, error_response, json_response, problem_response
from moorage.api.logs import show_logs
from moorage.api.status import status
from moorage.api.topup import top_up
from moorage.api.usage import show_usage
from moorage.errors import MoorageError, PaymentPending
from moorage.payments.protocols.challenges import Challenges
from moorage.wire.credits import Credits, ToppedUp, TopUpBody
from moorage.wire.deploy import DeployBody, Deployed, Quoted
from moorage.wire.deployments import Cancelled, DeploymentList, DeploymentProgress, RollbackBody
from moorage.wire.domains import DomainBody, DomainItem, DomainList, DomainRemoved
from moorage.wire.events import (
    EventPage,
    Redelivery,
    WebhookBody,
    WebhookMade,
    WebhookRemoved,
    WebhookShown,
)
from moorage.wire.logs import LogBody
from moorage.wire.projects import (
    ChangeBody,
    ProjectChanged,
    ProjectDeleted,
    ProjectList,
    ProjectShown,
)
from moorage.wire.public import Balances, ChainList, Health
from moorage.wire.shape import Body
from moorage.wire.usage import ProjectUsage

log = structlog.get_logger()

_FAULT_WITH_PROOF = (
    "The gateway failed at this request. Do not pay again: send the same request with the same "
    "payment; it counts once."
)

OPERATIONS = (
    Operation(
        method="POST",
        path="/agent/deploy",
        handler=deploy.deploy,
        body=DeployBody,
        answer=Deployed,
        or_answer=Quoted,
        fails=(400, 402, 408, 409, 413, 502, 503),
        signed=True,
        paid=True,
    ),
    Operation(
        method="GET",
        path="/agent/credits",
        handler=show_credits,
        answer=Credits,
        fails=(400, 503),
        signed=True,
        query={
            "limit": "how many entries of the ledger, 20 unless given, at most 100",
            "before": "`next` of the page before this one",
        },
    ),
    Operation(
        method="POST",
        path="/agent/credits",
        handler=top_up,
        body=TopUpBody,
        answer=ToppedUp,
        fails=(400, 402, 408, 409, 413, 502, 503),
        signed=True,
        paid=True,
    ),
    Operation(
        method="POST",
        path="/agent/quote",
        handler=deploy.quote,
        body=DeployBody,
        answer=Quoted,
        fails=(400, 408, 413, 503),
        signed=True,
        priced=True,
    ),
    Operation(
        method="GET",
        path="/agent/deploy/{projectId}/{deploymentId}/status",
        handler=status,
        answer=DeploymentProgress,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/deploy/{projectId}/{deploymentId}/logs",
        handler=show_logs,
        answer=LogBody,
        fails=(400, 403, 404, 503),
        signed=True,
        query={
            "kind": "build or runtime; runtime by default",
            "tail": "the last so many lines, up to 10000; 500 where neither this nor after or "
            "since is given",
            "since": "not before this time: ISO 8601 with an offset, or Unix milliseconds",
            "after": "`next` of the page before this one",
            "follow": "true: server-sent events, `line` for each line as it comes, then `end`; "
            "Last-Event-ID goes on behind that event",
        },
    ),
    Operation(
        method="POST",
        path="/agent/deploy/{projectId}/{deploymentId}/cancel",
        handler=deployments.cancel,
        answer=Cancelled,
        fails=(403, 404, 409, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/deployments",
        handler=deployments.list_deployments,
        answer=DeploymentList,
        fails=(400, 403, 404, 503),
        signed=True,
        query={
            "limit": "how many, 20 unless given, at most 100",
            "before": "`next` of the page before this one",
        },
    ),
    Operation(
        method="POST",
        path="/agent/projects/{projectId}/rollback",
        handler=deployments.roll_back,
        body=RollbackBody,
        answer=Deployed,
        fails=(400, 402, 403, 404, 408, 409, 413, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects",
        handler=projects.list_projects,
        answer=ProjectList,
        fails=(503,),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}",
        handler=projects.show_project,
        answer=ProjectShown,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="PATCH",
        path="/agent/projects/{projectId}",
        handler=projects.change_project,
        body=ChangeBody,
        answer=ProjectChanged,
        fails=(400, 402, 403, 404, 408, 413, 503),
        signed=True,
    ),
    Operation(
        method="DELETE",
        path="/agent/projects/{projectId}",
        handler=projects.delete_project,
        answer=ProjectDeleted,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/usage",
        handler=show_usage,
        answer=ProjectUsage,
        fails=(400, 403, 404, 503),
        signed=True,
        query={
            "from": "not before this time, a day before `to` unless given",
            "to": "before this time, now unless given; ISO 8601 with an offset, or Unix ms",
        },
    ),
    Operation(
        method="POST",
        path="/agent/projects/{projectId}/domains",
        handler=domains.add_domain,
        body=DomainBody,
        answer=DomainItem,
        fails=(400, 403, 404, 408, 413, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/domains",
        handler=domains.list_domains,
        answer=DomainList,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="POST",
        path="/agent/projects/{projectId}/domains/{domain}/verify",
        handler=domains.verify_domain,
        answer=DomainItem,
        fails=(400, 403, 404, 503),
        signed=True,
    ),
    Operation(
        method="DELETE",
        path="/agent/projects/{projectId}/domains/{domain}",
        handler=domains.remove_domain,
        answer=DomainRemoved,
        fails=(400, 403, 404, 503),
        signed=True,
    ),
    Operation(
        method="PUT",
        path="/agent/webhook",
        handler=webhooks.set_webhook,
        body=WebhookBody,
        answer=WebhookMade,
        fails=(400, 408, 413, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/webhook",
        handler=webhooks.show_webhook,
        answer=WebhookShown,
        fails=(404, 503),
        signed=True,
    ),
    Operation(
        method="DELETE",
        path="/agent/webhook",
        handler=webhooks.remove_webhook,
        answer=WebhookRemoved,
        fails=(404, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/events",
        handler=webhooks.list_events,
        answer=EventPage,
        fails=(400, 503),
        signed=True,
        query={
            "after": "the sequence to go on from; 0 by default",
            "limit": "how many at most, up to 200; 50 by default",
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
    Operation(
        method="GET",
        path="/agent/balance/{address}",
        handler=public.balance,
        answer=Balances,
        fails=(400, 429, 502),
        query={"chain": "the chain's name; arbitrum by default"},
    ),
    Operation(
        method="GET", path="/agent/chains", handler=public.chains, answer=ChainList, fails=(429,)
    ),
    Operation(method="GET", path="/health", handler=public.health, answer=Health),
)


@dataclass(frozen=True, kw_only=True)
class HttpApi:
    """What endpoints share: the records that handlers need, and what every request passes."""

    front: Front
    rooms: Sequence[Front]
    pay_to: str
    challenges: Challenges
    arrivals: Arrivals

    def room(self, kind: type) -> Front:
        """Returns the record of that type."""
        return next(room for room in (self.front, *self.rooms) if type(room) is kind)


class _Endpoint:
    """An operation as an ASGI app; every error is answered with the contract's JSON."""

    def __init__(self, api: HttpApi, operation: Operation) -> None:
        self._api = api
        self._room = api.room(operation.needs)
        self._handler = operation.handler
        self._is_paid = operation.paid
        self._has_body = operation.body is not None
        self._chains = tuple(api.front.chains.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_paid:
            scope[PAID] = True
        arrival = self._api.arrivals.begin(scope, receive)
        receive = arrival.receive
        if self._has_body:
            receive = signed_body(scope, receive)
        try:
            response = await self._answer(Request(scope, receive, send))
        finally:
            arrival.end()
        if response is not None:
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response | None:
        try:
            return await self._handler(self._room, request)
        except MoorageError as error:
            return self._refused(error, request)
        except ClientDisconnect:
            return None
        except Exception:
            log.exception("request failed")
            return self._failed(request)

    def _failed(self, request: Request) -> Response:
        """Answers an unexpected error; for a request that carried a payment never with a 5xx."""
        if carries_proof(request):
            return self._refused(PaymentPending(_FAULT_WITH_PROOF), request)
        return problem_response(INTERNAL, "The gateway failed at this request. Try it again.")

    def _refused(self, error: MoorageError, request: Request) -> Response:
        url = self._api.front.public_url + request.scope["path"]
        headers = error_headers(self._api.challenges, error, url=url)
        return error_response(error, pay_to=self._api.pay_to, chains=self._chains, headers=headers)


def http_app(api: HttpApi) -> Dispatch:
    """Returns the gateway's HTTP API as an ASGI app."""
    described = openapi_document(OPERATIONS, server_url=api.front.public_url)

    async def openapi(_front: Front, _request: Request) -> Response:
        return json_response(described)

    itself = Operation(method="GET", path="/openapi.json", handler=openapi, answer=Body)
    return Dispatch(
        (operation.method, operation.path, _Endpoint(api, operation))
        for operation in (*OPERATIONS, itself)
    )

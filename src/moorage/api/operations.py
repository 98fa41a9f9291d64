"""The table of operations: every method and path that the API answers, in OpenAPI's order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api import (
    access,
    deploy,
    deployments,
    exports,
    logs,
    money,
    projects,
    public,
    receipts,
    recovery,
    refunds,
    runs,
    transfers,
    webhooks,
)
from moorage.api.discovery.documents import Documents
from moorage.api.discovery.guide import Facts
from moorage.api.http.caller import (
    Front,
    Handler,
    answered,
    carries_proof,
    signed_body,
    warned,
)
from moorage.api.http.connections import Arrivals
from moorage.api.http.dispatch import CrossOrigin, Dispatch, Operation, SlashRefused
from moorage.api.http.payment import accounted, shows_payment
from moorage.api.http.problems import INTERNAL, error_response, problem_response
from moorage.api.http.request import ApiRequest, refuse_unknown
from moorage.api.http.request_context import INTENDED, PAID
from moorage.errors import Maintenance, MoorageError, PaymentPending
from moorage.payments.taking.payment_required import (
    Challenges,
    PaymentRequired,
    error_headers,
    preferred,
)
from moorage.payments.taking.paywall import Outcomes
from moorage.wire import calls
from moorage.wire.calls import Call
from moorage.wire.deploy import Quoted, ZipUpload

_OF_LOGS = {
    "kind": "build or runtime; runtime by default",
    "tail": "the last so many lines, up to 10000; 500 without this, after and since",
    "since": "not before this time: ISO 8601 with an offset, or Unix milliseconds",
    "after": "`next` of the page before this one",
    "follow": "true: server-sent events, `line` for each as it comes, then `end`; Last-Event-ID "
    "continues behind one",
}
_OF_A_RUNS_LOG = {name: said for name, said in _OF_LOGS.items() if name != "kind"}

_PAGE = {
    "limit": "how many, 20 unless given, at most 100",
    "before": "`next` of the page before this one",
}


_OF_PROJECTS = {
    "limit": "the newest so many, at most 100; all unless given",
    "before": "`next` of the page before this one",
    "search": "a part of the name or title",
    "status": "in this state alone",
    "ids": "these alone: up to 100, with commas",
}
_OF_USAGE = {
    "from": "not before this time, a day before `to` unless given",
    "to": "before this time, now unless given; ISO 8601 with an offset, or Unix ms",
    "by": "hour, or 5m for `spans`",
}
_OF_EVENTS = {
    "after": "the sequence to continue from; 0 by default",
    "limit": "how many at most, up to 200; 50 by default",
    "before": "the sequence before which they end, instead of `after`",
}
_OF_AN_INVOICE = {
    "from": "the first month, as 2026-04; the last one unless given",
    "to": "the last month, at most 12 in all; this one unless given",
}
_OF_A_RECOVERY = {"wallet": "another one, which names yours as its recovery address"}
_OF_A_BALANCE = {"chain": "the chain's name; arbitrum by default"}


def _served(call: Call[Any], handler: Handler, *also_fails: int, **served: Any) -> Operation:
    """Describes an operation: its call as clients know it, and how it is served."""
    known = msgspec.structs.asdict(call)
    return Operation(**known, handler=handler, also_fails=also_fails, **served)


_SELLS = {"paid": True, "priced": True, "or_answer": Quoted}

OPERATIONS = (
    _served(calls.DEPLOY, deploy.deploy, **_SELLS),
    _served(calls.PAY_TO_DEPLOY, deploy.pay_to_deploy, **_SELLS),
    _served(calls.PAY_FOR_CREDITS, money.pay_for_credits, paid=True, body_optional=True),
    _served(calls.CREDITS, money.show_credits, query=_PAGE),
    _served(calls.TOP_UP, money.top_up, paid=True, body_optional=True),
    _served(calls.PAYMENTS, money.list_payments, query=_PAGE),
    _served(calls.INVOICE, receipts.show_invoice, query=_OF_AN_INVOICE),
    _served(calls.RECEIPT, receipts.show_receipt, 400, 404),
    _served(calls.QUOTE_REFUND, refunds.quote_refund, body_optional=True),
    _served(calls.REFUND, refunds.request_refund, 409),
    _served(calls.REFUNDS, refunds.list_refunds, query=_PAGE),
    _served(calls.REFUND_STATE, refunds.show_refund, 404),
    _served(calls.QUOTE, deploy.quote, priced=True),
    _served(calls.STORE_UPLOAD, deploy.store_upload, or_body=ZipUpload),
    _served(calls.STATUS, deployments.status),
    _served(calls.LOGS, logs.show_logs, query=_OF_LOGS),
    _served(calls.CANCEL, deployments.cancel, 409),
    _served(calls.DEPLOYMENTS, deployments.list_deployments, query=_PAGE),
    _served(calls.DEPLOYMENT, deployments.show_deployment),
    _served(calls.ROLLBACK, deployments.roll_back, 402, 409),
    _served(calls.EXPORT, exports.make_export, body_optional=True),
    _served(calls.FETCH_EXPORT, exports.fetch_export, 409, gives="application/x-tar"),
    _served(calls.RUN, runs.begin_run, 402, 409),
    _served(calls.RUNS, runs.list_runs, query=_PAGE),
    _served(calls.RUN_STATE, runs.show_run),
    _served(calls.RUN_LOGS, runs.show_run_log, query=_OF_A_RUNS_LOG),
    _served(calls.END_RUN, runs.end_run),
    _served(calls.PROJECTS, projects.list_projects, query=_OF_PROJECTS),
    _served(calls.PROJECT, projects.show_project),
    _served(calls.CHANGE, projects.change_project, 402, 409),
    _served(calls.SET_PURSE, projects.set_purse, 409),
    _served(calls.DELETE, projects.delete_project, body_optional=True),
    _served(calls.ADOPT, projects.adopt_project),
    _served(calls.MAKE_TOKEN, access.make_manage_token, body_optional=True),
    _served(calls.REVOKE_TOKENS, access.revoke_manage_tokens),
    _served(calls.OFFER, transfers.offer_project, 409),
    _served(calls.TRANSFERS, transfers.list_transfers),
    _served(calls.ACCEPT, transfers.accept_offer, 404, 409, body_optional=True),
    _served(calls.WITHDRAW, transfers.withdraw_offer, 404, 409),
    _served(calls.RECOVERY, recovery.show_recovery, query=_OF_A_RECOVERY),
    _served(calls.SET_RECOVERY, recovery.set_recovery, 409),
    _served(calls.CLAIM, recovery.claim_wallet, 404, 409),
    _served(calls.OBJECT, recovery.object_to_claim, 404),
    _served(calls.PROJECT_LOGS, logs.show_project_logs, query=_OF_LOGS),
    _served(calls.USAGE, projects.show_usage, query=_OF_USAGE),
    _served(calls.ADD_DOMAIN, projects.add_domain),
    _served(calls.DOMAINS, projects.list_domains),
    _served(calls.VERIFY_DOMAIN, projects.verify_domain, 400),
    _served(calls.REMOVE_DOMAIN, projects.remove_domain, 400),
    _served(calls.SET_WEBHOOK, webhooks.set_webhook),
    _served(calls.WEBHOOK, webhooks.show_webhook, 404),
    _served(calls.REMOVE_WEBHOOK, webhooks.remove_webhook, 404),
    _served(calls.EVENTS, webhooks.list_events, query=_OF_EVENTS),
    _served(calls.REDELIVER, webhooks.redeliver_event, 404),
    _served(calls.MAKE_LINK, access.make_link, 404, 409, body_optional=True),
    _served(calls.LINKS, access.list_links),
    _served(calls.REMOVE_LINK, access.remove_link, 404),
    _served(calls.MAKE_DELEGATE, access.make_delegate, 409),
    _served(calls.DELEGATES, access.list_delegates),
    _served(calls.END_DELEGATE, access.end_delegate, 404),
    _served(calls.END_DELEGATES, access.end_delegates),
    _served(calls.BALANCE, public.balance, 502, query=_OF_A_BALANCE),
    _served(calls.CHAINS, public.chains),
    _served(calls.SIZES, public.sizes),
    _served(calls.RECEIPT_KEYS, receipts.list_keys),
    _served(calls.HEALTH, public.health),
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
            await warned(self._api.front, scope, response)
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

"""Serves the table of operations: how requests are answered, also after errors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api import exports
from moorage.api.connections.arrival import Arrivals
from moorage.api.discovery.documents import Documents
from moorage.api.discovery.facts import Facts
from moorage.api.http.caller import PAID, Front, carries_proof, signed_body
from moorage.api.http.cross_origin import CrossOrigin
from moorage.api.http.dispatch import Dispatch, SlashRefused
from moorage.api.http.operation import Operation
from moorage.api.http.payment.paid_answers import accounted, shows_payment
from moorage.api.http.payment.payment_headers import error_headers, prefer
from moorage.api.http.problems import INTERNAL, NO_MEMBERS, error_response, problem_response
from moorage.api.http.query import refuse_unknown
from moorage.api.http.request import ApiRequest
from moorage.api.http.request_context import INTENDED
from moorage.api.operations import OPERATIONS
from moorage.errors import Maintenance, MoorageError, PaymentPending
from moorage.payments.protocols.demand import Challenges, PaymentRequired, Seller
from moorage.payments.taking.outcomes import Outcomes

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
    seller: Seller
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
            return await self._handler(self._room, request)
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
        members = NO_MEMBERS
        if isinstance(error, PaymentRequired):
            await prefer(error, request.headers, self._api.front.holdings)
            members = self._api.challenges.members(error, resource_url=url)
        signature = request.headers.get("payment-signature") if self._is_paid else None
        headers = error_headers(self._api.challenges, error, url=url, signature=signature)
        by_hash = "x-payment-tx" in request.headers
        return error_response(
            error, seller=self._api.seller, headers=headers, members=members, by_hash=by_hash
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

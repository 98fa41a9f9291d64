"""The API's operations as clients call them: method, path and answer, each declared once.

The SDK sends them, tools of agents are made of them, and the gateway's own table serves them.
"""

from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from moorage.errors import InvalidRequest
from moorage.records.access import Scope
from moorage.wire.credits import (
    Credits,
    PaymentList,
    PurseBody,
    PurseChanged,
    ToppedUp,
    TopUpBody,
)
from moorage.wire.delegates import (
    DelegateBody,
    DelegateEnded,
    DelegateItem,
    DelegateList,
    DelegatesEnded,
)
from moorage.wire.deploy import DeployBody, Deployed, FilesUpload, Quoted, UploadStored
from moorage.wire.deployments import (
    Cancelled,
    DeploymentList,
    DeploymentProgress,
    DeploymentShown,
    LogBody,
    ProjectLogBody,
    RollbackBody,
)
from moorage.wire.events import (
    EventPage,
    Redelivery,
    WebhookBody,
    WebhookMade,
    WebhookRemoved,
    WebhookShown,
)
from moorage.wire.projects import (
    AcceptBody,
    ChangeBody,
    DomainBody,
    DomainItem,
    DomainList,
    DomainRemoved,
    ExportBody,
    ExportItem,
    ManageTokenBody,
    ManageTokenMade,
    ManageTokensRevoked,
    ProjectAdopted,
    ProjectChanged,
    ProjectDeleted,
    ProjectList,
    ProjectShown,
    ProjectTransferred,
    ProjectUsage,
    TransferBody,
    TransferItem,
    TransferList,
)
from moorage.wire.public import (
    Balances,
    ChainList,
    Health,
    LinkBody,
    LinkList,
    LinkMade,
    LinkRemoved,
    SizeList,
)
from moorage.wire.receipts import Invoice, ReceiptKeys, ReceiptList
from moorage.wire.recovery import ClaimBody, RecoveryBody, RecoveryShown
from moorage.wire.refunds import (
    DeleteBody,
    RefundBody,
    RefundList,
    RefundQuoteBody,
    RefundQuoted,
    RefundShown,
)
from moorage.wire.runs import RunBody, RunItem, RunList, RunQueued
from moorage.wire.shape import Body, CamelBody

_LONGEST_SHOWN = 64
_NUMBERS = msgspec.json.Encoder(decimal_format="number")  # of amounts
_Answer = TypeVar("_Answer", bound=msgspec.Struct)


class ApiRequest(msgspec.Struct, frozen=True):
    """Method, path with its query, and body. `path` is quoted."""

    method: str
    path: str
    body: bytes | None = None
    bound: bool = False  # as its Call
    signed: bool = True


class Call(msgspec.Struct, Generic[_Answer], frozen=True):
    """An operation; `path` has a place in braces for each id or name."""

    method: str
    path: str
    answer: type[_Answer]
    body: type[Body | CamelBody] | None = None
    repeatable: bool = False  # whether it may be sent again though its answer was lost
    signed: bool = True
    wallet_alone: bool = False  # no manage token covers it: it gives others access, or takes more
    lasting: bool = False  # it can't be undone: pages have the wallet sign it
    bound: bool = False
    """It moves money or power: the wallet signs this very request (version 2), or confirms it on a
    page, and the request has an Idempotency-Key."""

    @property
    def by_token(self) -> bool:
        """Whether a project's manage token may stand in for the wallet's signature."""
        is_of_one = "{projectId}" in self.path or self.body in (DeployBody, TopUpBody, FilesUpload)
        return is_of_one and not self.wallet_alone and not self.bound

    @property
    def names_in_body(self) -> bool:
        """Whether its body may name the project that it is about."""
        return self.body in (DeployBody, FilesUpload)

    @property
    def scope(self) -> Scope | None:
        """What a delegate or a manage token must be allowed; None: the wallet alone does it."""
        if self.bound or self.wallet_alone:
            return None
        if self.method == "GET":
            return Scope.READ if self.signed else None
        if self.path.endswith("{projectId}") and self.method == "DELETE":
            return Scope.DELETE
        is_of_one = "{projectId}" in self.path or self.names_in_body
        return Scope.DEPLOY if is_of_one else None

    def is_at(self, method: str, path: str) -> bool:
        """Whether this is the operation of a method and a path, or of its template."""
        if self.method != ("GET" if method == "HEAD" else method):
            return False
        parts, given = self.path.split("/"), path.split("/")
        return len(parts) == len(given) and all(
            a == b or a.startswith("{") for a, b in zip(parts, given, strict=True)
        )

    @property
    def ids(self) -> list[str]:
        """What the places in its path are of: `project`, `deployment`."""
        parts = self.path.split("/")
        return [part[1:-1].removesuffix("Id") for part in parts if part.startswith("{")]

    def request(self, *ids: str, body: object = None, **query: str | int | None) -> ApiRequest:
        """Returns the request with the path's `ids`; parts of the query that are None are left out.

        A keyword's trailing underscore is dropped: `from_` is `from`. Raises InvalidRequest for an
        id that would be several segments, or none: it would name another operation.
        """
        for each in ids:
            if each in ("", ".", "..") or "/" in each:
                raise InvalidRequest(f"{each[:_LONGEST_SHOWN]!r} is no id, and no name.")
        named = iter(ids)
        parts = [
            quote(next(named), safe="") if part.startswith("{") else part
            for part in self.path.split("/")
        ]
        path = "/".join(parts)
        given = {name.rstrip("_"): value for name, value in query.items() if value is not None}
        return ApiRequest(
            self.method,
            f"{path}?{urlencode(given)}" if given else path,
            None if body is None else _NUMBERS.encode(body),
            self.bound,
            self.signed,
        )


def _get(path: str, answer: type[_Answer], *, signed: bool = True) -> Call[_Answer]:
    return Call("GET", path, answer, repeatable=True, signed=signed)


DEPLOY = Call("POST", "/agent/deploy", Deployed, DeployBody)
PAY_TO_DEPLOY = Call("POST", "/deploy", Deployed, DeployBody, signed=False)
PAY_FOR_CREDITS = Call("POST", "/credits", ToppedUp, TopUpBody, signed=False)
CREDITS = _get("/agent/credits", Credits)
TOP_UP = Call("POST", "/agent/credits", ToppedUp, TopUpBody)
PAYMENTS = _get("/agent/payments", PaymentList)
INVOICE = _get("/agent/invoice", Invoice)
RECEIPT = _get("/agent/payments/{tx}/receipt", ReceiptList)
QUOTE_REFUND = Call("POST", "/agent/refunds/quote", RefundQuoted, RefundQuoteBody, repeatable=True)
REFUND = Call("POST", "/agent/refunds", RefundShown, RefundBody, repeatable=True, bound=True)
REFUNDS = _get("/agent/refunds", RefundList)
REFUND_STATE = _get("/agent/refunds/{refundId}", RefundShown)
QUOTE = Call("POST", "/agent/quote", Quoted, DeployBody)
STORE_UPLOAD = Call("PUT", "/agent/uploads/{sha256}", UploadStored, FilesUpload)
STATUS = _get("/agent/deploy/{projectId}/{deploymentId}/status", DeploymentProgress)
LOGS = _get("/agent/deploy/{projectId}/{deploymentId}/logs", LogBody)
CANCEL = Call("POST", "/agent/deploy/{projectId}/{deploymentId}/cancel", Cancelled)
DEPLOYMENTS = _get("/agent/projects/{projectId}/deployments", DeploymentList)
DEPLOYMENT = _get("/agent/projects/{projectId}/deployments/{deploymentId}", DeploymentShown)
ROLLBACK = Call("POST", "/agent/projects/{projectId}/rollback", Deployed, RollbackBody)
EXPORT = Call(
    "POST",
    "/agent/projects/{projectId}/exports",
    ExportItem,
    ExportBody,
    repeatable=True,
    wallet_alone=True,  # it may have the variables
)
FETCH_EXPORT = Call(
    "GET",
    "/agent/projects/{projectId}/exports/{exportId}",
    ExportItem,
    repeatable=True,
    wallet_alone=True,
)
RUN = Call("POST", "/agent/projects/{projectId}/runs", RunQueued, RunBody)
RUNS = _get("/agent/projects/{projectId}/runs", RunList)
RUN_STATE = _get("/agent/projects/{projectId}/runs/{runId}", RunItem)
RUN_LOGS = _get("/agent/projects/{projectId}/runs/{runId}/logs", LogBody)
END_RUN = Call("DELETE", "/agent/projects/{projectId}/runs/{runId}", RunItem, repeatable=True)
PROJECTS = _get("/agent/projects", ProjectList)
PROJECT = _get("/agent/projects/{projectId}", ProjectShown)
CHANGE = Call("PATCH", "/agent/projects/{projectId}", ProjectChanged, ChangeBody)
SET_PURSE = Call(
    "PUT",
    "/agent/projects/{projectId}/purse",
    PurseChanged,
    PurseBody,
    wallet_alone=True,
    bound=True,
)
DELETE = Call("DELETE", "/agent/projects/{projectId}", ProjectDeleted, DeleteBody, lasting=True)
ADOPT = Call(
    "POST",
    "/agent/projects/{projectId}/adopt",
    ProjectAdopted,
    repeatable=True,
    bound=True,
)
MAKE_TOKEN = Call(
    "POST",
    "/agent/projects/{projectId}/tokens",
    ManageTokenMade,
    ManageTokenBody,
    bound=True,
)
REVOKE_TOKENS = Call(
    "DELETE",
    "/agent/projects/{projectId}/tokens",
    ManageTokensRevoked,
    bound=True,
)
OFFER = Call("POST", "/agent/projects/{projectId}/transfer", TransferItem, TransferBody, bound=True)
TRANSFERS = _get("/agent/transfers", TransferList)
ACCEPT = Call(
    "POST", "/agent/transfers/{offerId}/accept", ProjectTransferred, AcceptBody, bound=True
)
WITHDRAW = Call("DELETE", "/agent/transfers/{offerId}", TransferItem)
RECOVERY = _get("/agent/recovery", RecoveryShown)
SET_RECOVERY = Call("PUT", "/agent/recovery", RecoveryShown, RecoveryBody, bound=True)
CLAIM = Call("POST", "/agent/recovery/claim", RecoveryShown, ClaimBody, repeatable=True, bound=True)
OBJECT = Call("DELETE", "/agent/recovery/claim", RecoveryShown, repeatable=True, bound=True)
PROJECT_LOGS = _get("/agent/projects/{projectId}/logs", ProjectLogBody)
USAGE = _get("/agent/projects/{projectId}/usage", ProjectUsage)
ADD_DOMAIN = Call("POST", "/agent/projects/{projectId}/domains", DomainItem, DomainBody)
DOMAINS = _get("/agent/projects/{projectId}/domains", DomainList)
VERIFY_DOMAIN = Call("POST", "/agent/projects/{projectId}/domains/{domain}/verify", DomainItem)
REMOVE_DOMAIN = Call("DELETE", "/agent/projects/{projectId}/domains/{domain}", DomainRemoved)
SET_WEBHOOK = Call("PUT", "/agent/webhook", WebhookMade, WebhookBody)
WEBHOOK = Call("GET", "/agent/webhook", WebhookShown, repeatable=True, wallet_alone=True)
REMOVE_WEBHOOK = Call("DELETE", "/agent/webhook", WebhookRemoved)
EVENTS = _get("/agent/events", EventPage)
REDELIVER = Call("POST", "/agent/events/{eventId}/redeliver", Redelivery)
MAKE_LINK = Call("POST", "/agent/links", LinkMade, LinkBody)
LINKS = Call("GET", "/agent/links", LinkList, repeatable=True, wallet_alone=True)
REMOVE_LINK = Call("DELETE", "/agent/links/{linkId}", LinkRemoved)
MAKE_DELEGATE = Call(
    "POST", "/agent/delegates", DelegateItem, DelegateBody, repeatable=True, bound=True
)
DELEGATES = _get("/agent/delegates", DelegateList)
END_DELEGATE = Call("DELETE", "/agent/delegates/{delegationId}", DelegateEnded, bound=True)
END_DELEGATES = Call("POST", "/agent/delegates/epoch", DelegatesEnded, bound=True)
BALANCE = _get("/agent/balance/{address}", Balances, signed=False)
CHAINS = _get("/agent/chains", ChainList, signed=False)
SIZES = _get("/agent/sizes", SizeList, signed=False)
RECEIPT_KEYS = _get("/.well-known/moorage-receipts.json", ReceiptKeys, signed=False)
HEALTH = _get("/health", Health, signed=False)

ALL: tuple[Call[Any], ...] = tuple(it for it in [*globals().values()] if isinstance(it, Call))
"""Every operation, in OpenAPI's order."""


def call_at(method: str, path: str) -> Call[Any] | None:
    """Returns the operation of a method and a path, or of its template."""
    return next((each for each in ALL if each.is_at(method, path)), None)


_BOUND = tuple(each for each in ALL if each.bound)


def is_bound(method: str, path: str) -> bool:
    """Whether the operation of a method and a path, or of its template, moves money or power."""
    return any(each.is_at(method, path) for each in _BOUND)

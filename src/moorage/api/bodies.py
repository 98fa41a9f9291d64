"""The bodies of requests and answers, as the contract writes them: what OpenAPI is made from."""

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.errors import FailureCause
from moorage.payments.taking.outcome import PaymentTold
from moorage.planning.plan import Settings
from moorage.records.deployment import DeploymentStatus
from moorage.records.domain import DomainStatus
from moorage.records.event import EventKind
from moorage.records.project import ProjectStatus
from moorage.records.webhook import DeliveryStatus


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body whose field names are written as they are."""


class CamelBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A body whose field names are written in camel case."""


class UploadedFile(Body, frozen=True, kw_only=True):
    """One file of an upload."""

    path: Annotated[str, Meta(description="relative, `/`-separated", min_length=1)]
    content: Annotated[str, Meta(description="base64")]


class FilesUpload(Body, frozen=True, kw_only=True, tag_field="type", tag="files"):
    """An upload of single files."""

    files: Annotated[list[UploadedFile], Meta(min_length=1)]


class ZipUpload(Body, frozen=True, kw_only=True, tag_field="type", tag="zip"):
    """An upload of one zip archive."""

    data: Annotated[str, Meta(description="base64 of the archive")]
    filename: str = ""


class DeployBody(CamelBody, frozen=True, kw_only=True):
    """What is to be deployed (contract 1.2)."""

    unique_name: Annotated[
        str,
        Meta(
            description="a DNS label, unique across the gateway; upper case is folded",
            pattern="^[A-Za-z0-9][A-Za-z0-9-]{2,30}[A-Za-z0-9]$",
        ),
    ]
    display_name: Annotated[str, Meta(min_length=1, max_length=100)]
    description: Annotated[str, Meta(max_length=2048)] = ""
    months: Annotated[int, Meta(ge=1, le=24, description="multiplies the price")] = 1
    settings: Settings = msgspec.field(default_factory=Settings)
    upload: FilesUpload | ZipUpload


class Deployed(CamelBody, frozen=True, kw_only=True):
    """A deployment that was accepted."""

    project_id: str
    deployment_id: str
    status: Literal["deploying"] = "deploying"
    message: str


Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Stage = Annotated[
    str,
    Meta(
        extra_json_schema={"enum": [*DeploymentStatus, "restarting", "crash_looping", "suspended"]}
    ),
]
Cause = Annotated[str, Meta(extra_json_schema={"enum": [*FailureCause, "no_capacity"]})]


class DeploymentProgress(Body, frozen=True, kw_only=True):
    """Where a deployment stands. `endpoint` is there when `ready`, `reason` when `failed`."""

    status: Literal["deploying", "ready", "failed"]
    deployment_id: str
    deployment_status: Stage | UnsetType = UNSET
    position: (
        Annotated[int, Meta(description="its place in the queue; the first is begun next", ge=1)]
        | UnsetType
    ) = UNSET
    endpoint: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    reason_code: Cause | UnsetType = UNSET
    log_tail: str | UnsetType = UNSET
    serving_deployment_id: (
        Annotated[str, Meta(description="of a failed one: the one that serves all the same")]
        | UnsetType
    ) = UNSET
    next_actions: list[str] | UnsetType = UNSET
    restarts: int | UnsetType = UNSET  # this and what follows: of one that is crash-looping
    exit_code: int | UnsetType = UNSET
    out_of_memory: bool | UnsetType = UNSET
    next_try_at: Time | UnsetType = UNSET


class TopUpBody(Body, frozen=True, kw_only=True):
    """How many credits to buy; without a body, or an amount, the least there is."""

    amount_usd: Decimal | None = None


class ToppedUp(Body, frozen=True, kw_only=True):
    """A payment that was credited: with so much, also when it had been before."""

    credited_usd: float
    balance_usd: float
    chain_id: int
    tx_hash: str


class ProjectItem(CamelBody, frozen=True, kw_only=True):
    """One project; `url` is null without a successful deployment."""

    id: str
    name: str
    display_name: str
    description: str
    status: ProjectStatus
    url: str | None
    created_at: Time


class ProjectList(Body, frozen=True, kw_only=True):
    """The projects of a wallet, oldest first."""

    wallet: str
    count: int
    projects: list[ProjectItem]


class ProjectDeleted(CamelBody, frozen=True, kw_only=True):
    """A project that is gone."""

    project_id: str
    status: Literal["deleted"] = "deleted"


class TokenBalance(Body, frozen=True, kw_only=True):
    """What an address holds of one token; `balance` is `balance_raw` with the decimal point."""

    token: str
    symbol: str
    address: str
    balance: str
    balance_raw: str
    decimals: int


class Balances(Body, frozen=True, kw_only=True):
    """The token balances of an address on one chain."""

    address: str
    chain: str
    chain_id: int
    balances: list[TokenBalance]


class ChainItem(Body, frozen=True, kw_only=True):
    """A chain that payments are taken on."""

    chain: str
    chain_id: int
    tokens: list[str]


class ChainList(Body, frozen=True, kw_only=True):
    """The chains that payments are taken on."""

    chains: list[ChainItem]


class Health(Body, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["ok"] = "ok"


class DomainBody(Body, frozen=True, kw_only=True):
    """A domain that is to lead to a project."""

    domain: Annotated[str, Meta(description="a host name; Unicode is folded to punycode")]


class DnsRecord(Body, frozen=True, kw_only=True):
    """A DNS record to set."""

    type: Literal["TXT", "CNAME"]
    name: str
    value: str


class DomainItem(Body, frozen=True, kw_only=True):
    """A domain of a project; `problem` is what the last look at its TXT record found."""

    domain: str
    status: DomainStatus
    url: str | None
    problem: str
    records: Annotated[list[DnsRecord], Meta(description="the TXT record proves, the other leads")]
    next_actions: list[str]
    created_at: Time
    verified_at: Time | None
    checked_at: Time | None
    next_check_at: Annotated[
        str | None, Meta(description="when it is looked at by itself; null: given up")
    ]


class DomainList(Body, frozen=True, kw_only=True):
    """The domains of a project, oldest first."""

    project_id: str = msgspec.field(name="projectId")
    domains: list[DomainItem]


class DomainRemoved(Body, frozen=True, kw_only=True):
    """A domain that leads nowhere any more."""

    domain: str
    status: Literal["removed"] = "removed"


class WebhookBody(Body, frozen=True, kw_only=True):
    """Where a wallet's events are to be sent."""

    url: Annotated[str, Meta(description="https://, and a host with public addresses")]


class WebhookMade(Body, frozen=True, kw_only=True):
    """A webhook, with the secret that signs what it is sent: shown this once."""

    url: str
    secret: Annotated[str, Meta(description="whsec_ and base64, as Standard Webhooks has it")]


class LastDelivery(Body, frozen=True, kw_only=True):
    """What became of the delivery that was tried last."""

    status: DeliveryStatus
    attempts: int
    error: str | None


class WebhookShown(Body, frozen=True, kw_only=True):
    """A webhook and how its deliveries go; `waiting` counts the events that wait for theirs."""

    url: str
    created_at: Time
    waiting: int
    next_attempt_at: Time | None
    last_delivery: LastDelivery | None


class WebhookRemoved(Body, frozen=True, kw_only=True):
    """A webhook that is gone."""

    status: Literal["deleted"] = "deleted"


class EventItem(Body, frozen=True, kw_only=True):
    """One event; `data` depends on its type."""

    id: str
    sequence: Annotated[int, Meta(description="counts the wallet's events, without gaps")]
    type: EventKind
    timestamp: Time
    data: dict[str, str | int | float]


class EventPage(Body, frozen=True, kw_only=True):
    """Events in their order; `last_sequence` is the `after` of the next page."""

    events: list[EventItem]
    last_sequence: int


class Redelivery(Body, frozen=True, kw_only=True):
    """An event that is sent once more."""

    event_id: str
    status: Literal["pending"] = "pending"


class Problem(Body, frozen=True, kw_only=True):
    """An error: for a person, for a machine, and what to do next."""

    error: str
    code: str
    retryable: bool
    field: str | UnsetType = UNSET
    path: str | UnsetType | None = UNSET
    looked_for: list[str] | dict[str, str] | UnsetType = UNSET
    next_actions: list[str] | UnsetType = UNSET
    payment: PaymentTold | UnsetType = UNSET
    type: str | UnsetType = UNSET  # these four of a 402, as RFC 9457 has them
    title: str | UnsetType = UNSET
    status: int | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class PaymentDemand(Problem, frozen=True, kw_only=True):
    """A 402 that says what to pay, and where."""

    amount_usd: float
    amount_token: Annotated[str, Meta(description="atomic units of the token")]
    current_credit_balance_usd: float
    active_projects: int
    pay_to: str
    payment_chain: str
    token: str
    token_address: str
    chain_id: int
    decimals: int
    supported_chains: list[ChainItem]
    expires_at: Annotated[int, Meta(description="Unix time in seconds until which it is honoured")]
    warning: str | UnsetType = UNSET
    credited_usd: float | UnsetType = UNSET


class PaymentUsed(Problem, frozen=True, kw_only=True):
    """A 409: the transaction has paid already; the ids are there if it was the caller's."""

    project_id: str | UnsetType = msgspec.field(default=UNSET, name="projectId")
    deployment_id: str | UnsetType = msgspec.field(default=UNSET, name="deploymentId")

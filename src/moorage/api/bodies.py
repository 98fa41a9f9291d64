"""The bodies of requests and answers, as the contract writes them: what OpenAPI is made from."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.deploy.deployment import DeploymentStatus
from moorage.deploy.project import ProjectStatus
from moorage.errors import FailureCause
from moorage.planning.plan import Plan, Settings


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


Stage = Annotated[
    str, Meta(extra_json_schema={"enum": [*DeploymentStatus, "restarting", "suspended"]})
]
Cause = Annotated[str, Meta(extra_json_schema={"enum": [*FailureCause, "out_of_credits"]})]


class DeploymentProgress(Body, frozen=True, kw_only=True):
    """Where a deployment stands. `endpoint` is there when `ready`, `reason` when `failed`."""

    status: Literal["deploying", "ready", "failed"]
    deployment_id: str
    deployment_status: Stage | UnsetType = UNSET
    endpoint: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    reason_code: Cause | UnsetType = UNSET
    log_tail: str | UnsetType = UNSET


class ProjectItem(CamelBody, frozen=True, kw_only=True):
    """One project; `url` is null without a successful deployment."""

    id: str
    name: str
    display_name: str
    description: str
    status: ProjectStatus
    url: str | None
    created_at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


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


class Quoted(Body, frozen=True, kw_only=True):
    """The price of a deploy, and how it would be built."""

    amount_usd: float
    amount_token: Annotated[str, Meta(description="atomic units of the token")]
    current_credit_balance_usd: float
    active_projects: int
    payment_required: bool
    pay_to: str
    payment_chain: str
    token: str
    decimals: int
    plan: Plan


class Problem(Body, frozen=True, kw_only=True):
    """An error: for a person, for a machine, and what to do next."""

    error: str
    code: str
    retryable: bool
    field: str | UnsetType = UNSET
    path: str | UnsetType | None = UNSET
    looked_for: list[str] | dict[str, str] | UnsetType = UNSET
    next_actions: list[str] | UnsetType = UNSET


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

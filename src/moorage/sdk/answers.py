"""What the gateway answers, typed. Fields this version does not know are ignored (contract §1)."""

import msgspec


class Deploying(msgspec.Struct, frozen=True, rename="camel"):
    """`POST /agent/deploy` → 200: the deployment has begun."""

    project_id: str
    deployment_id: str
    status: str = "deploying"
    message: str = ""


class SupportedChain(msgspec.Struct, frozen=True):
    """A chain the gateway takes payments on, and the tokens it takes there."""

    chain: str
    chain_id: int
    tokens: tuple[str, ...] = ()


class Quote(msgspec.Struct, frozen=True):
    """The 402 that asks to be paid. `amount_token` is atomic units of `token`, in decimal."""

    amount_usd: float
    amount_token: str
    pay_to: str
    payment_chain: str
    token: str
    decimals: int | None = None
    current_credit_balance_usd: float = 0
    active_projects: int = 0
    supported_chains: tuple[SupportedChain, ...] = ()
    warning: str | None = None


class Status(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a deployment stands: `deploying`, `ready` with `endpoint`, `failed` with `reason`."""

    status: str
    deployment_id: str
    serving_deployment_id: str | None = None  # of a failed one: what serves all the same
    next_actions: tuple[str, ...] = ()
    deployment_status: str | None = None
    endpoint: str | None = None
    reason: str | None = None
    reason_code: str | None = None
    message: str | None = None
    log_tail: str | None = None
    position: int | None = None  # in the queue; the first is begun next
    restarts: int | None = None  # this and what follows: of one that crashes again and again
    exit_code: int | None = None
    out_of_memory: bool | None = None
    next_try_at: str | None = None


class Project(msgspec.Struct, frozen=True, rename="camel"):
    """A project of the wallet. `url` is null without a successful deployment."""

    id: str
    name: str
    display_name: str = ""
    status: str = ""
    url: str | None = None
    created_at: str = ""
    description: str = ""


class ProjectShown(msgspec.Struct, frozen=True, rename="camel"):
    """A project whole. Of variables only names are told."""

    id: str
    name: str
    status: str
    display_name: str = ""
    description: str = ""
    url: str | None = None
    domains: tuple[str, ...] = ()
    created_at: str = ""
    serving_deployment_id: str | None = None
    deployment_in_progress: str | None = None
    run_env_names: tuple[str, ...] = ()
    build_var_names: tuple[str, ...] = ()
    health_path: str = "/"
    volume: bool = False
    asleep: bool = False
    burn_per_hour_usd: float = 0  # now
    price_per_hour_usd: float = 0  # whenever it runs
    suspended_because: str | None = None
    blocked_reason: str | None = None


class ProjectChanged(msgspec.Struct, frozen=True, rename="camel"):
    """A project that was changed; with a deployment to follow where the app is started anew."""

    project_id: str
    status: str
    deployment_id: str | None = None
    message: str = ""


class Projects(msgspec.Struct, frozen=True):
    """The wallet's projects."""

    wallet: str
    count: int
    projects: tuple[Project, ...]


class DeploymentItem(msgspec.Struct, frozen=True, rename="camel"):
    """One deployment of a project's list."""

    id: str
    status: str
    origin: str = "upload"
    copy_of: str | None = None
    created_at: str = ""
    ended_at: str | None = None
    is_serving: bool = False
    can_roll_back: bool = False
    reason: str | None = None
    reason_code: str | None = None


class Deployments(msgspec.Struct, frozen=True, rename="camel"):
    """A page of a project's deployments, newest first."""

    project_id: str
    deployments: tuple[DeploymentItem, ...]
    next: str | None = None


class Cancelled(msgspec.Struct, frozen=True, rename="camel"):
    """A deployment that was ended before it was ready."""

    project_id: str
    deployment_id: str
    status: str = "failed"
    reason_code: str = "cancelled"


class LogLine(msgspec.Struct, frozen=True):
    """One line of a log; `stream` is out, err or gateway. Print it through `printable` alone."""

    time: str | None
    stream: str
    text: str


class LogPage(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Lines of a log, oldest first; `next` is the `after` of the page behind.

    Once `ended`, nothing can come behind it; what is not `kept` any more has no lines.
    """

    project_id: str = ""
    deployment_id: str = ""
    kind: str = ""
    lines: tuple[LogLine, ...]
    next: str
    ended: bool = False
    kept: bool = True


class BurningProject(msgspec.Struct, frozen=True):
    """A project that burns credits now."""

    project_id: str = msgspec.field(name="projectId")
    burn_per_hour_usd: float
    burn_per_hour_micro_usd: int = 0


class CreditEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change of a wallet's balance; what is taken is negative."""

    id: str
    kind: str
    amount_usd: float
    amount_micro_usd: int
    at: str
    project_id: str | None = msgspec.field(default=None, name="projectId")
    chain: str | None = None
    tx_hash: str | None = None


class BuildAllowance(msgspec.Struct, frozen=True):
    """Build time that payments allow; what is beyond burns credits by the second."""

    allowed_seconds: int
    used_seconds: int
    left_seconds: int
    beyond_per_minute_usd: float


class Credits(msgspec.Struct, frozen=True):
    """A wallet's credits; `runs_out_at` is null when nothing burns them."""

    wallet: str
    balance_usd: float
    balance_micro_usd: int
    burn_per_hour_usd: float
    burn_per_hour_micro_usd: int
    runs_out_at: str | None
    burning: tuple[BurningProject, ...]
    ledger: tuple[CreditEntry, ...]
    next: str | None = None
    held_usd: float = 0
    build_allowance: BuildAllowance | None = None


class ToppedUp(msgspec.Struct, frozen=True):
    """A payment that was credited, now or before, and the balance there was then."""

    credited_usd: float
    balance_usd: float
    chain_id: int
    tx_hash: str


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a wallet; `data` depends on its type."""

    id: str
    sequence: int
    type: str
    timestamp: str
    data: dict[str, str | int | float]


class EventPage(msgspec.Struct, frozen=True):
    """Events in their order; `last_sequence` is the `after` of the next page."""

    events: tuple[Event, ...]
    last_sequence: int


class WebhookMade(msgspec.Struct, frozen=True):
    """A webhook, with the secret that signs what it is sent: shown this once."""

    url: str
    secret: str


class LastDelivery(msgspec.Struct, frozen=True):
    """What became of the delivery that was tried last."""

    status: str
    attempts: int
    error: str | None = None


class WebhookShown(msgspec.Struct, frozen=True):
    """A webhook and how its deliveries go; `waiting` counts the events that wait for theirs."""

    url: str
    created_at: str
    waiting: int
    next_attempt_at: str | None = None
    last_delivery: LastDelivery | None = None


class WebhookRemoved(msgspec.Struct, frozen=True):
    """A webhook that is gone."""

    status: str


class DnsRecord(msgspec.Struct, frozen=True):
    """A DNS record to set."""

    type: str
    name: str
    value: str


class Domain(msgspec.Struct, frozen=True):
    """A domain of a project; `problem` is what the last look at its TXT record found."""

    domain: str
    status: str
    url: str | None = None
    problem: str = ""
    records: tuple[DnsRecord, ...] = ()
    next_actions: tuple[str, ...] = ()
    created_at: str = ""
    verified_at: str | None = None
    checked_at: str | None = None
    next_check_at: str | None = None


class Domains(msgspec.Struct, frozen=True):
    """The domains of a project."""

    domains: tuple[Domain, ...]
    project_id: str = msgspec.field(default="", name="projectId")


class DomainRemoved(msgspec.Struct, frozen=True):
    """A domain that leads nowhere any more."""

    domain: str
    status: str


class Used(msgspec.Struct, frozen=True, rename="camel"):
    """What a project's app used in a stretch of time; `status` counts requests, `2xx` and so on."""

    requests: int
    bytes_in: int
    bytes_out: int
    cpu_ms: int
    memory_byte_seconds: int
    memory_peak_bytes: int
    status: dict[str, int] = {}


class HourUsed(Used, frozen=True, rename="camel", kw_only=True):
    """What it used in an hour, which is named by its beginning."""

    hour: str


class Load(msgspec.Struct, frozen=True, rename="camel"):
    """What an app uses now; `cpu_millis` is thousandths of a core."""

    cpu_millis: int
    memory_bytes: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a project used, in all and by the hour."""

    project_id: str = msgspec.field(default="", name="projectId")
    from_: str = msgspec.field(name="from")
    to: str
    now: Load | None = None  # None while its app does not run
    totals: Used
    hours: tuple[HourUsed, ...] = ()


class Deleted(msgspec.Struct, frozen=True, rename="camel"):
    """A project that is gone."""

    project_id: str
    status: str


class TokenBalance(msgspec.Struct, frozen=True):
    """What an address holds of a token; `balance_raw` is atomic units in decimal."""

    token: str
    symbol: str
    address: str
    balance: str
    balance_raw: str
    decimals: int


class Balances(msgspec.Struct, frozen=True):
    """An address's token balances on one chain."""

    address: str
    chain: str
    chain_id: int
    balances: tuple[TokenBalance, ...]


class Chains(msgspec.Struct, frozen=True):
    """The chains the gateway takes payments on."""

    chains: tuple[SupportedChain, ...]


class Health(msgspec.Struct, frozen=True):
    """`ok` when the gateway answers."""

    status: str

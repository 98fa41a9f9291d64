"""Projects: listed, shown, changed, deleted; their domains, exports, tokens and usage."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.records.access import Scope
from moorage.records.domain import DomainStatus
from moorage.records.project import Kind, ProjectStatus, TransferState
from moorage.wire.credits import Purse
from moorage.wire.delegates import Scopes
from moorage.wire.refunds import RefundShown
from moorage.wire.runs import ScheduleItem
from moorage.wire.shape import Absent, Body, CamelBody, Time, WarningItem


class LatencyItem(CamelBody, frozen=True, kw_only=True):
    """Until the app began to answer."""

    median_ms: int
    p95_ms: int
    slowest_ms: int


class UsageItem(CamelBody, frozen=True, kw_only=True):
    """What a project's app used in a stretch of time."""

    requests: int
    status: Annotated[dict[str, int], Meta(description="requests by class: 1xx to 5xx"), Absent({})]
    bytes_in: Annotated[int, Meta(description="heads, bodies and WebSockets")]
    bytes_out: Annotated[int, Meta(description="heads, bodies and WebSockets")]
    cpu_ms: Annotated[int, Meta(description="processor time")]
    memory_byte_seconds: int
    memory_peak_bytes: Annotated[int, Meta(description="highest sample")]
    latency: LatencyItem | UnsetType = UNSET
    held: Annotated[int, Meta(description="requests that waited for a start"), Absent(0)]
    held_ms: Annotated[int, Absent(0)]


class UsageHourItem(UsageItem, frozen=True, kw_only=True):
    """One hour, by its beginning; unused ones are left out."""

    hour: Time


class UsageSpanItem(UsageItem, frozen=True, kw_only=True):
    """Five minutes, by their beginning."""

    begins: Time


class LoadItem(CamelBody, frozen=True, kw_only=True):
    """What an app that runs uses now."""

    cpu_millis: Annotated[int, Meta(description="thousandths of a core")]
    memory_bytes: int


class StateItem(CamelBody, frozen=True, kw_only=True):
    """What one state cost."""

    state: Literal["awake", "asleep"]
    ms: int
    burned_usd: float


class ProjectUsage(CamelBody, frozen=True, kw_only=True):
    """What a project used in some time."""

    project_id: Annotated[str, Absent("")]
    from_: Time = msgspec.field(name="from")
    to: Time
    now: Annotated[
        LoadItem | None,
        Meta(description="null while no app runs, and just after its start"),
        Absent(None),
    ]
    totals: UsageItem
    states: Annotated[list[StateItem], Absent([])]
    hours: Annotated[list[UsageHourItem], Absent([])]
    spans: list[UsageSpanItem] | UnsetType = UNSET


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
    url: Annotated[str | None, Absent(None)]
    problem: Annotated[str, Absent("")]
    records: Annotated[
        list[DnsRecord], Meta(description="the TXT record proves, the other leads"), Absent([])
    ]
    next_actions: Annotated[list[str], Absent([])]
    created_at: Annotated[Time, Absent("")]
    verified_at: Annotated[Time | None, Absent(None)]
    checked_at: Annotated[Time | None, Absent(None)]
    next_check_at: Annotated[
        str | None, Meta(description="when it is checked next; null: no more"), Absent(None)
    ]


class DomainList(Body, frozen=True, kw_only=True):
    """The domains of a project, oldest first."""

    project_id: Annotated[str, Absent("")] = msgspec.field(name="projectId")
    domains: list[DomainItem]


class DomainRemoved(Body, frozen=True, kw_only=True):
    """A domain that is removed."""

    domain: str
    status: Literal["removed"] = "removed"


class ExportBody(CamelBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an export is to hold."""

    public_key: (
        Annotated[
            str,
            Meta(
                description="an X25519 key in hex (RFC 7748), to which the variables are sealed "
                "by HPKE (RFC 9180); without it their values are left out",
                pattern=r"^[0-9A-Fa-f]{64}\Z",
            ),
        ]
        | UnsetType
    ) = UNSET


class ExportItem(CamelBody, frozen=True, kw_only=True):
    """An export: an archive of a project's files, volume, logs and variables."""

    id: str
    project_id: str
    state: Literal["making", "ready", "failed"]
    bytes: Annotated[int, Meta(description="of the archive, once it is ready"), Absent(0)] = 0
    sha256: Annotated[
        str, Meta(description="of the archive; deploys it with upload.type export"), Absent("")
    ] = ""
    url: Annotated[
        str, Meta(description="fetches the archive, for anybody who has it"), Absent("")
    ] = ""
    expires_at: Time
    reason: Annotated[str, Meta(description="why it failed"), Absent("")] = ""
    message: Annotated[str, Absent("")] = ""


class ProjectItem(CamelBody, frozen=True, kw_only=True):
    """One project; `url` is null without a successful deployment."""

    id: str
    name: str
    display_name: Annotated[str, Absent("")]
    description: Annotated[str, Absent("")]
    status: Annotated[ProjectStatus, Absent("")]
    url: Annotated[str | None, Absent(None)]
    created_at: Annotated[Time, Absent("")]
    kind: Annotated[Kind, Absent(Kind.WEB)]


class ProjectList(Body, frozen=True, kw_only=True):
    """Oldest first; `count` is of all pages."""

    wallet: str
    count: int
    projects: list[ProjectItem]
    next: str | UnsetType = UNSET


VariableNames = Annotated[list[str], Meta(description="what they hold is never told")]

SuspensionCause = Annotated[
    str,
    Meta(
        extra_json_schema={
            "enum": [
                *("out_of_credits", "limit_reached", "project_blocked", "project_paused"),
                "no_capacity",
            ]
        }
    ),
]


class ProjectShown(ProjectItem, frozen=True, kw_only=True):
    """One project whole."""

    domains: Annotated[list[str], Meta(description="hosts of your own that lead to it"), Absent([])]
    serving_deployment_id: Annotated[str | None, Absent(None)]
    deployment_in_progress: Annotated[
        str | None, Meta(description="the deployment under way; poll its status"), Absent(None)
    ]
    run_env_names: Annotated[VariableNames, Absent([])]
    build_var_names: Annotated[VariableNames, Absent([])]
    health_path: Annotated[str, Absent("/")]
    size: Annotated[str, Absent("standard")]
    volume: Annotated[bool, Meta(description="whether it has a /data that is kept"), Absent(False)]
    asleep: Annotated[bool, Meta(description="idle and stopped; a request wakes it"), Absent(False)]
    sleep_after_seconds: Annotated[
        int | None, Meta(description="idle so long it sleeps; null: never"), Absent(None)
    ]
    burn_per_hour_usd: Annotated[float, Meta(description="what it burns now"), Absent(0.0)]
    price_per_hour_usd: Annotated[
        float,
        Meta(description="what it burns from its first ready on, while it is not suspended"),
        Absent(0.0),
    ]
    asleep_per_hour_usd: Annotated[float, Absent(0.0)]
    suspended_because: SuspensionCause | UnsetType = UNSET
    kept_until: Time | UnsetType = UNSET  # suspended, it is deleted then
    blocked_reason: Annotated[str, Meta(description="the operator's")] | UnsetType = UNSET
    purse: Purse | UnsetType = msgspec.field(default=UNSET)  # while it lives from one of its own
    warnings: list[WarningItem] | UnsetType = UNSET
    schedules: list[ScheduleItem] | UnsetType = UNSET


class ChangeBody(CamelBody, frozen=True, kw_only=True):
    """What is to be different; null is what a project has at first."""

    display_name: (
        Annotated[str, Meta(min_length=1, max_length=100, description="for people")] | UnsetType
    ) = UNSET
    description: (
        Annotated[str, Meta(max_length=2048, description="for people")] | UnsetType | None
    ) = UNSET
    health_path: (
        Annotated[str, Meta(description="what must answer below 500", pattern=r"^/[!-~]*\Z")]
        | UnsetType
        | None
    ) = UNSET
    size: Annotated[str, Meta(description="of GET /agent/sizes")] | UnsetType | None = UNSET
    run_envs: (
        Annotated[
            dict[str, str | None],
            Meta(description="variables of the running app, null takes one away"),
        ]
        | UnsetType
    ) = UNSET
    build_vars: (
        Annotated[
            dict[str, str | None], Meta(description="variables of builds, from the next upload on")
        ]
        | UnsetType
    ) = UNSET
    volume: (
        Annotated[bool, Meta(description="true gives it a /data; none is taken away")] | UnsetType
    ) = UNSET
    sleep_after_seconds: (
        Annotated[int, Meta(description="idle so long it sleeps; null: never")] | UnsetType | None
    ) = UNSET
    restart: Annotated[bool, Meta(description="restart the app, changed or not")] | UnsetType = (
        UNSET
    )
    paused: (
        Annotated[bool, Meta(description="alone: true stops the app and its burn, false resumes")]
        | UnsetType
    ) = UNSET


class ProjectChanged(CamelBody, frozen=True, kw_only=True):
    """A project that was changed; `deploying` with the id of a deployment to poll."""

    project_id: str
    deployment_id: str | UnsetType = UNSET
    status: Literal["deploying", "changed"]
    message: Annotated[str, Absent("")]


class ProjectDeleted(CamelBody, frozen=True, kw_only=True):
    """A project that is gone."""

    project_id: str
    status: Literal["deleted"] = "deleted"
    volume_deleted: Annotated[
        bool | UnsetType, Meta(description="whether a /data went with it, for good")
    ] = msgspec.field(default=UNSET, name="volume_deleted")
    credits_usd: Annotated[float | UnsetType, Meta(description="what is left to the wallet")] = (
        msgspec.field(default=UNSET, name="credits_usd")
    )
    refund: RefundShown | UnsetType = UNSET
    refund_refused: Annotated[
        str | UnsetType,
        Meta(description="its code: all credits stay; balance_unknown: see GET /agent/refunds"),
    ] = msgspec.field(default=UNSET, name="refund_refused")
    message: str | UnsetType = UNSET


class ProjectAdopted(CamelBody, frozen=True, kw_only=True):
    """A project that shares its wallet's credits; what its purse had is part of them."""

    project_id: str
    status: Literal["adopted"] = "adopted"
    moved_usd: Annotated[float, Meta(description="below zero: what it owed")] = msgspec.field(
        name="moved_usd"
    )
    credits_usd: float = msgspec.field(name="credits_usd")
    burn_per_hour_usd: Annotated[float, Meta(description="of all that share them")] = msgspec.field(
        name="burn_per_hour_usd"
    )
    runs_out_at: str | None = msgspec.field(name="runs_out_at")


class ManageTokenBody(CamelBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token is to be good for; by itself everything, as long as its project is there."""

    scopes: Scopes | UnsetType = UNSET
    days: Annotated[int, Meta(ge=1, le=400, description="how long")] | UnsetType = UNSET


class ManageTokenMade(CamelBody, frozen=True, kw_only=True):
    """A token for `Authorization: Bearer`, shown once: it reads and changes this project alone."""

    project_id: str
    manage_token: str = msgspec.field(name="manage_token")
    scopes: Annotated[list[Scope], Absent([*Scope])]
    expires_at: Time | UnsetType = UNSET


class ManageTokensRevoked(CamelBody, frozen=True, kw_only=True):
    """No token that a project had is valid any more."""

    project_id: str
    revoked: Annotated[int, Meta(description="how many there were")]


class TransferBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An offer of a project to another wallet."""

    to: Annotated[str, Meta(description="the wallet that may take it")]
    with_purse: Annotated[bool, Meta(description="whether the credits of its purse go along")] = (
        False
    )
    with_variables: Annotated[
        bool, Meta(description="false: they are removed, and its app is started without them")
    ] = False
    not_after: (
        Annotated[datetime, Meta(tz=True, description="in 7 days unless given, 30 at most")]
        | UnsetType
    ) = UNSET


class TransferExpected(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must come along."""

    purse_usd: Annotated[Decimal, Meta(description="credits in its purse, at least")]


class AcceptBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An acceptance of an offer."""

    expect: Annotated[TransferExpected, Meta(description="else nothing changes")] | UnsetType = (
        UNSET
    )


class TransferItem(Body, frozen=True, kw_only=True):
    """An offer of a project: accept it by `POST /agent/transfers/{offerId}/accept`, as `to`."""

    offer: str
    project_id: str = msgspec.field(name="projectId")
    name: str
    from_: str = msgspec.field(name="from")
    to: str
    with_purse: bool
    with_variables: bool
    state: TransferState
    created_at: Time
    not_after: Time
    price_per_hour_usd: Annotated[float, Meta(description="what it burns while it runs")]
    purse_usd: Annotated[
        float | UnsetType, Meta(description="what goes along, as things are now")
    ] = UNSET


class TransferList(Body, frozen=True, kw_only=True):
    """What a wallet has offered or was offered, the newest first."""

    transfers: list[TransferItem]


class ProjectTransferred(CamelBody, frozen=True, kw_only=True):
    """A project that has another wallet."""

    project_id: str
    name: str
    status: str
    wallet: str
    message: str

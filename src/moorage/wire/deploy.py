"""A deploy: what is asked for, what it would cost, and that it has begun."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.planning.plan import Confidence, Plan, Risk, Settings
from moorage.records.project import AskedPurse, Kind
from moorage.wire.credits import BuildAllowance
from moorage.wire.problems import Bought, PaymentTold
from moorage.wire.projects import VariableNames
from moorage.wire.shape import Absent, Body, CamelBody, WarningItem


class UploadedFile(Body, frozen=True, kw_only=True):
    """One file of an upload."""

    path: Annotated[str, Meta(description="relative, `/`-separated", min_length=1)]
    content: Annotated[str, Meta(description="base64")]


class FilesUpload(Body, frozen=True, kw_only=True, tag_field="type", tag="files"):
    """An upload of single files."""

    files: Annotated[list[UploadedFile], Meta(min_length=1, description="5,000 at most")]


class ZipUpload(Body, frozen=True, kw_only=True, tag_field="type", tag="zip"):
    """An upload of one zip archive."""

    data: Annotated[str, Meta(description="base64 of the archive")]
    filename: Annotated[str, Meta(description="for people; no effect")] = ""


_Sha256 = Annotated[str, Meta(description="64 hex digits", pattern=r"^[0-9A-Fa-f]{64}\Z")]


class DigestUpload(Body, frozen=True, kw_only=True, tag_field="type", tag="digest"):
    """An upload that this wallet stored before with `PUT /agent/uploads/{sha256}`."""

    sha256: _Sha256


class ExportUpload(Body, frozen=True, kw_only=True, tag_field="type", tag="export"):
    """An export: one of this wallet's, or stored with `PUT /agent/uploads/{sha256}` as it is."""

    sha256: _Sha256


class UploadStored(Body, frozen=True, kw_only=True):
    """The upload is stored, for any number of deploys and quotes."""

    sha256: _Sha256
    bytes: int
    expires_at: Annotated[int, Meta(description="Unix time in seconds until which it is kept")]
    upload: DigestUpload


class DeployPurse(AskedPurse, frozen=True, kw_only=True, omit_defaults=True):
    """The purse of a new project: what it burns first, and its limit."""


class DeployBody(CamelBody, frozen=True, kw_only=True):
    """What is to be deployed (contract 1.2)."""

    unique_name: Annotated[
        str,
        Meta(
            description="a DNS label, unique across the gateway; upper case is folded",
            pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{2,30}[A-Za-z0-9]\Z",
        ),
    ]
    display_name: Annotated[str, Meta(min_length=1, max_length=100, description="for people")]
    description: Annotated[str, Meta(max_length=2048, description="for people")] = ""
    months: Annotated[
        int, Meta(ge=1, le=24, description="multiplies the price; a redeploy takes none")
    ] = 1
    settings: Annotated[Settings, Meta(description="merged over the defaults")] = msgspec.field(
        default_factory=Settings
    )
    upload: Annotated[
        FilesUpload | ZipUpload | DigestUpload | ExportUpload, Meta(description="the app's files")
    ]
    purse: Annotated[
        DeployPurse | None, Meta(description="of a new project; a redeploy leaves it as it is")
    ] = None
    discard_written: Annotated[
        bool | None,
        Meta(description="what the running version wrote may be lost; false: never, 409"),
    ] = msgspec.field(name="discard_written", default=None)


class Deployed(CamelBody, frozen=True, kw_only=True):
    """A deployment that was accepted."""

    project_id: str
    deployment_id: str
    status: Annotated[Literal["deploying"], Absent("deploying")] = "deploying"
    message: Annotated[str, Absent("")]
    payment: PaymentTold | UnsetType = UNSET
    warnings: list[WarningItem] | UnsetType = UNSET
    # The next three where the payment alone says whose the request is.
    wallet: str | UnsetType = UNSET
    status_url: str | UnsetType = msgspec.field(name="status_url", default=UNSET)
    manage_token: (
        Annotated[str, Meta(description="shown once, for `Authorization: Bearer`")] | UnsetType
    ) = msgspec.field(name="manage_token", default=UNSET)


class Understood(CamelBody, frozen=True, kw_only=True):
    """The project's own configuration with the request's settings."""

    run_env_names: VariableNames
    build_var_names: VariableNames
    volume: Annotated[bool, Meta(description="whether it has a /data that is kept")]
    health_path: str
    size: str
    port: int
    months: int
    directory: Annotated[str, Meta(description="the app's, below the upload; empty is all of it")]
    install_command: str | None
    build_command: str | None
    run_command: str
    release_command: str | None
    kind: Kind


class Quoted(Body, frozen=True, kw_only=True):
    """What a deploy costs, and how it would be built; `warning` as in the 402 it would get."""

    amount_usd: Annotated[
        float, Meta(description="0 for a redeploy while there are credits; else as a 402 says it")
    ]
    amount_token: Annotated[str, Meta(description="atomic units of the token")]
    current_credit_balance_usd: float
    active_projects: int
    payment_required: bool
    warning: str | UnsetType = UNSET
    pay_to: str
    payment_chain: str
    token: str
    decimals: int
    build_allowance: Annotated[BuildAllowance, Meta(description="once this is paid")]
    message: Annotated[str, Absent("")]
    buys: Annotated[
        Bought | None,
        Meta(description="what the amount buys, with the credits on hand"),
        Absent(None),
    ]
    understood: Annotated[Understood | None, Absent(None)]
    warnings: list[WarningItem] | UnsetType = UNSET
    confidence: Annotated[
        Confidence, Meta(description="that it is built and answers"), Absent(Confidence.HIGH)
    ]
    risks: (
        Annotated[
            list[Risk],
            Meta(description="what may keep it from being built, started or answering"),
        ]
        | UnsetType
    ) = UNSET
    plan: Plan

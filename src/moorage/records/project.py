"""A project: its name, its owner, its states, and its variables."""

import secrets
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from moorage.errors import InvalidField
from moorage.money import NOTHING, MicroUsd
from moorage.records.size import STANDARD, SizePrice

MAX_ENTRIES = 200
MAX_VALUE_BYTES = 32_768
MAX_BYTES = 524_288
"""The sum of names and values of one kind, in UTF-8. That fits into a deploy's body, and into the
2 MiB that Linux allows for a program's arguments and environment (execve(2))."""

Changes = Mapping[str, str | None]
"""Values by name; None removes the variable."""


class Variables(msgspec.Struct, frozen=True):
    """The variables of a project or of a deployment."""

    build: dict[str, str] = {}
    run: dict[str, str] = {}

    def __repr__(self) -> str:
        """The names, without values, which may be secrets."""
        return f"Variables(build={sorted(self.build)}, run={sorted(self.run)})"

    def changed(self, *, build: Changes, run: Changes, field: str = "") -> "Variables":
        """Returns these variables with the changes. Raises InvalidField when they are too many.

        `field` is put before `buildVars` and `runEnvs` in the field's name.
        """
        return Variables(
            build=_merged(f"{field}buildVars", self.build, build),
            run=_merged(f"{field}runEnvs", self.run, run),
        )

    def with_secrets(self, names: Iterable[str]) -> "Variables":
        """Returns these variables with a random value for each of the names that has none.

        It has 32 characters, as Laravel insists on, and 192 bits. Names for which there is no
        place are left out: beyond the limits, no later change would be accepted.
        """
        run = dict(self.run)
        left = MAX_BYTES - _size(run)
        for name in names:
            value = secrets.token_urlsafe(24)
            size = _size({name: value})
            if name not in run and len(run) < MAX_ENTRIES and size <= left:
                run[name], left = value, left - size
        return msgspec.structs.replace(self, run=run)


def _merged(field: str, present: Mapping[str, str], changes: Changes) -> dict[str, str]:
    merged = {**present, **changes}
    left = {name: value for name, value in merged.items() if value is not None and name != "PORT"}
    if len(left) > MAX_ENTRIES:
        raise InvalidField(field, f"must have at most {MAX_ENTRIES} entries, with those there are")
    if _size(left) > MAX_BYTES:
        problem = f"must take at most {MAX_BYTES:,} bytes together, with those there are"
        raise InvalidField(field, problem)
    return left


def _size(variables: Mapping[str, str]) -> int:
    return sum(len(name) + len(value.encode()) for name, value in variables.items())


class AskedPurse(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The purse of a new project: what it burns first, and its limit."""

    usd: Annotated[Decimal, Meta(description="to move from the wallet's credits into it")] = (
        Decimal(0)
    )
    shared: Annotated[
        bool, Meta(description="whether it burns the wallet's credits once that is empty")
    ] = True
    limit_usd_month: Annotated[
        Decimal | None, Meta(description="the most that it burns in a calendar month (UTC)")
    ] = None


class ProjectStatus(StrEnum):
    """Where a project stands, in the contract's words (1.4)."""

    QUEUED = "queued"  # its first deployment waits for a worker
    BUILDING = "building"
    DEPLOYING = "deploying"  # built, starting
    ACTIVE = "active"  # an app serves its address
    FAILED = "failed"  # no deployment has succeeded
    SUSPENDED = "suspended"  # out of credits or of disk, paused, or blocked: stopped and kept
    DELETING = "deleting"
    DELETED = "deleted"


SHARING_STATUSES = (
    ProjectStatus.QUEUED,
    ProjectStatus.BUILDING,
    ProjectStatus.DEPLOYING,
    ProjectStatus.ACTIVE,
)
"""What the contract calls active: those that share a wallet's credits."""


class Kind(StrEnum):
    """What an app is for."""

    WEB = "web"  # it answers HTTP at an address
    WORKER = "worker"  # it listens on no port, has no address, and never sleeps


NEVER_SLEEPS = "must be null: a worker never sleeps, as no request would wake it"


class Project(msgspec.Struct, frozen=True):
    """One row of `projects`."""

    id: str
    wallet: str
    unique_name: str
    display_name: str
    description: str
    status: ProjectStatus
    monthly_price_micro_usd: MicroUsd
    serving_deployment_id: str | None
    created_at_ms: int
    suspended_at_ms: int | None = None
    blocked_reason: str | None = None  # why the operator has it suspended
    asleep_since_ms: int | None = None
    no_space_since_ms: int | None = None  # suspended because the machine's disk was nearly full
    paused_at_ms: int | None = None  # suspended by its owner since then
    down_since_ms: int | None = None  # its app should run and does not
    lost_since_ms: int | None = None  # the same by the machine's fault, in billed time
    health_path: str = "/"  # of the next deployment
    variables: str = ""  # of the next deployment, sealed
    volume: bool = False
    volume_after: str | None = None  # the deployment that served before it, and runs without it
    volume_missing: bool = False  # its volume is to be made: it is a new one, or was found gone
    uncertified_since_ms: int | None = None  # served over plain HTTP, and free, since then
    months: int = 1  # of running for which its first price holds
    asleep_price_micro_usd: MicroUsd = NOTHING  # of a month asleep, as the other is of one awake
    sleep_after_seconds: int | None = None  # how long it idles before it sleeps; None: for ever
    kind: Kind = Kind.WEB  # of what serves, or is to serve first
    size: str = STANDARD  # that it is billed for
    kept_prices: str = "{}"  # JSON: a SizePrice by each size that it has left

    @property
    def price(self) -> SizePrice:
        """What it pays for its size."""
        return SizePrice(self.monthly_price_micro_usd, self.asleep_price_micro_usd)

    @property
    def makes_volume(self) -> bool:
        """Whether a volume that is not there is made; otherwise it is lost.

        One that was found gone is made only once the operator has resumed its project.
        """
        if self.serving_deployment_id is None or self.volume_begins:
            return True
        return self.volume_missing and self.blocked_reason is None

    @property
    def volume_begins(self) -> bool:
        """Whether its volume begins with the next version that serves."""
        return (
            self.volume
            and self.volume_after is not None
            and (self.volume_after == self.serving_deployment_id)
        )


class TransferState(StrEnum):
    """Where an offer of a project stands."""

    OPEN = "open"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    ACCEPTED = "accepted"


class Transfer(msgspec.Struct, frozen=True):
    """One row of `transfers`: an offer of a project to another wallet."""

    id: str
    project_id: str
    giver: str
    taker: str
    with_purse: bool  # whether the credits of its purse go with it
    with_variables: bool
    created_at_ms: int
    not_after_ms: int
    accepted_at_ms: int | None = None
    withdrawn_at_ms: int | None = None

    def state(self, now_ms: int) -> TransferState:
        """Returns where it stands at a time."""
        if self.accepted_at_ms is not None:
            return TransferState.ACCEPTED
        if self.withdrawn_at_ms is not None:
            return TransferState.WITHDRAWN
        return TransferState.OPEN if now_ms <= self.not_after_ms else TransferState.EXPIRED

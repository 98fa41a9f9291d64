"""Queries over quotes, and over what they promise to projects to come."""

import msgspec
from sqlalchemy import (
    BindParameter,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    null,
    select,
    update,
)

from moorage.money import MicroUsd
from moorage.records.deployment import UNDER_WAY
from moorage.records.payments import Quote
from moorage.records.project import SHARING_STATUSES
from moorage.storage.database import (
    Source,
    Statement,
    Transaction,
    columns_of,
    given,
    insert_of,
)
from moorage.storage.schema import deployments, projects, quotes

_living = projects.c.deleted_at_ms.is_(None)
_awake = and_(
    _living,
    projects.c.asleep_since_ms.is_(None),
    projects.c.status.in_([status.value for status in SHARING_STATUSES]),
)
_MADE = Statement(  # each part by an index: every 402 asks
    select(
        deployments.c.id,
        projects.c.id,
        projects.c.volume,
        deployments.c.size,
        # With which its project counts: null for one that runs, and is not among the awake.
        case((_awake, projects.c.size), (~_living, deployments.c.size), else_=null()),
        projects.c.size,
        literal(0),
    )
    .join_from(deployments, projects)
    .where(deployments.c.status.in_([status.value for status in UNDER_WAY]))
    .union_all(
        select(null(), null(), null(), projects.c.size, null(), null(), func.count())
        .where(_awake, projects.c.id != bindparam("without"))
        .group_by(projects.c.size)
    )
)


class Coming(msgspec.Struct, frozen=True):
    """A deployment that is neither ready nor over."""

    deployment_id: str
    project_id: str
    volume: bool  # whether the project has one, or will
    size: str
    in_place_of: str | None
    """The size with which its project counts already; None: it does not."""
    before: str
    """The size that its project has now."""


class Promised(msgspec.Struct, frozen=True):
    """What was admitted to this gateway's machines, in all."""

    awake: dict[str, int]
    """How many projects of each size have an app that runs or is about to."""
    coming: list[Coming]

    @property
    def running(self) -> int:
        """How many projects have an app that runs or is about to; sleeping, suspended and failed
        ones count only while a deployment is under way.
        """
        new = {each.project_id for each in self.coming if each.in_place_of is None}
        return sum(self.awake.values()) + len(new)


async def promised(source: Source, *, without: str = "") -> Promised:
    """Returns what was promised; the project `without` does not count as running."""
    rows = await source.all(_MADE, without=without)
    return Promised(
        awake={size: count for *_, size, _, _, count in rows if count},
        coming=[
            Coming(made, of, bool(volume), size, size if of == without else counted, before)
            for made, of, volume, size, counted, before, _ in rows
            if made is not None
        ],
    )


_COLUMNS = columns_of(quotes, Quote)
_now: BindParameter[int] = bindparam("now_ms")

_LIVE_FOR_WALLET = Statement(
    select(*_COLUMNS)
    .where(*given(quotes, "wallet", "unique_name"), quotes.c.expires_at_ms > _now)
    .order_by(quotes.c.expires_at_ms.desc())
)
_INSERT = insert_of(quotes)
_RECEIVE = Statement(
    update(quotes)
    .where(*given(quotes, wallet="of_wallet", unique_name="of_name"), quotes.c.expires_at_ms > _now)
    .values(received_micro_usd=quotes.c.received_micro_usd + bindparam("amount"))
)
_RELEASE = Statement(delete(quotes).where(*given(quotes, "wallet", "unique_name")))
_PURGE = Statement(delete(quotes).where(quotes.c.expires_at_ms <= bindparam("before_ms")))


async def live(source: Source, *, wallet: str, unique_name: str, now_ms: int) -> list[Quote]:
    """Returns the wallet's unexpired quotes for this name, the last to expire first."""
    return await source.records(
        Quote, _LIVE_FOR_WALLET, wallet=wallet, unique_name=unique_name, now_ms=now_ms
    )


async def add(tx: Transaction, quote: Quote) -> None:
    """Stores a new quote."""
    await tx.execute(_INSERT, **msgspec.structs.asdict(quote))


async def receive(
    tx: Transaction, *, wallet: str, unique_name: str, amount: MicroUsd, now_ms: int
) -> None:
    """Adds `amount` to what the wallet's quotes for this name have received."""
    await tx.execute(_RECEIVE, of_wallet=wallet, of_name=unique_name, amount=amount, now_ms=now_ms)


async def release(tx: Transaction, *, wallet: str, unique_name: str) -> None:
    """Deletes the wallet's quotes for this name, which its project now has."""
    await tx.execute(_RELEASE, wallet=wallet, unique_name=unique_name)


async def purge(tx: Transaction, *, before_ms: int) -> int:
    """Deletes quotes that expired by `before_ms`; returns how many."""
    return await tx.execute(_PURGE, before_ms=before_ms)

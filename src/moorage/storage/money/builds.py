"""Queries over build runs: how long builds took, and what was charged for them."""

import msgspec
from sqlalchemy import bindparam, func, insert, select, update

from moorage.money import NOTHING, MicroUsd
from moorage.storage.database import Source, Statement, Transaction, struct_of
from moorage.storage.money.accounts import purse_in
from moorage.storage.money.purses import unshared
from moorage.storage.schema import build_runs, purses


class BuildRun(msgspec.Struct, frozen=True):
    """One attempt to build a deployment. `billed_ms` of `ran_ms` were beyond the allowance."""

    id: str
    wallet: str
    project_id: str
    deployment_id: str
    monthly_price_micro_usd: MicroUsd
    started_at_ms: int
    ran_ms: int = 0
    billed_ms: int = 0
    charged_micro_usd: MicroUsd = NOTHING


_ADD = Statement(
    insert(build_runs).values({name: bindparam(name) for name in BuildRun.__struct_fields__})
)
_BOOK = Statement(
    update(build_runs)
    .where(build_runs.c.id == bindparam("run_id"))
    .values(
        ran_ms=bindparam("ran"), billed_ms=bindparam("billed"), charged_micro_usd=bindparam("taken")
    )
)
_ONE = Statement(
    select(*(build_runs.c[name] for name in BuildRun.__struct_fields__)).where(
        build_runs.c.id == bindparam("run_id")
    )
)
_LAST_OF = Statement(
    select(*(build_runs.c[name] for name in BuildRun.__struct_fields__))
    .where(
        build_runs.c.wallet == bindparam("wallet"),
        build_runs.c.deployment_id == bindparam("deployment_id"),
    )
    .order_by(build_runs.c.started_at_ms.desc())
    .limit(1)
)
_free = func.coalesce(func.sum(build_runs.c.ran_ms - build_runs.c.billed_ms), 0)
_FREE_OF_WALLET = Statement(
    select(_free)
    .outerjoin(purses, unshared(build_runs.c.project_id))
    .where(build_runs.c.wallet == bindparam("wallet"), purses.c.project_id.is_(None))
)
_FREE_OF_PURSE = Statement(
    select(_free)
    .join(purses, unshared(build_runs.c.project_id))
    .where(
        purses.c.project_id == bindparam("purse"),
        build_runs.c.wallet == purses.c.wallet,  # which has an index
    )
)


async def add(tx: Transaction, run: BuildRun) -> None:
    """Records that a build begins."""
    await tx.execute(_ADD, **msgspec.structs.asdict(run))


async def book(tx: Transaction, run: BuildRun) -> None:
    """Updates how long a run has taken and what was charged; does nothing without its row."""
    await tx.execute(
        _BOOK, run_id=run.id, ran=run.ran_ms, billed=run.billed_ms, taken=run.charged_micro_usd
    )


async def one(source: Source, run_id: str) -> BuildRun | None:
    """Returns a build run, if it is stored."""
    row = await source.one(_ONE, run_id=run_id)
    return struct_of(BuildRun, row) if row else None


async def last_of(source: Source, deployment_id: str, *, wallet: str) -> BuildRun | None:
    """Returns the last build run of a deployment of this wallet, if it was ever built."""
    row = await source.one(_LAST_OF, deployment_id=deployment_id, wallet=wallet)
    return struct_of(BuildRun, row) if row else None


async def free_ms(source: Source, holder: str) -> int:
    """Returns how much of the allowance builds have used, in milliseconds.

    Those of a project with a purse of its own count for that, not for its wallet.
    """
    project_id = purse_in(holder)
    if project_id is None:
        row = await source.one(_FREE_OF_WALLET, wallet=holder)
    else:
        row = await source.one(_FREE_OF_PURSE, purse=project_id)
    return int(row[0]) if row else 0

"""Queries over a wallet's statement: the entries on its account, newest first."""

from typing import NamedTuple

from sqlalchemy import and_, bindparam, func, select

from moorage.money import MicroUsd
from moorage.storage.database import Source, Statement, substring
from moorage.storage.schema import build_runs, entries, postings, run_intervals

# After this, a posting's id has the 36 characters of a run interval's or a build's id.
_BURN = "burn:"
_BUILD = "build:"
_PAGE = Statement(
    select(
        entries.c.place,
        postings.c.id,
        postings.c.kind,
        postings.c.created_at_ms,
        entries.c.amount_micro_usd,
        func.coalesce(run_intervals.c.project_id, build_runs.c.project_id),
    )
    .join_from(entries, postings, postings.c.id == entries.c.posting_id)
    .outerjoin(
        run_intervals,
        and_(
            postings.c.kind == "burn",
            run_intervals.c.id == substring(postings.c.id, len(_BURN) + 1, 36),
        ),
    )
    .outerjoin(
        build_runs,
        and_(
            postings.c.kind == "build",
            build_runs.c.id == substring(postings.c.id, len(_BUILD) + 1, 36),
        ),
    )
    .where(entries.c.account == bindparam("account"), entries.c.place < bindparam("before"))
    .order_by(entries.c.place.desc())
    .limit(bindparam("limit"))
)


class StatementEntry(NamedTuple):
    """One change of a wallet's balance; `place` is its position in the ledger."""

    place: int
    posting_id: str
    kind: str
    created_at_ms: int
    amount: MicroUsd
    project_id: str | None  # of a burn or a build


async def page(source: Source, *, account: str, before: int, limit: int) -> list[StatementEntry]:
    """Returns at most `limit` entries of an account before a place, the newest first."""
    rows = await source.all(_PAGE, account=account, before=before, limit=limit)
    return [StatementEntry(*row) for row in rows]

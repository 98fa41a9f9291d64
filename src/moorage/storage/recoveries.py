"""Queries over the addresses that may take wallets over."""

import msgspec
from sqlalchemy import and_, bindparam, or_, select

from moorage.records.access import Recovery
from moorage.storage.access_schema import recoveries
from moorage.storage.database import Source, Statement, Transaction, columns_of, given, upsert_of

_COLUMNS = columns_of(recoveries, Recovery)
_ONE = Statement(select(*_COLUMNS).where(*given(recoveries, wallet="of_wallet")))
_PUT = upsert_of(recoveries)
_DUE = Statement(
    select(*_COLUMNS)
    .where(
        recoveries.c.taken_over_at_ms.is_(None),
        or_(
            and_(
                recoveries.c.claim_at_ms <= bindparam("now_ms"),
                recoveries.c.claim_billed_ms <= bindparam("billed_ms"),
            ),
            and_(
                recoveries.c.claim_at_ms.is_(None),
                recoveries.c.change_at_ms <= bindparam("now_ms"),
                recoveries.c.change_billed_ms <= bindparam("billed_ms"),
            ),
        ),
    )
    .order_by(recoveries.c.wallet)
    .limit(bindparam("limit"))
)
_TAKEN_OVER = Statement(
    select(recoveries.c.wallet, recoveries.c.address).where(
        recoveries.c.taken_over_at_ms.is_not(None)
    )
)


async def of_wallet(source: Source, wallet: str) -> Recovery | None:
    """Returns who may take a wallet over, if it ever said so."""
    return await source.record(Recovery, _ONE, of_wallet=wallet)


async def put(tx: Transaction, recovery: Recovery) -> None:
    """Stores the row of a wallet in place of an earlier one."""
    await tx.execute(_PUT, **msgspec.structs.asdict(recovery))


async def due(source: Source, *, now_ms: int, billed_ms: int, limit: int) -> list[Recovery]:
    """Returns rows with a claim, or a change that no claim holds up, whose time has come."""
    return await source.records(Recovery, _DUE, now_ms=now_ms, billed_ms=billed_ms, limit=limit)


async def taken_over(source: Source) -> dict[str, str]:
    """Returns the wallets that were taken over, each with who has it."""
    return {row[0]: row[1] for row in await source.all(_TAKEN_OVER)}


async def holder_of(source: Source, wallet: str) -> str:
    """Returns whose key speaks for a wallet: its own, or that of who took it over."""
    found = await of_wallet(source, wallet)
    while found is not None and found.taken_over_at_ms is not None:
        wallet = found.address
        found = await of_wallet(source, wallet)
    return wallet

"""Queries over the answers that are given again to requests with an Idempotency-Key."""

from typing import NamedTuple

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.schema import idempotent_answers

_FIND = Statement(
    select(idempotent_answers.c.request_digest, idempotent_answers.c.answer).where(
        idempotent_answers.c.wallet == bindparam("wallet"),
        idempotent_answers.c.key == bindparam("key"),
        idempotent_answers.c.created_at_ms > bindparam("after_ms"),
    )
)
_insert = insert(idempotent_answers).values(
    {column.name: bindparam(column.name) for column in idempotent_answers.c}
)
_KEEP = Statement(
    _insert.on_conflict_do_update(
        index_elements=["wallet", "key"],  # of an answer that is too old to be given again
        set_={
            name: _insert.excluded[name] for name in ("request_digest", "answer", "created_at_ms")
        },
    )
)
_FORGET = Statement(
    delete(idempotent_answers).where(idempotent_answers.c.created_at_ms <= bindparam("until_ms"))
)


class KeptAnswer(NamedTuple):
    """An answer as JSON, and the digest of the request that it was given to."""

    request_digest: str
    answer: str


async def find(db: Database, *, wallet: str, key: str, after_ms: int) -> KeptAnswer | None:
    """What was answered to the wallet's request with this key after `after_ms`."""
    row = await db.one(_FIND, wallet=wallet, key=key, after_ms=after_ms)
    return KeptAnswer(*row) if row else None


async def keep(
    tx: Transaction, *, wallet: str, key: str, request_digest: str, answer: str, now_ms: int
) -> None:
    """Keep an answer, in the transaction that does what it tells of."""
    await tx.execute(
        _KEEP,
        wallet=wallet,
        key=key,
        request_digest=request_digest,
        answer=answer,
        created_at_ms=now_ms,
    )


async def forget(tx: Transaction, *, until_ms: int) -> int:
    """Remove the answers given up to `until_ms`; says how many."""
    return await tx.execute(_FORGET, until_ms=until_ms)

"""Queries over requests with an Idempotency-Key: who carries one out, and its outcome."""

from typing import NamedTuple

import msgspec
from sqlalchemy import and_, bindparam, delete, or_, select, update

from moorage.errors import IdempotencyInProgress
from moorage.storage.database import Database, Statement, Transaction, Upsert, parameters
from moorage.storage.schema import idempotent_answers as table

_of_key = (table.c.wallet == bindparam("of_wallet"), table.c.key == bindparam("of_key"))
_of_claim = (*_of_key, table.c.claim_id == bindparam("of_claim"))
_nothing_done = and_(table.c.outcome == "", table.c.answer == "")

_FIND = Statement(
    select(table.c.request_digest, table.c.outcome, table.c.answer, table.c.lease_until_ms).where(
        *_of_key, table.c.created_at_ms > bindparam("after_ms")
    )
)
_CLAIM = Statement(
    Upsert(
        table=table,
        values=parameters(table.c.keys()),
        replaced=[column.name for column in table.c if not column.primary_key],
        where=or_(
            and_(_nothing_done, table.c.lease_until_ms <= bindparam("now_ms")),
            table.c.created_at_ms <= bindparam("after_ms"),
        ),
    )
)
_RENEW = Statement(update(table).where(*_of_claim).values(lease_until_ms=bindparam("until_ms")))
_CARRIED_OUT = Statement(update(table).where(*_of_claim).values(outcome=bindparam("new_outcome")))
_ANSWERED = Statement(
    update(table).where(*_of_claim, table.c.outcome != "").values(answer=bindparam("new_answer"))
)
_DROP = Statement(delete(table).where(*_of_claim, _nothing_done))
_FORGET = Statement(delete(table).where(table.c.created_at_ms <= bindparam("until_ms")))


class Claim(NamedTuple):
    """The right to carry out the request of a wallet's key; `id` differs for each claim."""

    wallet: str
    key: str
    id: str


class Kept(NamedTuple):
    """The row of a key's request; `outcome` and `answer` are JSON, or "" for none yet."""

    request_digest: str
    outcome: str
    answer: str
    lease_until_ms: int

    @property
    def is_done(self) -> bool:
        """Whether the request was carried out."""
        return bool(self.outcome or self.answer)


async def find(db: Database, *, wallet: str, key: str, after_ms: int) -> Kept | None:
    """Returns the wallet's request with this key, if it was first sent after `after_ms`."""
    return await db.record(Kept, _FIND, of_wallet=wallet, of_key=key, after_ms=after_ms)


async def claim(
    tx: Transaction,
    claim: Claim,
    *,
    request_digest: str,
    lease_until_ms: int,
    now_ms: int,
    after_ms: int,
) -> bool:
    """Claims the key; returns False when another request has it, or has carried it out.

    An earlier claim without an outcome is replaced once its lease has ended by `now_ms`; a request
    that was first sent up to `after_ms` is replaced in any case.
    """
    touched = await tx.execute(
        _CLAIM,
        wallet=claim.wallet,
        key=claim.key,
        claim_id=claim.id,
        request_digest=request_digest,
        outcome="",
        answer="",
        lease_until_ms=lease_until_ms,
        created_at_ms=now_ms,
        now_ms=now_ms,
        after_ms=after_ms,
    )
    return touched == 1


async def renew(tx: Transaction, claim: Claim, *, until_ms: int) -> None:
    """Extends the claim's lease, unless the claim was lost."""
    await tx.execute(_RENEW, **_named(claim), until_ms=until_ms)


async def carried_out(tx: Transaction, claim: Claim | None, outcome: msgspec.Struct) -> None:
    """Stores the request's outcome, in the transaction that does it; does nothing without a claim.

    Raises IdempotencyInProgress when another request has taken the claim over: the transaction
    must be rolled back, as the other request carries it out.
    """
    if claim is None:
        return
    encoded = msgspec.json.encode(outcome).decode()
    if await tx.execute(_CARRIED_OUT, **_named(claim), new_outcome=encoded) != 1:
        raise IdempotencyInProgress


async def answered(tx: Transaction, claim: Claim, answer: str) -> None:
    """Stores the answer to a request that has an outcome."""
    await tx.execute(_ANSWERED, **_named(claim), new_answer=answer)


async def drop(tx: Transaction, claim: Claim) -> None:
    """Removes the claim, unless its request was carried out."""
    await tx.execute(_DROP, **_named(claim))


async def forget(tx: Transaction, *, until_ms: int) -> int:
    """Removes requests that were first sent up to `until_ms`; returns how many."""
    return await tx.execute(_FORGET, until_ms=until_ms)


def _named(claim: Claim) -> dict[str, str]:
    return {"of_wallet": claim.wallet, "of_key": claim.key, "of_claim": claim.id}

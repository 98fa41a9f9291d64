"""Queries over transactions that the gateway signed."""

import msgspec
from sqlalchemy import bindparam, func, null, select, update

from moorage.records.payments import RelayStatus, RelayTransaction
from moorage.storage.database import (
    Row,
    Source,
    Statement,
    Transaction,
    Upsert,
    columns_of,
    given,
    insert_of,
    parameters,
    record_of,
)
from moorage.storage.schema import refunds, relay_nonces, relay_transactions

_COLUMNS = columns_of(relay_transactions, RelayTransaction)
_of_sender = (
    relay_transactions.c.chain_id == bindparam("of_chain"),
    relay_transactions.c.sender == bindparam("sender"),
)
_of_nonce = (*_of_sender, relay_transactions.c.nonce == bindparam("nonce"))

_REVERTED_SINCE = Statement(
    select(*_COLUMNS).where(
        *_of_sender,
        relay_transactions.c.status == RelayStatus.REVERTED,
        relay_transactions.c.signed_at_ms >= bindparam("since_ms"),
    )
)
_ADD = insert_of(relay_transactions, RelayTransaction)
_HIGHEST = Statement(
    select(func.max(relay_nonces.c.nonce)).where(
        *given(relay_nonces, "sender", chain_id="of_chain")
    )
)
_TAKE_NONCE = Statement(Upsert(table=relay_nonces, values=parameters(relay_nonces.c.keys())))
_ONE = Statement(
    select(*_COLUMNS).where(*given(relay_transactions, chain_id="of_chain", tx_hash="of_hash"))
)
_SENT_REFUNDS = Statement(
    select(relay_transactions.c.sender)
    .distinct()
    .join_from(refunds, relay_transactions, relay_transactions.c.subject_id == refunds.c.id)
    .where(*given(refunds, chain_id="of_chain"))
)
_LAST = Statement(
    select(*_COLUMNS).where(*_of_sender).order_by(relay_transactions.c.signed_at_ms.desc()).limit(1)
)
_OF_SUBJECT = Statement(select(*_COLUMNS).where(*given(relay_transactions, "subject_id")))
_UNMINED = Statement(
    select(*_COLUMNS).where(*_of_sender, relay_transactions.c.status == RelayStatus.SIGNED)
)
_SET_STATUS = Statement(
    update(relay_transactions)
    .where(*given(relay_transactions, chain_id="of_chain", tx_hash="of_hash"))
    .values(status=bindparam("new_status"), block_number=bindparam("new_block"))
)
_REPLACE = Statement(
    update(relay_transactions)
    .where(*_of_nonce, relay_transactions.c.status == RelayStatus.SIGNED)
    .values(status=RelayStatus.REPLACED)
)
_REOPEN_SUBJECT = Statement(
    update(relay_transactions)
    .where(*given(relay_transactions, subject_id="of_subject"))
    .values(status=RelayStatus.SIGNED, block_number=null())
)
_REOPEN_NONCE = Statement(
    update(relay_transactions)
    .where(*_of_nonce)
    .values(status=RelayStatus.SIGNED, block_number=null())
)


async def senders_of_refunds(source: Source, *, chain_id: int) -> set[str]:
    """Returns every address that refunds on a chain were ever sent from, as far as rows tell."""
    return {*await source.values(_SENT_REFUNDS, of_chain=chain_id)}


async def add(tx: Transaction, relayed: RelayTransaction) -> None:
    """Stores a signed transaction, before it is sent."""
    await tx.execute(_ADD, **msgspec.structs.asdict(relayed))


async def claim_nonce(
    tx: Transaction, *, chain_id: int, sender: str, min_: int, subject_id: str
) -> int:
    """Claims the next nonce for a subject: above all claimed ones, and at least `min_`.

    Other transactions that claim a nonce of this sender wait for the end of this one.
    """
    nonce = max(min_, await nonces_known(tx, chain_id=chain_id, sender=sender))
    while not await take_nonce(
        tx, chain_id=chain_id, sender=sender, nonce=nonce, subject_id=subject_id
    ):
        nonce += 1
    return nonce


async def nonces_known(source: Source, *, chain_id: int, sender: str) -> int:
    """Returns the first nonce of a sender above all claimed ones."""
    highest = await source.value(_HIGHEST, of_chain=chain_id, sender=sender)
    return 0 if highest is None else int(highest) + 1


async def take_nonce(
    tx: Transaction, *, chain_id: int, sender: str, nonce: int, subject_id: str
) -> bool:
    """Claims this nonce for a subject; returns False when it is claimed already."""
    touched = await tx.execute(
        _TAKE_NONCE, chain_id=chain_id, sender=sender, nonce=nonce, subject_id=subject_id
    )
    return touched == 1


async def one(source: Source, *, chain_id: int, tx_hash: str) -> RelayTransaction | None:
    """Returns the transaction of this hash, if it is one of ours."""
    return await source.record(RelayTransaction, _ONE, of_chain=chain_id, of_hash=tx_hash)


async def last(source: Source, *, chain_id: int, sender: str) -> RelayTransaction | None:
    """Returns the transaction that a sender signed last."""
    return await source.record(RelayTransaction, _LAST, of_chain=chain_id, sender=sender)


async def of_subject(source: Source, subject_id: str) -> list[RelayTransaction]:
    """Returns every version ever signed for a subject, the newest last."""
    rows = await source.all(_OF_SUBJECT, subject_id=subject_id)
    return _in_order(rows)


async def unmined(source: Source, *, chain_id: int, sender: str) -> list[RelayTransaction]:
    """Returns every version that may still be mined, by nonce, the newest last."""
    return _in_order(await source.all(_UNMINED, of_chain=chain_id, sender=sender))


async def reverted_since(
    source: Source, *, chain_id: int, sender: str, since_ms: int
) -> list[RelayTransaction]:
    """Returns every transaction signed at or after `since_ms` that was reverted."""
    rows = await source.all(_REVERTED_SINCE, of_chain=chain_id, sender=sender, since_ms=since_ms)
    return _in_order(rows)


async def mined(
    tx: Transaction, relayed: RelayTransaction, *, succeeded: bool, block_number: int
) -> None:
    """Records that this version was mined, so that no other of its nonce will be."""
    status = RelayStatus.MINED if succeeded else RelayStatus.REVERTED
    await tx.execute(
        _SET_STATUS,
        of_chain=relayed.chain_id,
        of_hash=relayed.tx_hash,
        new_status=status,
        new_block=block_number,
    )
    await replaced(tx, relayed)


async def replaced(tx: Transaction, relayed: RelayTransaction) -> None:
    """Records that another transaction has this nonce, so that no unmined version will be mined."""
    await tx.execute(
        _REPLACE, of_chain=relayed.chain_id, sender=relayed.sender, nonce=relayed.nonce
    )


async def reopen(tx: Transaction, subject_id: str) -> None:
    """Records that a subject's transaction is not mined, as its block left the chain."""
    await tx.execute(_REOPEN_SUBJECT, of_subject=subject_id)


async def reopen_nonce(tx: Transaction, *, chain_id: int, sender: str, nonce: int) -> bool:
    """Does the same for all versions of this nonce; returns False when there are none."""
    return await tx.execute(_REOPEN_NONCE, of_chain=chain_id, sender=sender, nonce=nonce) > 0


def _in_order(rows: list[Row]) -> list[RelayTransaction]:
    found = (record_of(RelayTransaction, row) for row in rows)
    return sorted(found, key=lambda relayed: (relayed.nonce, int(relayed.max_fee_per_gas)))

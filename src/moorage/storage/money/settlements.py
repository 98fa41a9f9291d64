"""Queries over settlements, and over all that is still on its way on each chain."""

from typing import NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Table,
    bindparam,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)

from moorage.records.payments import (
    UNRESOLVED,
    Finality,
    PaymentStatus,
    RelayStatus,
    Settlement,
    SettlementStatus,
)
from moorage.storage.database import (
    Database,
    Source,
    Statement,
    Transaction,
    columns_of,
    given,
    insert_of,
)
from moorage.storage.money.refunds import not_final
from moorage.storage.schema import payments, refunds, relay_transactions, settlements


class Unsettled(NamedTuple):
    """Money in one token that is neither here for good nor gone for good."""

    chain_id: int
    token_address: str
    token: str  # as clients name it, or its address
    what: str  # a sentence's part: "2 payments that are not final"

    @property
    def token_key(self) -> tuple[int, str]:
        """The chain's id and the token's address."""
        return self.chain_id, self.token_address


def _by_token(table: Table, token: str, condition: ColumnElement[bool]) -> Statement:
    of = (table.c.chain_id, table.c.token_address)
    count = select(*of, func.min(table.c[token]), func.count())
    return Statement(count.where(condition).group_by(*of))


_PAYMENTS = _by_token(
    payments,
    "token",
    (payments.c.finality == Finality.PROVISIONAL)
    & payments.c.status.in_([PaymentStatus.CREDITED, PaymentStatus.HELD]),
)
_SETTLEMENTS = _by_token(settlements, "token", settlements.c.status.in_(UNRESOLVED))
_REFUNDS = _by_token(refunds, "token_address", not_final)
_KINDS = (
    (_PAYMENTS, "payments whose block is not safe yet"),
    (_SETTLEMENTS, "authorizations without an outcome"),
    (_REFUNDS, "refunds that are not final"),
)


async def unsettled_by_token(source: Source) -> list[Unsettled]:
    """Returns what is on its way, by chain and token."""
    return [
        Unsettled(chain_id, address, token, f"{count} {words}")
        for statement, words in _KINDS
        for chain_id, address, token, count in await source.all(statement)
    ]


_COLUMNS = columns_of(settlements, Settlement)
_unresolved = settlements.c.status.in_(UNRESOLVED)
_of_chain = settlements.c.chain_id == bindparam("of_chain")

_ONE = Statement(
    select(*_COLUMNS).where(_of_chain, *given(settlements, "token_address", "payer", "nonce"))
)
_ADD = insert_of(settlements, Settlement)
_OF_PAYER = Statement(
    select(settlements.c.id).where(*given(settlements, "payer"), _unresolved).limit(1)
)
_was_reverted = (
    select(relay_transactions.c.tx_hash)
    .where(
        relay_transactions.c.subject_id == settlements.c.id,
        relay_transactions.c.status == RelayStatus.REVERTED,
    )
    .exists()
)
_AT_STAKE = Statement(
    select(func.count()).where(
        *given(settlements, "payer"),
        settlements.c.status.in_([*UNRESOLVED, SettlementStatus.FAILED]),
        or_(
            settlements.c.status != SettlementStatus.FAILED,
            (settlements.c.created_at_ms > bindparam("since_ms")) & _was_reverted,
        ),
    )
)
_UNRESOLVED = Statement(
    select(*_COLUMNS)
    .where(_unresolved, _of_chain, settlements.c.created_at_ms <= bindparam("before_ms"))
    .order_by(settlements.c.created_at_ms)
)
_COUNT = Statement(select(func.count()).where(_unresolved, _of_chain))
_SENT = Statement(
    update(settlements)
    .where(*given(settlements, id="of_id"), settlements.c.status == SettlementStatus.INTENDED)
    .values(status=SettlementStatus.SENT)
)
_END = Statement(
    update(settlements)
    .where(*given(settlements, id="of_id"), _unresolved)
    .values(
        status=bindparam("new_status"),
        tx_hash=bindparam("new_hash"),
        failure=bindparam("new_failure"),
        ended_at_ms=bindparam("now_ms"),
    )
)
_standing = payments.alias("standing")
_REVERSED = Statement(
    select(payments.c.tx_hash, payments.c.payer)
    .where(
        # A literal: with a parameter, the small partial index would not be used.
        payments.c.status == literal_column(f"'{PaymentStatus.REVERSED}'"),
        payments.c.chain_id == bindparam("of_chain"),
        # A payment that moved to another log index left a reversed row, but is still credited.
        ~select(_standing.c.log_index)
        .where(
            _standing.c.chain_id == payments.c.chain_id,
            _standing.c.tx_hash == payments.c.tx_hash,
            _standing.c.payer == payments.c.payer,
            _standing.c.status != PaymentStatus.REVERSED,
        )
        .exists(),
    )
    .distinct()
)
_OF_HASH = Statement(
    select(settlements.c.id, settlements.c.status).where(
        _of_chain, *given(settlements, tx_hash="of_hash", payer="of_payer")
    )
)
_REOPEN = Statement(
    update(settlements)
    .where(*given(settlements, id="of_id"))
    .values(status=SettlementStatus.SENT, tx_hash=null(), ended_at_ms=null())
)


async def one(
    source: Source, *, chain_id: int, token_address: str, payer: str, nonce: str
) -> Settlement | None:
    """Returns the settlement of this payer's nonce, if there is one."""
    return await source.record(
        Settlement, _ONE, of_chain=chain_id, token_address=token_address, payer=payer, nonce=nonce
    )


async def add(tx: Transaction, settlement: Settlement) -> None:
    """Stores a settlement. Raises UniqueViolation when there is one of this payer's nonce."""
    await tx.execute(_ADD, **msgspec.structs.asdict(settlement))


async def is_unresolved(source: Source, *, payer: str) -> bool:
    """Whether one of the payer's settlements has no known outcome yet."""
    return await source.one(_OF_PAYER, payer=payer) is not None


async def at_stake(tx: Transaction, *, payer: str, since_ms: int) -> int:
    """Returns how many of the payer's settlements may waste gas, or have wasted it.

    Those without a known outcome, and those made after `since_ms` whose transaction reverted.
    """
    return await tx.number(_AT_STAKE, payer=payer, since_ms=since_ms)


async def unresolved(db: Database, *, chain_id: int, before_ms: int) -> list[Settlement]:
    """Returns settlements made by `before_ms` without a known outcome, the oldest first."""
    return await db.records(Settlement, _UNRESOLVED, of_chain=chain_id, before_ms=before_ms)


async def count_unresolved(db: Database, *, chain_id: int) -> int:
    """Returns how many settlements of a chain have no known outcome yet."""
    return await db.number(_COUNT, of_chain=chain_id)


async def sent(tx: Transaction, settlement_id: str) -> None:
    """Records that a node accepted its transaction."""
    await tx.execute(_SENT, of_id=settlement_id)


async def settled(tx: Transaction, settlement_id: str, *, tx_hash: str, now_ms: int) -> bool:
    """Records that `tx_hash` settled it and is credited; returns False when it had ended."""
    return await _end(tx, settlement_id, SettlementStatus.SETTLED, now_ms, tx_hash=tx_hash)


async def failed(
    tx: Transaction, settlement_id: str, *, failure: str, now_ms: int, spent_by: str | None = None
) -> bool:
    """Records that it moved no money and never will; returns False when it had ended.

    `spent_by` is the transaction that used its nonce, if one did.
    """
    return await _end(
        tx, settlement_id, SettlementStatus.FAILED, now_ms, tx_hash=spent_by, failure=failure
    )


async def dropped(source: Source, *, chain_id: int) -> list[str]:
    """Returns the ids of settled ones whose payment was reversed.

    The payment's block left the chain, and no other block has it.
    """
    return [
        settlement_id
        for tx_hash, payer in await source.all(_REVERSED, of_chain=chain_id)
        for settlement_id, status in await source.all(
            _OF_HASH, of_chain=chain_id, of_hash=tx_hash, of_payer=payer
        )
        if status == SettlementStatus.SETTLED
    ]


async def reopen(tx: Transaction, settlement_id: str) -> None:
    """Marks a settlement whose payment left the chain as sent, so that it is settled again."""
    await tx.execute(_REOPEN, of_id=settlement_id)


async def _end(
    tx: Transaction,
    settlement_id: str,
    status: SettlementStatus,
    now_ms: int,
    *,
    tx_hash: str | None = None,
    failure: str | None = None,
) -> bool:
    touched = await tx.execute(
        _END,
        of_id=settlement_id,
        new_status=status,
        new_hash=tx_hash,
        new_failure=failure,
        now_ms=now_ms,
    )
    return touched == 1

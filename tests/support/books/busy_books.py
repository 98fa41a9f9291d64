"""A gateway's books after a busy while: every kind of row that the audit compares."""

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, insert

from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.records.payments import Finality, Payment, Refund, RefundStatus
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.money import payments, refunds
from moorage.storage.money.grants import Grant
from moorage.storage.schema import settlements
from support.books.records_fixture import add_project, fresh_hash
from support.gateway.clock import HOUR_MS, MovableClock

MONTHLY = MicroUsd(730_000)  # 1,000 micro-USD an hour


async def stored(tx: Database | Transaction, transfer: Transfer) -> Payment:
    """The payment that a transfer became."""
    found = await payments.one(tx, (transfer.chain_id, transfer.tx_hash, transfer.log_index))
    assert found is not None
    return found


async def keep_busy(
    db: Database, clock: MovableClock, transfers: Sequence[Transfer], sent: Sequence[str]
) -> None:
    """Credit, hold, release, reverse, burn, give and refund.

    `transfers` are eight: seven of 500,000, the first four by one wallet, and one of 2,500 by a
    wallet of its own. `sent` are the transactions that bring back 200,000 of the fourth, and all of
    the seventh.
    """
    plain, returning, second, partly, held, released, sent_back, small = transfers
    gone = msgspec.structs.replace(plain, tx_hash=fresh_hash(), log_index=900)
    now_ms = clock.now_ms()
    async with db.transaction(durable=True) as tx:
        for one in (plain, returning, second, partly, small, gone):
            await ledger.credit_transfers(tx, [one], now_ms=now_ms)
        for one in (held, released, sent_back):
            reasons = {one.payer: "on a list"}
            await ledger.credit_transfers(tx, [one], held=reasons, now_ms=now_ms)
        await ledger.release(tx, await stored(tx, released), now_ms=now_ms)
        for one in (gone, returning):
            await ledger.reverse_payment(tx, await stored(tx, one), now_ms=now_ms)
        await ledger.credit_transfers(tx, [returning], now_ms=now_ms)
        await payments.add_use(
            tx,
            chain_id=plain.chain_id,
            tx_hash=plain.tx_hash,
            wallet=plain.payer,
            project_id=None,
            deployment_id=None,
        )
        given = Grant(str(uuid.uuid4()), plain.payer, MicroUsd(90_000), "an hour lost", now_ms)
        await ledger.grant(tx, given, now_ms=now_ms)
        await _settle(tx, second, now_ms)
        await _refund(tx, partly, 200_000, sent[0], now_ms)
        await _refund(tx, sent_back, 500_000, sent[1], now_ms)
        await _refund(tx, second, 300_000, None, now_ms)
    await _run_apps(db, clock, rich=plain.payer, poor=small.payer)


async def _refund(
    tx: Transaction, transfer: Transfer, amount: int, sent: str | None, now_ms: int
) -> None:
    """A refund that arrived, or, without a transaction, failed."""
    assert await refund_part(tx, await stored(tx, transfer), amount, sent, now_ms=now_ms)


async def refund_part(
    tx: Transaction,
    payment: Payment,
    amount: int,
    sent: str | None = "0x" + "5e" * 32,
    *,
    now_ms: int,
) -> bool:
    """The same of a part, if there are credits for it; returns whether there are."""
    refund = Refund(
        id=str(uuid.uuid4()),
        chain_id=payment.chain_id,
        tx_hash=payment.tx_hash,
        log_index=payment.log_index,
        recipient=payment.payer,
        token_address=payment.token_address,
        amount_atomic=str(amount),
        debited_micro_usd=MicroUsd(amount),
        reason="asked for",
        status=RefundStatus.REFUNDED if sent else RefundStatus.FAILED,
        refund_tx_hash=sent,
        created_at_ms=now_ms,
        ended_at_ms=now_ms,
        finality=Finality.SAFE if sent else Finality.PROVISIONAL,
    )
    parts: dict[str, Any] = {"refund_id": refund.id, "amount": MicroUsd(amount), "now_ms": now_ms}
    if not await ledger.refund(tx, payment, **parts):
        return False
    await refunds.add(tx, refund)
    if sent is None:
        await ledger.undo_refund(tx, payment, **parts)
    return True


async def _settle(tx: Transaction, transfer: Transfer, now_ms: int) -> None:
    """An authorization that this transfer settled."""
    row: dict[str, int | str | None] = {column.name: "" for column in settlements.c}
    row |= {
        "id": str(uuid.uuid4()),
        "chain_id": transfer.chain_id,
        "token_address": transfer.token_address,
        "payer": transfer.payer,
        "amount_atomic": str(transfer.amount),
        "nonce": fresh_hash(),
        "status": "settled",
        "tx_hash": transfer.tx_hash,
        "from_block": 0,
        "created_at_ms": now_ms,
        "ended_at_ms": now_ms,
    }
    columns: dict[str, Any] = {name: bindparam(name) for name in row}
    await tx.execute(Statement(insert(settlements).values(columns)), **row)


async def _run_apps(db: Database, clock: MovableClock, *, rich: str, poor: str) -> None:
    """One app that ended, one that runs, and one that ran out of credits in its third hour."""
    metering = Metering(db=db, clock=clock)
    ended, *others = [
        await add_project(db, wallet, name, monthly_price_micro_usd=MONTHLY)
        for wallet, name in ((rich, "ended"), (rich, "runs"), (poor, "ran-out"))
    ]
    for project in (ended, *others):
        async with db.transaction(durable=True) as tx:
            await metering.begin(tx, project.id)
    for _ in range(5):
        clock.advance(milliseconds=HOUR_MS)
        await metering.tick()
    clock.advance(milliseconds=HOUR_MS // 2)
    async with db.transaction(durable=True) as tx:
        await metering.end(tx, ended.id)

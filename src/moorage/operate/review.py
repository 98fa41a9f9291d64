"""The operator's release of payments that screening holds."""

from moorage.clock import Clock
from moorage.ledger import ledger
from moorage.operate.acts import note_act
from moorage.records.money.payment import Payment, PaymentStatus
from moorage.storage.database import Database
from moorage.storage.money import payments


async def release(
    db: Database,
    tx_hash: str,
    *,
    chain_ids: set[int],
    clock: Clock,
    who: str,
    reason: str = "",
) -> list[Payment]:
    """Credits a transaction's held payments, on these chains, to their payers; returns them.

    `who` is the operator who releases them. A payment that is not held any more is left as it is.
    """
    released = []
    async with db.transaction(durable=True) as tx:
        for chain_id in sorted(chain_ids):
            for payment in await payments.of_transaction(tx, chain_id=chain_id, tx_hash=tx_hash):
                if payment.status is PaymentStatus.HELD:
                    await ledger.release(tx, payment, now_ms=clock.now_ms())
                    released.append(payment)
        if released:
            await note_act(tx, who, "payments release", tx_hash, reason=reason)
    return released

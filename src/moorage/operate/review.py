"""The operator's commands over payments: release what screening holds, find what was missed."""

from moorage.chains.heads import read_block, read_heads
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock, SystemClock
from moorage.errors import ChainUnavailable, InvalidField
from moorage.ledger import ledger
from moorage.operate.acts import note_act
from moorage.operate.books import open_books
from moorage.payments.taking.screening import Screening
from moorage.payments.watch.finding import FoundTransaction, credit_found, find_payments
from moorage.records.payments import Payment, PaymentStatus
from moorage.settings import Settings
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


async def run_find(
    settings: Settings, first: int, last: int, *, chain: str, are_times: bool, credits_it: bool
) -> list[FoundTransaction]:
    """Searches blocks again at every node; returns what the books lack, or what was credited of it.

    `first` and `last` are block numbers, both inclusive, or Unix milliseconds. "" searches every
    chain. Raises InvalidField and ChainUnavailable.
    """
    screening = Screening(settings.screening)
    found: list[FoundTransaction] = []
    async with open_books(settings) as books:
        if chain and chain not in books.chains:
            raise InvalidField("--chain", f"must be one of {', '.join(books.chains)}")
        if not are_times and not chain and len(books.chains) > 1:
            raise InvalidField("--chain", "say which chain's blocks")
        for name in [chain] if chain else books.chains:
            if name not in books.clients:
                raise ChainUnavailable(f"The chain {name} does not run.")
            client = books.clients[name]
            safe = min([(await read_heads(node)).safe for node in client.nodes])
            begin, end = first, min(last, safe)
            if are_times:
                begin = await _block_at(client, first, safe)
                end = await _block_at(client, last, safe)
            recipients = books.recipients - books.retired
            lacking = await find_payments(
                books.db, client, recipients=recipients, first=begin, last=end
            )
            if credits_it:
                lacking = await credit_found(
                    books.db, client, lacking, screen=screening.ask, clock=SystemClock()
                )
                async with books.db.transaction(durable=True) as tx:
                    for each in lacking:
                        await note_act(tx, books.operator, "payments find", each.tx_hash, reason="")
            found += lacking
    return found


async def _block_at(client: RpcClient, time_ms: int, newest: int) -> int:
    """Returns the number of the first block of this time or later, `newest` at most."""
    low, high = 0, newest
    while low < high:
        middle = (low + high) // 2
        if (await read_block(client, middle)).time * 1000 < time_ms:
            low = middle + 1
        else:
            high = middle
    return low

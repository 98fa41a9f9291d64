"""The ledger: append-only double entry over micro-USD.

Each posting's amounts sum to zero, so the whole ledger does. A wallet's balance is a cached sum,
changed only here, in the transaction that appends the entries.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from moorage.money import MicroUsd, credit_from_atomic_units
from moorage.payments.transfer import Transfer
from moorage.storage import accounts
from moorage.storage.database import Transaction

EARNED = "earned"


class Outcome(StrEnum):
    """What became of a booking that must happen once."""

    APPLIED = "applied"
    REPLAYED = "replayed"  # it was booked before; nothing changed


def wallet_account(wallet: str) -> str:
    """The account of a wallet's credits."""
    return f"wallet:{wallet}"


def received_account(chain_id: int, token: str) -> str:
    """The account that mirrors what arrived in one token on one chain."""
    return f"received:{chain_id}:{token}"


async def credit_transfer(tx: Transaction, transfer: Transfer, *, now_ms: int) -> Outcome:
    """Claim a verified transfer and credit its payer, once ever. `tx` must be durable."""
    credited = credit_from_atomic_units(transfer.amount, decimals=transfer.decimals)
    await accounts.ensure_wallet(tx, transfer.payer, now_ms=now_ms)
    if not await accounts.claim(tx, transfer, credited=credited, now_ms=now_ms):
        return Outcome.REPLAYED
    await accounts.add_posting(
        tx,
        posting_id=f"payment:{transfer.chain_id}:{transfer.tx_hash}:{transfer.log_index}",
        kind="payment",
        amounts=_balanced(
            {
                wallet_account(transfer.payer): credited,
                received_account(transfer.chain_id, transfer.token): -credited,
            }
        ),
        now_ms=now_ms,
    )
    await _change_balance(tx, transfer.payer, credited)
    return Outcome.APPLIED


async def credit_transfers(
    tx: Transaction, transfers: Iterable[Transfer], *, now_ms: int
) -> Mapping[str, MicroUsd]:
    """Credit every transfer not credited before; gives what each payer newly received."""
    received: dict[str, MicroUsd] = {}
    for transfer in transfers:
        if await credit_transfer(tx, transfer, now_ms=now_ms) is Outcome.APPLIED:
            amount = credit_from_atomic_units(transfer.amount, decimals=transfer.decimals)
            received[transfer.payer] = MicroUsd(received.get(transfer.payer, 0) + amount)
    return received


async def burn(
    tx: Transaction, *, wallet: str, amount: MicroUsd, posting_id: str, now_ms: int
) -> MicroUsd:
    """Move up to `amount` from the wallet to what was earned; gives how much there was to take.

    Raises UniqueViolation when `posting_id` was booked before.
    """
    taken = MicroUsd(min(amount, await accounts.balance(tx, wallet)))
    if taken <= 0:
        return MicroUsd(0)
    await accounts.add_posting(
        tx,
        posting_id=posting_id,
        kind="burn",
        amounts=_balanced({wallet_account(wallet): -taken, EARNED: taken}),
        now_ms=now_ms,
    )
    await _change_balance(tx, wallet, -taken)
    return taken


async def _change_balance(tx: Transaction, wallet: str, amount: int) -> None:
    """Keep the cached balance in step with the entries, or leave the transaction."""
    if not await accounts.change_balance(tx, wallet, amount):
        raise RuntimeError(f"the balance of {wallet} cannot change by {amount} micro-USD")


def _balanced(amounts: dict[str, int]) -> dict[str, int]:
    if sum(amounts.values()) != 0:
        raise ValueError("a posting's amounts must sum to zero")
    return amounts

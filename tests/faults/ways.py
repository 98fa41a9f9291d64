"""The ways to pay, as a client goes them: each ends with headers that prove the payment."""

from collections.abc import Awaitable, Callable

from wallet import Wallet

PRICE = 500_000

Proof = dict[str, str]
Way = Callable[[Wallet, str], Awaitable[Proof]]


async def by_transaction(wallet: Wallet, name: str) -> Proof:
    """Transfer the price, and name the transaction."""
    return {"X-Payment-Tx": await wallet.pay(PRICE)}


ENTRANCE = ("credited",)
WORK = ("build", "built", "start", "health", "route", "ready")
WAYS: dict[str, tuple[Way, tuple[str, ...]]] = {
    "transaction": (by_transaction, (*ENTRANCE, *WORK)),
}
"""Each way, and the steps that its request passes from the first to the running app."""

"""The ways to pay, as a client goes them: each ends with headers that prove the payment."""

from collections.abc import Awaitable, Callable

from support.clients.protocols import (
    Challenge,
    authorization_payload,
    challenges,
    credential,
    demanded,
    hash_payload,
    payment_signature,
)
from support.clients.wallet import Wallet

PRICE = 500_000

Proof = dict[str, str]
Way = Callable[[Wallet, str], Awaitable[Proof]]


async def by_transaction(wallet: Wallet, name: str) -> Proof:
    """Transfer the price, and name the transaction."""
    return {"X-Payment-Tx": await wallet.pay(PRICE)}


async def by_hash(wallet: Wallet, name: str) -> Proof:
    """Answer a challenge with the hash of a transfer (draft-evm-charge-00, type `hash`)."""
    challenge = await _challenge(wallet, name)
    return credential(challenge, hash_payload(await wallet.pay(PRICE)))


async def by_authorization(wallet: Wallet, name: str) -> Proof:
    """Answer a challenge with an authorization to transfer (type `authorization`)."""
    challenge = await _challenge(wallet, name)
    return credential(challenge, authorization_payload(wallet, challenge))


async def by_x402(wallet: Wallet, name: str) -> Proof:
    """Accept what PAYMENT-REQUIRED offers first (x402 version 2, scheme `exact`)."""
    asked = await wallet.deploy(name)
    return payment_signature(wallet, demanded(asked)["accepts"][0])


async def _challenge(wallet: Wallet, name: str) -> Challenge:
    """A 402's first challenge."""
    return challenges(await wallet.deploy(name))[0]


SETTLED = ("settlement_signed", "settlement_sent")
ENTRANCE = ("credited",)
WORK = ("build", "built", "start", "health", "route", "ready")
WAYS: dict[str, tuple[Way, tuple[str, ...]]] = {
    "transaction": (by_transaction, (*ENTRANCE, *WORK)),
    "hash": (by_hash, (*ENTRANCE, *WORK)),
    "authorization": (by_authorization, (*SETTLED, *ENTRANCE, *WORK)),
    "x402": (by_x402, (*SETTLED, *ENTRANCE, *WORK)),
}
"""Each way, and the steps that its request passes from the first to the running app."""

SETTLED_BY_THE_GATEWAY = ("authorization", "x402")
"""Ways whose transaction the gateway sends, and sends again when the chain forgets it."""

"""The ways to pay, as a client goes them: each ends with headers that prove the payment."""

import base64
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from eth_utils.crypto import keccak

from paying import Authorization, sign_authorization
from wallet import Answer, Wallet

PRICE = 500_000

Proof = dict[str, str]
Way = Callable[[Wallet, str], Awaitable[Proof]]


async def by_transaction(wallet: Wallet, name: str) -> Proof:
    """Transfer the price, and name the transaction."""
    return {"X-Payment-Tx": await wallet.pay(PRICE)}


async def by_hash(wallet: Wallet, name: str) -> Proof:
    """Answer a challenge with the hash of a transfer (draft-evm-charge-00, type `hash`)."""
    challenge = _challenge(await wallet.deploy(name))
    return _credential(challenge, {"type": "hash", "hash": await wallet.pay(PRICE)})


async def by_authorization(wallet: Wallet, name: str) -> Proof:
    """Answer a challenge with an authorization to transfer (type `authorization`)."""
    challenge = _challenge(await wallet.deploy(name))
    request = json.loads(_from_base64(challenge["request"]))
    signed = sign_authorization(
        wallet.key,
        chain_id=request["methodDetails"]["chainId"],
        token_address=request["currency"],
        to=request["recipient"],
        value=int(request["amount"]),
        valid_before=int(datetime.fromisoformat(challenge["expires"]).timestamp()),
        nonce=keccak(text=challenge["id"] + challenge["realm"]),
    )
    return _credential(challenge, {"type": "authorization", **_written(signed)})


async def by_x402(wallet: Wallet, name: str) -> Proof:
    """Accept what PAYMENT-REQUIRED offers first (x402 version 2, scheme `exact`)."""
    asked = await wallet.deploy(name)
    required = json.loads(base64.b64decode(asked.headers["PAYMENT-REQUIRED"]))
    accepted = required["accepts"][0]
    signed = sign_authorization(
        wallet.key,
        chain_id=int(accepted["network"].removeprefix("eip155:")),
        token_address=accepted["asset"],
        to=accepted["payTo"],
        value=int(accepted["amount"]),
        valid_before=int(time.time()) + accepted["maxTimeoutSeconds"],
        nonce=secrets.token_bytes(32),
    )
    written = _written(signed)
    signature = written.pop("signature")
    payload = {"signature": signature, "authorization": written}
    paid = {"x402Version": 2, "payload": payload, "accepted": accepted} | {
        "resource": required["resource"]
    }
    return {"PAYMENT-SIGNATURE": base64.b64encode(json.dumps(paid).encode()).decode()}


def _challenge(asked: Answer) -> dict[str, str]:
    """The parameters of a 402's first challenge."""
    assert asked.status == 402, asked
    return dict(re.findall(r'(\w+)="([^"]*)"', asked.headers["WWW-Authenticate"]))


def _credential(challenge: dict[str, str], payload: dict[str, Any]) -> Proof:
    written = json.dumps({"challenge": challenge, "payload": payload}).encode()
    encoded = base64.urlsafe_b64encode(written).decode().rstrip("=")
    return {"Authorization": f"Payment {encoded}"}


def _written(signed: Authorization) -> dict[str, str]:
    """An authorization as both protocols write it: numbers as decimal text."""
    message = signed.message | {
        "nonce": "0x" + signed.message["nonce"].hex(),
        "signature": "0x" + signed.signature.hex(),
    }
    return {name: str(value) for name, value in message.items()}


def _from_base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


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

"""Both payment protocols as a client speaks them, written for the tests alone.

Sources: draft-httpauth-payment-00, draft-evm-charge-00; x402 specification v2.
"""

import base64
import json
import re
import time
from dataclasses import dataclass
from typing import Any

from eth_utils.crypto import keccak

from support.chains.paying import Authorization, sign_authorization
from support.clients.wallet import Answer, Wallet

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Challenge:
    """One challenge of MPP, as it came."""

    parameters: dict[str, str]

    @property
    def request(self) -> dict[str, Any]:
        """What it asks for."""
        return dict(json.loads(unpadded(self.parameters["request"])))

    @property
    def chain_id(self) -> int:
        return int(self.request["methodDetails"]["chainId"])

    @property
    def types(self) -> list[str]:
        return list(self.request["methodDetails"]["credentialTypes"])

    @property
    def nonce(self) -> bytes:
        """Keccak-256 of id and realm."""
        return keccak(text=self.parameters["id"] + self.parameters["realm"])


def challenges(answer: Answer) -> list[Challenge]:
    """Every challenge of a 402, in order."""
    values = answer.headers.getall("WWW-Authenticate", [])  # type: ignore[attr-defined]
    assert all(value.startswith("Payment ") for value in values)
    return [Challenge(dict(_PARAMETER.findall(value))) for value in values]


def unpadded(text: str) -> bytes:
    """Base64url without padding, decoded."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def credential(challenge: Challenge, payload: dict[str, Any], **changed: str) -> dict[str, str]:
    """The header that answers a challenge; `changed` are parameters that the client made up."""
    document = {"challenge": challenge.parameters | changed, "payload": payload}
    text = base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()
    return {"Authorization": f"Payment {text}"}


def hash_payload(tx_hash: str) -> dict[str, Any]:
    return {"type": "hash", "hash": tx_hash}


def authorization_payload(
    wallet: Wallet, challenge: Challenge, *, nonce: bytes | None = None, value: int | None = None
) -> dict[str, Any]:
    """What the wallet signs for a challenge."""
    asked = challenge.request
    signed = sign_authorization(
        wallet.key,
        chain_id=challenge.chain_id,
        token_address=asked["currency"],
        to=asked["recipient"],
        value=int(asked["amount"]) if value is None else value,
        valid_before=int(time.time()) + 600,
        nonce=nonce or challenge.nonce,
    )
    return {"type": "authorization", "signature": "0x" + signed.signature.hex(), **written(signed)}


def written(signed: Authorization) -> dict[str, str]:
    """An authorization's members as JSON has them."""
    return {
        name: "0x" + value.hex() if isinstance(value, bytes) else str(value)
        for name, value in signed.message.items()
    }


def demanded(answer: Answer) -> dict[str, Any]:
    """What PAYMENT-REQUIRED says."""
    return dict(json.loads(base64.b64decode(answer.headers["PAYMENT-REQUIRED"])))


def payment_signature(
    wallet: Wallet,
    accepted: dict[str, Any],
    *,
    value: int | None = None,
    payer: str | None = None,
    authorization: Authorization | None = None,
) -> dict[str, str]:
    """The header that pays one of `accepts`; `payer` is a wallet that did not sign."""
    signed = authorization or sign_authorization(
        wallet.key,
        payer=payer,
        chain_id=int(accepted["network"].removeprefix("eip155:")),
        token_address=accepted["asset"],
        to=accepted["payTo"],
        value=int(accepted["amount"]) if value is None else value,
        valid_before=int(time.time()) + accepted["maxTimeoutSeconds"],
    )
    payload = {"signature": "0x" + signed.signature.hex(), "authorization": written(signed)}
    document = {"x402Version": 2, "accepted": accepted, "payload": payload}
    return {"PAYMENT-SIGNATURE": base64.b64encode(json.dumps(document).encode()).decode()}

"""Bound signatures (version 2), made independently of the product: by eth_account, from docs."""

import base64
import hashlib

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data

FIELDS = {
    "wallet": "address",
    "host": "string",
    "method": "string",
    "path": "string",
    "bodyDigest": "bytes32",
    "timestamp": "uint256",
    "nonce": "string",
}


def typed_data(
    *,
    wallet: str,
    host: str,
    method: str,
    path: str,
    body_digest: bytes,
    timestamp: int,
    nonce: str,
    on_behalf_of: str = "",
) -> SignableMessage:
    """What docs/use/signing.md says that version 2 signs."""
    owner = {"onBehalfOf": on_behalf_of} if on_behalf_of else {}
    fields = {"wallet": "address"} | dict.fromkeys(owner, "address") | FIELDS
    return encode_typed_data(
        domain_data={"name": "Moorage", "version": "2"},
        message_types={"Request": [{"name": name, "type": kind} for name, kind in fields.items()]},
        message_data={
            "wallet": wallet,
            **owner,
            "host": host,
            "method": method,
            "path": path,
            "bodyDigest": body_digest,
            "timestamp": timestamp,
            "nonce": nonce,
        },
    )


def signed_typed_data(
    private_key: str,
    *,
    wallet: str,
    host: str,
    method: str,
    path: str,
    body_digest: bytes,
    timestamp: int,
    nonce: str,
    on_behalf_of: str = "",
) -> str:
    """A version 2 signature, hex with 0x."""
    message = typed_data(
        wallet=wallet,
        host=host,
        method=method,
        path=path,
        body_digest=body_digest,
        timestamp=timestamp,
        nonce=nonce,
        on_behalf_of=on_behalf_of,
    )
    return "0x" + bytes(Account.sign_message(message, private_key).signature).hex()


def content_digest_of(body: bytes) -> str:
    """The header of RFC 9530."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"

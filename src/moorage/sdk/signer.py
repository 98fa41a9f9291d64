"""A wallet that signs requests and payments. The key never leaves this module."""

import uuid
from typing import Any

from coincurve import PrivateKey

from moorage.chains.address import checksum_address, key_address
from moorage.chains.signing import SignedTransaction
from moorage.clock import Clock, SystemClock
from moorage.keccak import keccak256
from moorage.sdk.errors import ClientMisconfigured
from moorage.signed_request import Target, content_digest


class Signer:
    """Signs for the wallet of one private key. Its text shows the address, never the key."""

    def __init__(self, private_key: str, *, clock: Clock | None = None) -> None:
        """Raises ClientMisconfigured unless `private_key` is 32 bytes of hex and a valid key."""
        self._key = _parse_key(private_key)
        self._clock = clock or SystemClock()
        public_key = self._key.public_key.format(compressed=False)
        self.address = checksum_address(key_address(public_key))

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    def headers(self, target: Target | None = None) -> dict[str, str]:
        """Headers that authenticate one request; each call makes a nonce of its own (§1.1).

        With a `target` the signature is good for that request alone (version 2).
        """
        timestamp_ms = self._clock.now_ms()
        nonce = str(uuid.uuid4())
        headers = {
            "X-Wallet-Address": self.address,
            "X-Timestamp": str(timestamp_ms),
            "X-Nonce": nonce,
        }
        if target is None:
            signature = self.sign_text(f"{self.address}:{timestamp_ms}:{nonce}")
            return headers | {"X-Signature": signature}
        digest = target.digest(wallet=self.address, timestamp_ms=timestamp_ms, nonce=nonce)
        return headers | {
            "X-Signature": self._sign(digest),
            "X-Signature-Version": "2",
            "Content-Digest": content_digest(target.body_digest),
        }

    def sign_text(self, text: str) -> str:
        """The 65-byte `personal_sign` signature of `text` as 0x hex (EIP-191, version 0x45)."""
        message = text.encode()
        prefix = f"\x19Ethereum Signed Message:\n{len(message)}".encode()
        return self._sign(keccak256(prefix + message))

    def _sign(self, digest: bytes) -> str:
        signature = self._key.sign_recoverable(digest, hasher=None)
        return "0x" + signature[:64].hex() + f"{signature[64] + 27:02x}"

    def sign_transaction(self, transaction: dict[str, Any]) -> SignedTransaction:
        """`transaction` signed: EIP-1559 with `maxFeePerGas`, legacy (EIP-155) with `gasPrice`."""
        from eth_account import Account  # noqa: PLC0415 - half a second, only when paying

        signed = Account.sign_transaction(transaction, self._key.secret)
        return SignedTransaction(
            raw="0x" + bytes(signed.raw_transaction).hex(), tx_hash="0x" + bytes(signed.hash).hex()
        )


def _parse_key(text: str) -> PrivateKey:
    digits = text.strip().removeprefix("0x")
    try:
        secret = bytes.fromhex(digits)
        if len(digits) != 64:
            raise ValueError
        return PrivateKey(secret)
    except ValueError:
        # `from None`: the text of the original names what was parsed
        raise ClientMisconfigured("a private key is 0x and 64 hex digits") from None

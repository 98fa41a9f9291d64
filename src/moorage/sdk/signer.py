"""A wallet that signs requests and payments."""

import uuid

from moorage.address import checksum_address
from moorage.chains.signing import ChainTransaction, SignedTransaction, SigningKey
from moorage.clock import Clock, SystemClock
from moorage.sdk.errors import ClientMisconfigured
from moorage.signing import Target, content_digest, keccak256


class Signer:
    """Signs for the wallet of one private key. Its repr shows the address, never the key."""

    def __init__(self, private_key: str, *, clock: Clock | None = None) -> None:
        """Raises ClientMisconfigured unless `private_key` is 32 bytes of hex and a valid key."""
        try:
            self._key = SigningKey(private_key.strip())
        except ValueError:
            raise ClientMisconfigured("a private key is 0x and 64 hex digits") from None
        self._clock = clock or SystemClock()
        self.address = checksum_address(self._key.address)

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    def headers(self, target: Target | None = None) -> dict[str, str]:
        """Returns headers that authenticate one request; each call makes a new nonce (§1.1).

        With a `target` the signature is valid for that request alone (version 2).
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
            "X-Signature": self.sign_digest(digest),
            "X-Signature-Version": "2",
            "Content-Digest": content_digest(target.body_digest),
        }

    def sign_text(self, text: str) -> str:
        """Returns the 65-byte `personal_sign` signature of `text` in hex (EIP-191, 0x45)."""
        message = text.encode()
        prefix = f"\x19Ethereum Signed Message:\n{len(message)}".encode()
        return self.sign_digest(keccak256(prefix + message))

    def sign_transaction(self, transaction: ChainTransaction) -> SignedTransaction:
        """Signs `transaction`, ready to broadcast."""
        return self._key.sign(transaction)

    def sign_digest(self, digest: bytes) -> str:
        """Signs these 32 bytes; returns r, s and v (27 or 28) in hex."""
        signature = self._key.sign_digest(digest)
        return "0x" + signature[:64].hex() + f"{signature[64] + 27:02x}"

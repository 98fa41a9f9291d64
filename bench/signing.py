"""Wallets that sign thousands of requests before the clock starts."""

import secrets
import time
import uuid

from coincurve import PrivateKey

from moorage.address import checksum_address
from moorage.signing import keccak256


class Signer:
    """A wallet."""

    def __init__(self, key: bytes) -> None:
        self.private_key = "0x" + key.hex()
        self._key = PrivateKey(key)
        public = self._key.public_key.format(compressed=False)
        self.address = checksum_address("0x" + keccak256(public[1:])[12:].hex())

    @classmethod
    def new(cls) -> "Signer":
        """One that nobody has used."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def of(cls, private_key: str) -> "Signer":
        """The wallet of a key in hex."""
        return cls(bytes.fromhex(private_key.removeprefix("0x")))

    def headers(self) -> dict[str, str]:
        """The contract's four, with a nonce of their own; good for a minute."""
        stamp, nonce = str(time.time_ns() // 1_000_000), str(uuid.uuid4())
        message = f"{self.address}:{stamp}:{nonce}".encode()
        digest = keccak256(b"\x19Ethereum Signed Message:\n%d%b" % (len(message), message))
        signature = bytearray(self._key.sign_recoverable(digest, None))
        signature[64] += 27
        return {
            "X-Wallet-Address": self.address,
            "X-Signature": "0x" + signature.hex(),
            "X-Timestamp": stamp,
            "X-Nonce": nonce,
        }

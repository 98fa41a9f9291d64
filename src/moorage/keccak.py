"""The hash function of Ethereum, in one place."""

from Crypto.Hash import keccak


def keccak256(data: bytes) -> bytes:
    """The 32-byte Keccak-256 digest of `data`: the original padding, not NIST's SHA3-256."""
    return keccak.new(digest_bits=256, data=data).digest()

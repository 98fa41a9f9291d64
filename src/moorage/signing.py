"""What a signature covers, and the hash function that it needs."""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import urlsplit

import msgspec


def keccak256(data: bytes) -> bytes:
    """The 32-byte Keccak-256 digest of `data`: the original padding, not NIST's SHA3-256."""
    return _digest(data)


def openssl_digest() -> Callable[[bytes], bytes] | None:
    """Keccak-256 by OpenSSL, five times as fast; None where OpenSSL is older than 3.2."""
    try:
        empty = hashlib.new("KECCAK-256")
    except ValueError:
        return None

    def digest(data: bytes) -> bytes:
        state = empty.copy()
        state.update(data)
        return state.digest()

    return digest


def pycryptodome_digest() -> Callable[[bytes], bytes]:
    """Keccak-256 by pycryptodome, which always has it."""
    from Crypto.Hash import keccak  # noqa: PLC0415 (5 MB that are seldom needed)

    def digest(data: bytes) -> bytes:
        return keccak.new(digest_bits=256, data=data).digest()

    return digest


_digest = openssl_digest() or pycryptodome_digest()


NO_BODY = sha256().digest()
"""The digest of a request without a body."""

_DOMAIN_SEPARATOR = keccak256(
    keccak256(b"EIP712Domain(string name,string version)") + keccak256(b"Moorage") + keccak256(b"2")
)
_REQUEST_TYPE = keccak256(
    b"Request(address wallet,string host,string method,string path,bytes32 bodyDigest,"
    b"uint256 timestamp,string nonce)"
)
_REQUEST_FOR_ANOTHER_TYPE = keccak256(
    b"Request(address wallet,address onBehalfOf,string host,string method,string path,"
    b"bytes32 bodyDigest,uint256 timestamp,string nonce)"
)
_DELEGATION_TYPE = keccak256(
    b"Delegation(address owner,string host,address delegate,string project,string[] scopes,"
    b"uint256 limitUsdMonth,uint256 notAfter,uint256 epoch)"
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Target(msgspec.Struct, frozen=True):
    """A request's host, method, path and body, as they are signed."""

    host: str  # as `host_of` spells it
    method: str  # "GET"
    path: str  # with the query, as in the request's first line
    body_digest: bytes  # SHA-256
    on_behalf_of: str = ""  # an address: for whom the wallet acts, if not for itself

    def digest(self, *, wallet: str, timestamp_ms: int, nonce: str) -> bytes:
        """The 32 bytes that are signed; `wallet` is an address, `nonce` the header's own text."""
        is_own = not self.on_behalf_of
        request = keccak256(
            (_REQUEST_TYPE if is_own else _REQUEST_FOR_ANOTHER_TYPE)
            + bytes.fromhex(wallet[2:]).rjust(32, b"\0")
            + (b"" if is_own else bytes.fromhex(self.on_behalf_of[2:]).rjust(32, b"\0"))
            + keccak256(self.host.encode())
            + keccak256(self.method.encode())
            + keccak256(self.path.encode())
            + self.body_digest
            + timestamp_ms.to_bytes(32, "big")
            + keccak256(nonce.encode())
        )
        return keccak256(b"\x19\x01" + _DOMAIN_SEPARATOR + request)


class Delegation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an owner signs to let another wallet act for it at one gateway (EIP-712)."""

    owner: str  # an address, as the next but one
    host: str  # as `host_of` spells it
    delegate: str
    project: str = ""  # the name of the only project; "" for all of the wallet
    scopes: list[str]
    limit_usd_month: int  # whole dollars
    not_after: int  # Unix seconds
    epoch: int  # of the owner: those of an earlier one have ended

    def digest(self) -> bytes:
        """The 32 bytes that are signed."""
        delegation = keccak256(
            _DELEGATION_TYPE
            + bytes.fromhex(self.owner[2:]).rjust(32, b"\0")
            + keccak256(self.host.encode())
            + bytes.fromhex(self.delegate[2:]).rjust(32, b"\0")
            + keccak256(self.project.encode())
            + keccak256(b"".join(keccak256(each.encode()) for each in self.scopes))
            + self.limit_usd_month.to_bytes(32, "big")
            + self.not_after.to_bytes(32, "big")
            + self.epoch.to_bytes(32, "big")
        )
        return keccak256(b"\x19\x01" + _DOMAIN_SEPARATOR + delegation)


def host_of(url: str) -> str:
    """The host an http(s) URL names: lower case, with the port unless it is the scheme's own."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return host.removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))


def content_digest(body_digest: bytes) -> str:
    """The Content-Digest header (RFC 9530) of a body with this SHA-256."""
    return f"sha-256=:{b64encode(body_digest).decode()}:"

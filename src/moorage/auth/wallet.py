"""The wallet that signed a request: by its key, or, of a contract, by its own code on a chain."""

import asyncio
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final, NewType

import msgspec
from coincurve import PublicKey

from moorage.address import checksum_address, key_address, parse_address
from moorage.auth.rate_limit import RateLimiter
from moorage.chains.receipt import parse_quantity
from moorage.chains.rpc import RpcClient
from moorage.errors import (
    AuthMissing,
    ChainUnavailable,
    InvalidField,
    SignatureInvalid,
    TimestampExpired,
)
from moorage.signing import NO_BODY, Target, keccak256
from moorage.wire.problems import SigningRecipe

RECIPE: Final = SigningRecipe(
    headers={
        "X-Wallet-Address": "the wallet: 0x and 40 hex digits",
        "X-Timestamp": "Unix time in milliseconds, within 60 s of the gateway's clock",
        "X-Nonce": "a UUID, a new one for each request",
        "X-Signature": "0x and 65 bytes in hex: the wallet's signature of the text",
    },
    text="{X-Wallet-Address}:{X-Timestamp}:{X-Nonce}",
    example_private_key="0x" + "46" * 32,
    example={
        "X-Wallet-Address": "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F",
        "X-Timestamp": "1775556000000",
        "X-Nonce": "8d2f7a31-5b0e-4c6a-9f3d-2e1c0b9a8f7e",
        "X-Signature": "0xaf6eed6f30d34823699ac6fc5b9cea8acf297129e7ff0af18861dd1842e3d2ef"
        "72f7e429d9c9f8ff6eb515fd89db6bb1d134aa3d8ff8b4178a215c097e3f7bc31c",
    },
)
"""The example's key is a known one: nobody keeps money there."""

_BOUND_HEADERS: Final = {
    "X-Signature-Version": "2",
    "Content-Digest": "sha-256=:…:, the SHA-256 of the body in base64 (RFC 9530)",
    "Idempotency-Key": "any text; a repeat with it is not carried out twice",
}
BOUND_RECIPE: Final = SigningRecipe(
    headers=RECIPE.headers | _BOUND_HEADERS,
    text="EIP-712, domain EIP712Domain(string name,string version) with Moorage and 2, message "
    "Request(address wallet,string host,string method,string path,bytes32 bodyDigest,"
    "uint256 timestamp,string nonce); the example is of POST /agent/projects/my-app/adopt to "
    "moorage.example, without a body",
    example_private_key=RECIPE.example_private_key,
    example=RECIPE.example
    | {
        "X-Signature": "0x81e39c02f9ba8a3c4d5b49dd84a27c4d7dfd9b546e71fe32cf0d9399be8c1668"
        "51d1cdeb5c465d3de2355a4a1a490a2ff24cb9bd05b22fec2a761179148420f21c",
        "X-Signature-Version": "2",
        "Content-Digest": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
        "Idempotency-Key": "adopt-my-app",
    },
)


Wallet = NewType("Wallet", str)
"""An authenticated wallet: `0x` and 40 lower-case hex digits."""

MAX_SIGNATURE_BYTES = 8 * 1024
"""Of the wallets in use, a wrapped signature (ERC-6492) with its factory's calldata takes 2 KiB at
most. In hex this limit is a quarter of the bytes that a request's head may have."""

_SIGNATURE = re.compile(rf"(?:0[xX])?([0-9a-fA-F]{{2,{2 * MAX_SIGNATURE_BYTES}}})")
_TIMESTAMP = re.compile(r"[0-9]{1,15}")
_DIGITS_OF_SECONDS = 11  # as milliseconds, so few are of 1973 or before
_NONCE = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SHA_256 = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")

_COMPACT_BYTES = 64  # EIP-2098

_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_RECOVERY_IDS = {0: b"\x00", 1: b"\x01", 27: b"\x00", 28: b"\x01"}


class SignedHeaders(msgspec.Struct, frozen=True):
    """The four headers of a signed request: well-formed, but the signature is not checked yet.

    `message` is what was signed: the headers' texts, byte for byte. `wallet` and `nonce` are in
    lower case, so that each wallet and each UUID has one spelling.
    """

    wallet: Wallet
    timestamp_ms: int
    nonce: str
    message: bytes
    signature: bytes  # 65 bytes of a key, or what a contract wallet accepts

    def digests(self, target: Target | None) -> Iterator[bytes]:
        """Yields the 32 bytes that the signature may sign: bound to `target`, if there is one.

        A signature of version 1 signs the headers' texts; the wallet may be spelled there in lower
        case or with its checksum as well.
        """
        _, _, rest = self.message.partition(b":")
        if target is not None:
            nonce = rest.rpartition(b":")[2].decode()  # as it was sent
            yield target.digest(wallet=self.wallet, timestamp_ms=self.timestamp_ms, nonce=nonce)
            return
        yield personal_digest(self.message)
        for wallet in (self.wallet, checksum_address(self.wallet)):
            respelled = b"%b:%b" % (wallet.encode(), rest)
            if respelled != self.message:
                yield personal_digest(respelled)


def parse_signed_headers(
    *, wallet: str | None, signature: str | None, timestamp: str | None, nonce: str | None
) -> SignedHeaders:
    """Parses the four headers' texts; None is a header that was not sent.

    Raises AuthMissing if one is absent or empty, TimestampExpired if the timestamp is not a number
    of milliseconds, and SignatureInvalid for anything else that breaks the contract.
    """
    if not (wallet and signature and timestamp and nonce):
        raise _missing(
            {
                "X-Wallet-Address": wallet,
                "X-Signature": signature,
                "X-Timestamp": timestamp,
                "X-Nonce": nonce,
            }
        )
    if _TIMESTAMP.fullmatch(timestamp) is None:
        raise TimestampExpired(
            "X-Timestamp must be Unix time in milliseconds, in decimal digits.",
            header="X-Timestamp",
        )
    if len(timestamp) <= _DIGITS_OF_SECONDS:
        raise TimestampExpired(
            "X-Timestamp is in seconds: send milliseconds, as a whole number.", header="X-Timestamp"
        )
    if _NONCE.fullmatch(nonce) is None:
        raise SignatureInvalid(
            "X-Nonce must be a UUID, written 8-4-4-4-12 in hex digits.", header="X-Nonce"
        )
    matched = _SIGNATURE.fullmatch(signature)
    if matched is None or len(matched[1]) % 2:
        raise SignatureInvalid(
            "X-Signature must be hex digits: 65 bytes, "
            f"or as many as a contract wallet needs, up to {MAX_SIGNATURE_BYTES}.",
            header="X-Signature",
        )
    try:
        address = parse_address(wallet)
    except ValueError:
        raise SignatureInvalid(
            "X-Wallet-Address must be 0x and 40 hex digits.", header="X-Wallet-Address"
        ) from None
    return SignedHeaders(
        wallet=Wallet(address),
        timestamp_ms=int(timestamp),
        nonce=nonce.lower(),
        message=f"{wallet}:{timestamp}:{nonce}".encode("ascii"),
        signature=bytes.fromhex(matched[1]),
    )


def _missing(sent: dict[str, str | None]) -> AuthMissing:
    """Names the headers that were not sent, if others were."""
    missing = [name for name, value in sent.items() if not value]
    if len(missing) == len(sent):
        return AuthMissing(header=missing[0])
    verb = "is" if len(missing) == 1 else "are"
    return AuthMissing(
        f"{' and '.join(missing)} {verb} missing. {AuthMissing.__doc__}", header=missing[0]
    )


def signed_body_digest(content_digest: str | None) -> bytes:
    """Returns the SHA-256 in a Content-Digest header (RFC 9530); without one, that of no body.

    Raises SignatureInvalid unless it contains exactly one.
    """
    if content_digest is None:
        return NO_BODY
    members = [member.strip(" \t") for member in content_digest.split(",")]
    named = [member for member in members if member.startswith("sha-256=")]
    matched = _SHA_256.fullmatch(named[0]) if len(named) == 1 else None
    if matched is None:
        raise SignatureInvalid(
            "Content-Digest must be sha-256=:…:, the body's SHA-256 in base64.",
            header="Content-Digest",
        )
    return b64decode(matched[1])


def personal_digest(message: bytes) -> bytes:
    """Returns the 32 bytes that personal_sign signs. Source: EIP-191, version 0x45."""
    return keccak256(b"\x19Ethereum Signed Message:\n%d%b" % (len(message), message))


def written_out(compact: bytes) -> bytes | None:
    """Returns the 65 bytes of a compact signature (EIP-2098); None for another length."""
    if len(compact) != _COMPACT_BYTES:
        return None
    s = bytes([compact[32] & 0x7F]) + compact[33:]
    return compact[:32] + s + bytes([27 + (compact[32] >> 7)])


def recover_signer(digest: bytes, signature: bytes) -> Wallet:
    """Returns the wallet whose key signed the 32 bytes of `digest` (r, s, v: 65 bytes).

    v is 27 or 28, or 0 or 1 as some signers write it. Raises SignatureInvalid for any other v or
    length, for r or s out of range, for a high s (EIP-2: else each signature has a second form),
    and if no key fits.
    """
    recovery_id = _RECOVERY_IDS.get(signature[64]) if len(signature) == 65 else None
    if recovery_id is None or not 0 < int.from_bytes(signature[32:64], "big") <= _HALF_ORDER:
        raise SignatureInvalid
    try:
        # It also checks r: not zero, within the group's order, and a point on the curve.
        key = PublicKey.from_signature_and_message(signature[:64] + recovery_id, digest, None)
    except ValueError:
        raise SignatureInvalid from None
    return Wallet(key_address(key.format(compressed=False)))


GAS: Final = 6_000_000
"""The 5,000,000 that the validator passes on at most, and the gas for its code and a signature."""

_CALLER: Final = "0x" + keccak256(b"moorage signature validator")[-20:].hex()
"""The caller's address that wallets see. It is nobody's, and not the zero address that nodes use by
default, which some wallets take for a simulation: they then skip their checks."""

_MAGIC: Final = bytes.fromhex("6492") * 16
_WORD = 32
_HEAD = 3 * _WORD  # of a wrapper: factory, where its calldata begins, where the signature begins


class _Contract(msgspec.Struct, frozen=True):
    creation: str  # bytecode, hex with 0x


class _Artifact(msgspec.Struct, frozen=True):
    compiler: str
    settings: dict[str, Any]
    sources: dict[str, str]  # SHA-256 of each source, hex
    contracts: dict[str, _Contract]


class ContractSignature(msgspec.Struct, frozen=True):
    """A signature for a wallet's code to check, after its factory, if any, was called."""

    signature: bytes
    factory: bytes = bytes(20)  # zero: none
    factory_calldata: bytes = b""


@cache
def artifact() -> _Artifact:
    """Returns the content of `contracts.json`."""
    content = resources.files("moorage.auth").joinpath("contracts.json").read_bytes()
    return msgspec.json.decode(content, type=_Artifact)


def unwrap(signature: bytes) -> ContractSignature:
    """Unwraps a signature that ends in ERC-6492's magic bytes; returns any other as it is.

    Raises SignatureInvalid if what precedes them is not `(address, bytes, bytes)`.
    """
    if not signature.endswith(_MAGIC):
        return ContractSignature(signature)
    wrapped = signature.removesuffix(_MAGIC)
    if len(wrapped) < _HEAD or any(wrapped[:12]):
        raise SignatureInvalid("X-Signature ends as ERC-6492 says and is not what that wraps.")
    return ContractSignature(
        signature=_bytes_at(wrapped, 2 * _WORD),
        factory=wrapped[12:_WORD],
        factory_calldata=_bytes_at(wrapped, _WORD),
    )


def validation_call(wallet: str, digest: bytes, signed: ContractSignature) -> dict[str, str]:
    """Returns the transaction for `eth_call`; the validator need not be deployed on the chain."""
    tails = [_tail(signed.signature), _tail(signed.factory_calldata)]
    head = 5 * _WORD
    arguments = b"".join(
        (
            bytes.fromhex(wallet[2:]).rjust(_WORD, b"\0"),
            digest,
            head.to_bytes(_WORD, "big"),
            signed.factory.rjust(_WORD, b"\0"),
            (head + len(tails[0])).to_bytes(_WORD, "big"),
            *tails,
        )
    )
    creation = artifact().contracts["SignatureValidator"].creation
    return {"from": _CALLER, "gas": hex(GAS), "data": creation + arguments.hex()}


def read_verdict(answer: object) -> bool:
    """Whether the wallet accepts the signature. Raises ValueError for any other answer."""
    verdict = parse_quantity(answer)
    if verdict not in (0, 1) or len(str(answer)) != len("0x") + 2 * _WORD:
        raise ValueError("a verdict is one word, 0 or 1")
    return verdict == 1


def _bytes_at(wrapped: bytes, head: int) -> bytes:
    """Returns the `bytes` whose offset is at `head`."""
    start = int.from_bytes(wrapped[head : head + _WORD], "big") + _WORD
    length = int.from_bytes(wrapped[start - _WORD : start], "big")
    if start + length > len(wrapped):
        raise SignatureInvalid(
            "X-Signature is wrapped as ERC-6492 says, and part of it is missing."
        )
    return wrapped[start : start + length]


def _tail(content: bytes) -> bytes:
    padded = -(-len(content) // _WORD) * _WORD
    return len(content).to_bytes(_WORD, "big") + content.ljust(padded, b"\0")


AT_ONCE: Final = 4
"""Questions at once; others wait, as payments are verified by the same nodes."""


class ContractWallets:
    """Asks a chain about signatures (ERC-1271, ERC-6492): one `eth_call` each, with a gas limit.

    The node runs code that strangers wrote. So the calls of each client address are limited, and
    counted before the node is asked. Answers are not cached: a nonce makes each question a new one,
    and a wallet's owner may change with any block.

    A lying node could say yes for any wallet, also for a key's. So two nodes must say yes, where a
    chain has two.
    """

    def __init__(
        self, clients: Mapping[str, RpcClient], *, default_chain: str, limiter: RateLimiter
    ) -> None:
        self._clients = clients
        self._default_chain = default_chain
        self._limiter = limiter
        self._turns = asyncio.Semaphore(AT_ONCE)

    def asked(self, chain: str | None) -> str:
        """Returns the name of the chain that `accept` asks, in the form that clients send."""
        return (chain or self._default_chain).strip().lower()

    def name_of(self, chain_id: int) -> str | None:
        """Returns the name of a chain by its id, if it can be asked."""
        found = (name for name, rpc in self._clients.items() if rpc.chain.chain_id == chain_id)
        return next(found, None)

    async def accept(
        self, wallet: Wallet, digest: bytes, signature: bytes, *, chain: str | None, client: str
    ) -> bool:
        """Whether `wallet`, deployed on `chain` or yet to be deployed there, signed `digest`.

        `chain` is a header's text, None for the default; `client` is whom the question counts for.
        Raises, before it counts, SignatureInvalid for a broken ERC-6492 wrapper and InvalidField
        for an unknown chain; before it asks, RateLimited; then ChainUnavailable.
        """
        rpc = self._clients.get(self.asked(chain))
        if rpc is None:
            raise InvalidField("X-Wallet-Chain", f"must be one of {', '.join(self._clients)}")
        call = validation_call(wallet, digest, unwrap(signature))
        await self._limiter.check(client)
        try:
            async with self._turns:
                says_yes = await _verdict(rpc, call)
                if says_yes and rpc.quorum > 1:
                    await _require_quorum(rpc, call)
        except ValueError as error:
            raise _unknown(rpc) from error
        return says_yes


async def _verdict(rpc: RpcClient, call: dict[str, str]) -> bool:
    return read_verdict(await rpc.call("eth_call", [call, "latest"]))


async def _require_quorum(rpc: RpcClient, call: dict[str, str]) -> None:
    """Raises ChainUnavailable unless so many nodes say yes as must agree."""

    async def is_yes(node: RpcClient) -> bool:
        try:
            return await _verdict(node, call)
        except ValueError as error:
            raise _unknown(rpc) from error

    views = await rpc.every(is_yes)
    if sum(view is True for view in views) < rpc.quorum:
        raise _unknown(rpc)


def _unknown(rpc: RpcClient) -> ChainUnavailable:
    return ChainUnavailable(
        f"The chain {rpc.chain.name} does not say now whether this wallet signed."
    )

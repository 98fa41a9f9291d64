"""Wallets that are contracts: their own code decides whether a signature is theirs."""

import asyncio
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

import msgspec

from moorage.auth.rate_limit import RateLimiter
from moorage.auth.wallet import Wallet
from moorage.chains.encoding import parse_quantity
from moorage.chains.rpc import RpcClient
from moorage.errors import ChainUnavailable, InvalidField, SignatureInvalid
from moorage.signing import keccak256

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

    A yes opens whatever the wallet has, and a node that lies can say it of any wallet, a key's as
    well. So two nodes must say it where a chain has two.
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

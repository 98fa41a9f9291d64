"""The `eth_call` that asks whether a contract wallet accepts a signature; it deploys nothing.

`contracts/SignatureValidator.sol` decides; `contracts/compile.mjs` makes `contracts.json`. This
module only builds the call and parses its answer; `contract_wallets` sends it.
"""

from functools import cache
from importlib import resources
from typing import Any, Final

import msgspec

from moorage.chains.encoding import parse_quantity
from moorage.errors import SignatureInvalid
from moorage.signing.keccak import keccak256

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

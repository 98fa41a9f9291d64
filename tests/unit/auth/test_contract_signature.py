"""The question about a contract wallet's signature, against eth_abi's encoding."""

import hashlib
from pathlib import Path

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from moorage.auth.wallet import (
    GAS,
    ContractSignature,
    artifact,
    unwrap,
    validation_call,
)
from moorage.errors import SignatureInvalid

CONTRACTS = Path(__file__).parents[3] / "contracts"
MAGIC = bytes.fromhex("6492649264926492649264926492649264926492649264926492649264926492")
FACTORY = "0x" + "fa" * 20
WALLET = "0x" + "0a" * 20
WORD = st.binary(min_size=32, max_size=32)


def wrapped(factory: str, factory_calldata: bytes, signature: bytes) -> bytes:
    """ERC-6492: abi.encode(factory, factoryCalldata, signature), then the magic bytes."""
    return encode(["address", "bytes", "bytes"], [factory, factory_calldata, signature]) + MAGIC


def test_artifact_is_compiled_from_these_sources() -> None:
    """Otherwise run contracts/compile.mjs."""
    assert artifact().sources == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in CONTRACTS.glob("*.sol")
        if not path.name.startswith("Dev")
    }


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_wrapped_signature_is_taken_out_with_its_factory(
    factory_calldata: bytes, signature: bytes
) -> None:
    assert unwrap(wrapped(FACTORY, factory_calldata, signature)) == ContractSignature(
        signature, bytes.fromhex(FACTORY[2:]), factory_calldata
    )


@given(st.binary(max_size=200))
def test_signature_without_the_magic_bytes_at_its_end_is_what_it_is(signature: bytes) -> None:
    assert unwrap(signature + b"\0") == ContractSignature(signature + b"\0")
    assert unwrap(MAGIC + signature + b"\0").factory == bytes(20)


@given(st.binary(max_size=400))
def test_any_wrapped_bytes_are_taken_out_or_signature_invalid(content: bytes) -> None:
    try:
        found = unwrap(content + MAGIC)
    except SignatureInvalid:
        return
    assert found.signature in content
    assert found.factory_calldata in content


def test_wrapper_cut_short_is_signature_invalid() -> None:
    whole = wrapped(FACTORY, b"\xca" * 32, b"\x51" * 32).removesuffix(MAGIC)
    for cut in range(7 * 32):
        with pytest.raises(SignatureInvalid, match="ERC-6492"):
            unwrap(whole[:cut] + MAGIC)


def test_places_beyond_any_memory_are_signature_invalid() -> None:
    for place in (2**256 - 1, 2**256 - 32, 2**64):
        head = encode(["address", "uint256", "uint256"], [FACTORY, place, place])
        with pytest.raises(SignatureInvalid):
            unwrap(head + bytes(64) + MAGIC)


@given(WORD, st.binary(max_size=100), st.binary(max_size=100))
def test_question_is_the_validators_constructor_with_its_arguments(
    digest: bytes, signature: bytes, factory_calldata: bytes
) -> None:
    factory = bytes.fromhex(FACTORY[2:])
    call = validation_call(WALLET, digest, ContractSignature(signature, factory, factory_calldata))

    arguments = encode(
        ["address", "bytes32", "bytes", "address", "bytes"],
        [WALLET, digest, signature, FACTORY, factory_calldata],
    )
    creation = artifact().contracts["SignatureValidator"].creation
    assert call["data"] == creation + arguments.hex()
    assert int(call["gas"], 16) == GAS
    assert int(call["from"], 16) != 0  # some wallets check nothing for the zero address
    assert call.keys() == {"data", "gas", "from"}

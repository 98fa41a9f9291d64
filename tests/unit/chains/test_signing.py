"""Transactions are signed as eth_account, which is not ours, signs them."""

import secrets

import pytest
from eth_account import Account
from eth_utils.address import to_checksum_address

from moorage.chains.signing import ChainTransaction, SigningKey, rlp

KEY = "0x" + "46" * 32


def transaction(**changes: object) -> ChainTransaction:
    fields: dict[str, object] = {
        "chain_id": 42161,
        "nonce": 9,
        "recipient": "0xaf88d065e77c8cc2239327c5edb3a432268e5831",
        "data": "0x" + "ab" * 292,
        "gas_limit": 150_000,
        "max_fee_per_gas": 2 * 10**9,
        "max_priority_fee_per_gas": 10**6,
    }
    return ChainTransaction(**{**fields, **changes})  # type: ignore[arg-type] # mixed on purpose


def fees_of(transaction: ChainTransaction) -> dict[str, int]:
    """The type and the fees, as eth_account takes them."""
    if transaction.max_priority_fee_per_gas is None:
        return {"gasPrice": transaction.max_fee_per_gas}
    return {
        "type": 2,
        "maxFeePerGas": transaction.max_fee_per_gas,
        "maxPriorityFeePerGas": transaction.max_priority_fee_per_gas,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nonce": 0, "max_priority_fee_per_gas": 0},
        {"nonce": 127},
        {"nonce": 128, "chain_id": 1},
        {"data": "0x"},
        {"data": "0x7f"},
        {"data": "0x80"},
        {"data": "0x" + "11" * 55},
        {"data": "0x" + "11" * 56},
        {"data": "0x" + "11" * 70_000},
        {"nonce": 2**64 - 2, "gas_limit": 2**63 - 1, "max_fee_per_gas": 2**200},
        {"max_priority_fee_per_gas": None},
        {"max_priority_fee_per_gas": None, "nonce": 0, "chain_id": 1},
        {"max_priority_fee_per_gas": None, "nonce": 128, "data": "0x" + "11" * 70_000},
        {"max_priority_fee_per_gas": None, "chain_id": 2**40, "max_fee_per_gas": 2**200},
    ],
)
def test_transaction_is_signed_as_eth_account_signs_it(changes: dict[str, object]) -> None:
    for key in (KEY, "0x" + secrets.token_hex(32)):
        ours = transaction(**changes)
        theirs = Account.sign_transaction(
            {
                "chainId": ours.chain_id,
                "nonce": ours.nonce,
                "to": to_checksum_address(ours.recipient),
                "data": ours.data,
                "value": 0,
                "gas": ours.gas_limit,
                **fees_of(ours),
            },
            key,
        )
        signed = SigningKey(key).sign(ours)
        assert signed.raw == theirs.raw_transaction.to_0x_hex()
        assert signed.tx_hash == theirs.hash.to_0x_hex()


def test_signing_twice_gives_the_same_transaction() -> None:
    assert SigningKey(KEY).sign(transaction()) == SigningKey(KEY).sign(transaction())


def test_rlp_of_the_yellow_papers_examples() -> None:
    assert rlp(b"dog") == b"\x83dog"
    assert rlp([b"cat", b"dog"]) == b"\xc8\x83cat\x83dog"
    assert rlp(b"") == b"\x80"
    assert rlp([]) == b"\xc0"
    assert rlp(0) == b"\x80"
    assert rlp(15) == b"\x0f"
    assert rlp(1024) == b"\x82\x04\x00"
    assert rlp([[], [[]], [[], [[]]]]) == bytes.fromhex("c7c0c1c0c3c0c1c0")


@pytest.mark.parametrize(
    "text", ["", "0x", "46" * 31, "46" * 33, "zz" * 32, "0x" + "46" * 32 + "\n"]
)
def test_key_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        SigningKey(text)


@pytest.mark.parametrize("text", ["00" * 32, "ff" * 32])
def test_number_that_is_no_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError, match="not a key") as refused:
        SigningKey(text)
    assert text not in str(refused.value)


def test_key_shows_its_address_alone() -> None:
    key = SigningKey(KEY)
    assert repr(key) == f"SigningKey({Account.from_key(KEY).address})"
    assert key.address == Account.from_key(KEY).address.lower()

import pytest
from eth_abi.abi import encode
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from moorage.chains.receipt import (
    TRANSFER_TOPIC,
    Log,
    Receipt,
    TransferLog,
    balance_of_calldata,
    decode_uint256,
    normalise_tx_hash,
    parse_transfer_log,
    parse_transfer_logs,
    transfer_calldata,
)

USDC = "0xaf88d065e77c8cc2239327c5edb3a432268e5831"
PAYER = "0x" + "a1" * 20
PAY_TO = "0x" + "b2" * 20
addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
amounts = st.integers(min_value=0, max_value=2**256 - 1)


def word(address: str) -> str:
    return "0x" + "0" * 24 + address[2:]


def transfer_log(**changes: object) -> Log:
    fields = {
        "log_index": 3,
        "address": USDC,
        "topics": (TRANSFER_TOPIC, word(PAYER), word(PAY_TO)),
        "data": "0x" + (500_000).to_bytes(32, "big").hex(),
    }
    return Log(**{**fields, **changes})  # type: ignore[arg-type]


def receipt_of(*logs: Log) -> Receipt:
    return Receipt("0x" + "1" * 64, "0x" + "2" * 64, 7, succeeded=True, logs=logs)


def test_transfer_topic_is_eip_20s() -> None:
    assert "0x" + keccak(text="Transfer(address,address,uint256)").hex() == TRANSFER_TOPIC
    assert TRANSFER_TOPIC == "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


@given(addresses)
def test_balance_of_calldata_is_the_abis(owner: str) -> None:
    selector = function_signature_to_4byte_selector("balanceOf(address)")
    assert balance_of_calldata(owner) == "0x" + (selector + encode(["address"], [owner])).hex()


@given(addresses, amounts)
def test_transfer_calldata_is_the_abis(to: str, amount: int) -> None:
    selector = function_signature_to_4byte_selector("transfer(address,uint256)")
    expected = selector + encode(["address", "uint256"], [to, amount])
    assert transfer_calldata(to, amount) == "0x" + expected.hex()


def test_calldata_out_of_range_is_refused() -> None:
    for amount in (-1, 2**256):
        with pytest.raises(ValueError, match="uint256"):
            transfer_calldata(PAYER, amount)
    with pytest.raises(ValueError, match="address"):
        balance_of_calldata("0x1")


@given(amounts)
def test_uint256_reads_what_the_abi_wrote(amount: int) -> None:
    assert decode_uint256("0x" + encode(["uint256"], [amount]).hex()) == amount


def test_every_spelling_of_a_hash_is_one() -> None:
    canonical = "0x" + "abcdef0123456789" * 4
    for spelling in (
        canonical,
        canonical[2:],
        canonical.upper(),
        "0x" + canonical[2:].upper(),
        "0XaBcDeF0123456789" + "abcdef0123456789" * 3,
    ):
        assert normalise_tx_hash(spelling) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "ab" * 31,
        "ab" * 33,
        "0x" + "ab" * 33,
        "zz" * 32,
        "0x0x" + "a" * 62,
        "ab" * 32 + "\n",
        " " + "ab" * 32,
        "0x" + "ab" * 31 + "a_",
    ],
)
def test_anything_else_is_no_hash(text: str) -> None:
    with pytest.raises(ValueError, match="transaction hash"):
        normalise_tx_hash(text)


def test_transfer_is_read_from_its_log() -> None:
    assert parse_transfer_log(transfer_log()) == TransferLog(3, USDC, PAYER, PAY_TO, 500_000)


def test_other_events_are_no_transfers() -> None:
    approval = "0x" + keccak(text="Approval(address,address,uint256)").hex()
    assert parse_transfer_log(transfer_log(topics=(approval, word(PAYER), word(PAY_TO)))) is None
    assert parse_transfer_log(transfer_log(topics=())) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"topics": (TRANSFER_TOPIC, word(PAYER), word(PAY_TO), word(PAY_TO))},
        {"topics": (TRANSFER_TOPIC, word(PAYER))},
        {"topics": (TRANSFER_TOPIC, "0x" + "0" * 23 + "1" + PAYER[2:], word(PAY_TO))},
        {"topics": (TRANSFER_TOPIC, word(PAYER), "0x01" + "0" * 22 + PAY_TO[2:])},
        {"data": "0x"},
        {"data": "0x" + "00" * 31},
        {"data": "0x" + "00" * 64},
    ],
)
def test_malformed_transfer_of_the_token_is_an_error_of_others_is_nothing(
    changes: dict[str, object],
) -> None:
    malformed = transfer_log(**changes)
    with pytest.raises(ValueError, match=r"topics|20 bytes|32 bytes"):
        parse_transfer_logs(receipt_of(malformed), token_address=USDC)
    other = transfer_log(**changes, address="0x" + "c3" * 20)
    assert parse_transfer_logs(receipt_of(other), token_address=USDC) == ()


def test_token_is_found_whatever_the_case_of_its_address() -> None:
    found = parse_transfer_logs(
        receipt_of(transfer_log()), token_address="0xaf88d065e77c8cC2239327C5EDb3A432268e5831"
    )
    assert [log.value for log in found] == [500_000]

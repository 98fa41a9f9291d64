import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from moorage.address import checksum_address, parse_address
from moorage.chains.receipt import parse_bytes32, parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [("0x0", 0), ("0xa4b1", 42161), ("0xA4B1", 42161), ("0x" + "f" * 64, 2**256 - 1)],
)
def test_quantity_is_its_number(text: str, number: int) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "0x",
        "a4b1",
        "42161",
        "-0x1",
        "0x-1",
        "0x1_0",
        "0x1 ",
        "0x1\n",
        "0x" + "1" * 65,
        None,
        1,
        1.0,
        True,
        ["0x1"],
        b"0x1",
    ],
)
def test_anything_else_is_no_quantity(answer: object) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(answer)


def test_bytes32_are_exactly_32() -> None:
    assert parse_bytes32("0x" + "Ab" * 32) == "0x" + "ab" * 32
    for wrong in ("0x" + "ab" * 31, "0x" + "ab" * 33, "ab" * 32, "0x" + "zz" * 32, None, 5):
        with pytest.raises(ValueError, match="32 bytes"):
            parse_bytes32(wrong)


EIP_55 = [  # the EIP's own vectors
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("address", EIP_55)
def test_checksum_is_eip_55s(address: str) -> None:
    assert checksum_address(address.lower()) == address
    assert checksum_address("0X" + address[2:].upper()) == address


@given(st.binary(min_size=20, max_size=20))
def test_checksum_agrees_with_an_independent_one(raw: bytes) -> None:
    assert checksum_address("0x" + raw.hex()) == to_checksum_address(raw)


def test_addresses_compare_in_lower_case_whatever_their_checksum() -> None:
    wrong = "0xDE709f2102306220921060314715629080e2fb77"
    assert parse_address(wrong) == "0xde709f2102306220921060314715629080e2fb77"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "52908400098527886E0F7030069857D2E4169EE7",
        "0x52908400098527886E0F7030069857D2E4169E",
        "0x52908400098527886E0F7030069857D2E4169EE7\n",
        " 0x52908400098527886E0F7030069857D2E4169EE7",
        "0x52908400098527886E0F7030069857D2E4169EE70",
        "0x5290840009852788__0F7030069857D2E4169EE7",
        "0x5290840009852788６E0F7030069857D2E4169EE7",
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="40 hex digits"):
        parse_address(text)
    with pytest.raises(ValueError, match="40 hex digits"):
        checksum_address(text)

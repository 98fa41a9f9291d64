import pytest

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

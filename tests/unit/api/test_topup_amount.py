"""What may be bought: `amount_usd` as JSON can write numbers."""

import pytest

from moorage.api.money import amount_of, taker_of
from moorage.errors import InvalidField
from moorage.money import MicroUsd

LEAST = MicroUsd(500_000)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", 500_000),
        ("{}", 500_000),
        ('{"amount_usd": null}', 500_000),
        ('{"amount_usd": 0.5}', 500_000),
        ('{"amount_usd": 2.345678}', 2_345_678),
        ('{"amount_usd": "0.700000000"}', 700_000),
        ('{"amount_usd": 1e5}', 100_000_000_000),
        ('{"amount_usd": 99999.999999}', 99_999_999_999),
    ],
)
def test_amount_is_taken_as_it_is_written(written: str, expected: int) -> None:
    assert amount_of(written.encode(), min_=LEAST) == expected


def test_credits_go_to_a_wallet_and_to_nothing_that_only_looks_like_one() -> None:
    address = "0x" + "aB" * 20
    assert taker_of(f'{{"for": "{address}"}}'.encode()) == address.lower()
    assert (taker_of(b""), taker_of(b"{}")) == (None, None)
    for wrong in (f"{address}\\n", f" {address}", "project:1", address[:-1]):
        with pytest.raises(InvalidField):
            taker_of(f'{{"for": "{wrong}"}}'.encode())


@pytest.mark.parametrize(
    "written",
    [
        "0.499999",
        "0",
        "-1",
        "100000.000001",
        "1e400",
        "1e999999",
        "-1e99999999",
        "1e999999999999999999",
        "1e-99999999",
        "0.5" + "0" * 40 + "1",
        "1.0000001",
        '"NaN"',
        '"sNaN"',
        '"-Infinity"',
        "true",
        "[]",
        "9" * 4000,
        '1, "note": ' + "[" * 4000,
    ],
)
def test_amount_that_cannot_be_bought_is_refused(written: str) -> None:
    with pytest.raises(InvalidField):
        amount_of(f'{{"amount_usd": {written}}}'.encode(), min_=LEAST)

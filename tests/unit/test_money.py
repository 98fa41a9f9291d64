import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.money import (
    AtomicUnits,
    MicroUsd,
    atomic_units,
    charge_to_atomic_units,
    credit_from_atomic_units,
    decimal_text,
    json_of,
    micro_usd,
    usd_number,
    usd_text,
)

DECIMALS = st.integers(0, 24)
AMOUNTS = st.integers(0, 10**30)


@pytest.mark.parametrize("value", [1.0, True, "1", None])
@pytest.mark.parametrize("make", [micro_usd, atomic_units])
def test_money_is_made_of_integers_alone(make: Any, value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        make(value)


def test_money_is_the_integer_it_was_made_of() -> None:
    assert (micro_usd(-5), atomic_units(7)) == (-5, 7)


@pytest.mark.parametrize("value", [0.5, True])
def test_conversions_refuse_what_is_no_integer(value: Any) -> None:
    with pytest.raises(TypeError):
        charge_to_atomic_units(value, decimals=6)
    with pytest.raises(TypeError):
        credit_from_atomic_units(value, decimals=6)


@given(amount=AMOUNTS, decimals=DECIMALS)
def test_charges_are_rounded_up_to_the_atomic_unit(amount: int, decimals: int) -> None:
    exact = Fraction(amount, 10**6) * 10**decimals
    assert charge_to_atomic_units(MicroUsd(amount), decimals=decimals) == math.ceil(exact)


@given(amount=AMOUNTS, decimals=DECIMALS)
def test_credits_are_rounded_down_to_the_micro_usd(amount: int, decimals: int) -> None:
    exact = Fraction(amount, 10**decimals) * 10**6
    assert credit_from_atomic_units(AtomicUnits(amount), decimals=decimals) == math.floor(exact)


@given(amount=AMOUNTS, decimals=DECIMALS)
def test_whoever_pays_what_is_charged_is_credited_enough(amount: int, decimals: int) -> None:
    charged = charge_to_atomic_units(MicroUsd(amount), decimals=decimals)
    assert credit_from_atomic_units(charged, decimals=decimals) >= amount


@pytest.mark.parametrize(
    ("amount", "number"),
    [(500_000, 0.5), (0, 0), (18_000_000, 18), (1, 0.000001), (-1_500_000, -1.5)],
)
def test_dollars_are_shown_as_a_plain_number(amount: int, number: float) -> None:
    shown = usd_number(MicroUsd(amount))
    assert shown == number
    assert isinstance(shown, type(number))


@given(st.integers(-(10**15), 10**15))
def test_shown_dollars_lead_back_to_the_amount(amount: int) -> None:
    assert round(usd_number(MicroUsd(amount)) * 1_000_000) == amount


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (18_000_000, 6, "18.000000"),
        (1, 6, "0.000001"),
        (0, 6, "0.000000"),
        (-1, 6, "-0.000001"),
        (5, 0, "5"),
        (-5, 0, "-5"),
        (10**30, 18, "1000000000000.000000000000000000"),
    ],
)
def test_decimal_text_has_every_place(amount: int, decimals: int, text: str) -> None:
    assert decimal_text(amount, decimals=decimals) == text


@given(st.integers(-(10**40), 10**40), DECIMALS)
def test_decimal_text_is_exact(amount: int, decimals: int) -> None:
    text = decimal_text(amount, decimals=decimals)
    assert Fraction(text) * 10**decimals == amount
    assert len(text.partition(".")[2]) == decimals


@pytest.mark.parametrize(
    ("micro_usd", "text"),
    [
        (0, "$0.00"),
        (500_000, "$0.50"),
        (685, "$0.000685"),
        (1, "$0.000001"),
        (12_345_600, "$12.3456"),
        (100_000_000, "$100.00"),
        (-3_000_000, "-$3.00"),
    ],
)
def test_dollars_for_a_person_have_cents_and_what_is_beyond(micro_usd: int, text: str) -> None:
    assert usd_text(MicroUsd(micro_usd)) == text


@pytest.mark.parametrize("sign", [1, -1])
def test_no_amount_has_an_exponent_in_json(sign: int) -> None:
    """From a micro-dollar to 10**15 dollars: who reads 1e-6 by its digits reads a dollar."""
    amounts = {sign * digit * 10**power for power in range(22) for digit in (1, 9, 12_345)}
    for amount in amounts:
        shown = json_of({"usd": usd_number(MicroUsd(amount))}).decode()
        number = shown.removeprefix('{"usd":').removesuffix("}")
        assert re.fullmatch(r"-?\d+(\.\d+)?", number), number
        if abs(amount) < 2**53:
            assert Decimal(number) == Decimal(amount) / 10**6


def test_texts_that_look_like_exponents_stay_as_they_are() -> None:
    given = ['say "1e-6"', "\\", ":2e-7,", 0.000001, {"3e-3": -0.00002}]
    shown = json_of(given)
    assert msgspec.json.decode(shown) == given
    assert shown == rb'["say \"1e-6\"","\\",":2e-7,",0.000001,{"3e-3":-0.00002}]'

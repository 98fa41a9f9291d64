"""Money as integers, in two types that do not mix.

Credits are micro-USD: $1 = 100 credits = 1,000,000 micro-USD. Tokens are atomic units of a token
whose decimals come from its configuration. Both are plain ints to the database and the wire;
`NewType` keeps them apart for the type checker, and the constructors refuse floats and bools.
"""

import re
from decimal import Decimal
from typing import NewType

import msgspec

from moorage.errors import InvalidField

MicroUsd = NewType("MicroUsd", int)
AtomicUnits = NewType("AtomicUnits", int)

NOTHING = MicroUsd(0)
MICRO_USD_PER_USD = 1_000_000
MAX_USD = 100_000
"""The most that a request may name in dollars."""

_MICRO_DOLLAR = Decimal("0.000001")
_USD_DECIMALS = 6
_TEXT_OR_EXPONENT = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?e-\d+')


def micro_usd(value: int) -> MicroUsd:
    """`value` micro-USD. Raises TypeError for anything but an int (bool included)."""
    return MicroUsd(_integer(value))


def atomic_units(value: int) -> AtomicUnits:
    """`value` atomic units of a token. Raises TypeError for anything but an int."""
    return AtomicUnits(_integer(value))


def charge_to_atomic_units(amount: MicroUsd, *, decimals: int) -> AtomicUnits:
    """The price of a charge of `amount` in a dollar token, rounded up to the atomic unit."""
    scaled = _integer(amount) * 10**decimals
    return AtomicUnits(-(-scaled // 10**_USD_DECIMALS))


def credit_from_atomic_units(amount: AtomicUnits, *, decimals: int) -> MicroUsd:
    """The credits for `amount` of a dollar token, rounded down to the micro-USD."""
    return MicroUsd(_integer(amount) * 10**_USD_DECIMALS // 10**decimals)


def credits_in(field: str, dollars: Decimal, *, min_: MicroUsd = NOTHING) -> MicroUsd:
    """Returns the credits that a field names in dollars. Raises InvalidField."""
    if not dollars.is_finite():
        raise InvalidField(field, "must be a number")
    if not Decimal(min_) / MICRO_USD_PER_USD <= dollars <= MAX_USD:
        raise InvalidField(field, f"must be from {usd_number(min_)} to {MAX_USD}")
    if dollars != dollars.quantize(_MICRO_DOLLAR):  # compared as written: arithmetic rounds
        raise InvalidField(field, "must have at most 6 decimals")
    return MicroUsd(int(dollars * MICRO_USD_PER_USD))


def usd_number(amount: MicroUsd) -> float | int:
    """`amount` in dollars as a JSON number, for display fields such as `amount_usd`."""
    dollars, rest = divmod(amount, MICRO_USD_PER_USD)
    return dollars if rest == 0 else amount / MICRO_USD_PER_USD


def json_of(value: object) -> bytes:
    """`value` as JSON in which amounts have no exponent: 0.000001, where others write 1e-6.

    Parsers that read a decimal digit by digit, as scripts do, would take the 1 for a dollar.
    """
    text = msgspec.json.encode(value)
    return _TEXT_OR_EXPONENT.sub(_fixed, text) if b"e-" in text else text


def _fixed(found: re.Match[bytes]) -> bytes:
    text = found[0]
    return text if text.startswith(b'"') else format(Decimal(text.decode()), "f").encode()


def usd_text(amount: MicroUsd) -> str:
    """`amount` in dollars for a person, with two decimals or more: $0.50, $0.000685, -$3.00."""
    whole, fraction = decimal_text(abs(amount), decimals=_USD_DECIMALS).split(".")
    sign = "-" if amount < 0 else ""
    return f"{sign}${whole}.{fraction.rstrip('0'):0<2}"


def decimal_text(amount: int, *, decimals: int) -> str:
    """`amount` atomic units as a decimal with exactly `decimals` places: 18000000 → "18.000000"."""
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), 10**decimals)
    return f"{sign}{whole}.{fraction:0{decimals}d}" if decimals else f"{sign}{whole}"


def _integer(value: int) -> int:
    if type(value) is not int:
        raise TypeError(f"money is an int, not {type(value).__name__}")
    return value

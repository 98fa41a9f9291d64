"""Amounts as manifests write them: 500m, 512Mi, 1G."""

from decimal import Decimal

_UNITS: dict[str, Decimal | int] = {
    "m": Decimal("0.001"),
    "k": 1000,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
_UNITS |= {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "n": Decimal("1e-9")}


def number(quantity: str | float) -> Decimal:
    """How much it is, in cores, bytes or pieces."""
    text = str(quantity)
    for unit in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(unit):
            return Decimal(text.removesuffix(unit)) * _UNITS[unit]
    return Decimal(text)

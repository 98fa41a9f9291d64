"""Reads amounts as Kubernetes writes them, such as `250m`, `1536Mi` or `12345678n`."""

from decimal import Decimal, InvalidOperation

_UNITS = {
    "": Decimal(1),
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def quantity(text: str) -> Decimal:
    """Returns an amount in its base unit: cores, or bytes. Raises ValueError."""
    number = text.rstrip("numkKMGTPEi")
    unit = text[len(number) :]
    try:
        return Decimal(number) * _UNITS[unit]
    except (InvalidOperation, KeyError):
        raise ValueError(f"{text!r} is no amount") from None

"""For how long a project's first price holds: so many months of running as were paid for.

A price that falls needs no such time: it counts from its date.
"""

from moorage.ledger.burn import MONTH_MS
from moorage.money import MicroUsd

UNRECORDED_MONTHS = 24
"""For a project of which it is not recorded: the most that could be paid for."""


def promised_ms(months: int | None, *, before: MicroUsd, after: MicroUsd) -> int:
    """Returns how long a project is billed at `before` in all, before `after` may count."""
    if after <= before:
        return 0
    return (UNRECORDED_MONTHS if months is None else months) * MONTH_MS

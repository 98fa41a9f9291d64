"""What running costs, and how long credits last: exact, and without a database.

An interval's total cost is `charge_up_to` its elapsed time, a step function. Credits run out in the
first millisecond at which all intervals together owe the whole balance.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from moorage.money import MicroUsd

HOUR_MS = 3_600_000
MONTH_MS = 730 * HOUR_MS
"""A month of billing: a twelfth of 365 days."""

WARNINGS_HOURS = (72, 24, 1)
"""A wallet is warned once for each of these, before its credits run out; longest first."""


class Burning(Protocol):
    """A run interval that is still open; times are billed time."""

    @property
    def monthly_price_micro_usd(self) -> MicroUsd:
        """What a month of it costs."""
        ...

    @property
    def started_at_ms(self) -> int:
        """When it began."""
        ...

    @property
    def charged_micro_usd(self) -> MicroUsd:
        """What was booked of its cost so far."""
        ...


class Suspended(Protocol):
    """A suspended project."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def monthly_price_micro_usd(self) -> MicroUsd:
        """What a month of it costs."""
        ...


def charge_up_to(elapsed_ms: int, *, monthly_price: MicroUsd) -> MicroUsd:
    """Returns what `elapsed_ms` of running costs in all, rounded up to the micro-USD."""
    return MicroUsd(-(-monthly_price * max(0, elapsed_ms) // MONTH_MS))


def owed(burning: Iterable[Burning], *, at_ms: int) -> MicroUsd:
    """Returns what these cost up to `at_ms` and is not booked yet."""
    return MicroUsd(
        sum(
            max(
                0,
                charge_up_to(at_ms - each.started_at_ms, monthly_price=each.monthly_price_micro_usd)
                - each.charged_micro_usd,
            )
            for each in burning
        )
    )


def runs_out_at(balance: MicroUsd, burning: Sequence[Burning], *, now_ms: int) -> int | None:
    """Returns the first time from now on at which these have burned the balance, or None."""
    a_month = sum(each.monthly_price_micro_usd for each in burning)
    if a_month == 0:
        return None
    # Rounding up puts each less than 1 micro-USD above the straight line; that bounds the search.
    left = balance - owed(burning, at_ms=now_ms)
    latest = now_ms + max(0, -(-(left + len(burning)) * MONTH_MS // a_month))
    earliest = max(now_ms, now_ms + (left - len(burning)) * MONTH_MS // a_month)
    while earliest < latest:
        middle = (earliest + latest) // 2
        if owed(burning, at_ms=middle) >= balance:
            latest = middle
        else:
            earliest = middle + 1
    return earliest


def hour_of(*monthly_prices: MicroUsd) -> MicroUsd:
    """Returns the most that one hour of projects at these prices burns."""
    return MicroUsd(sum(charge_up_to(HOUR_MS, monthly_price=each) for each in monthly_prices))


def resumable(
    balance: MicroUsd, burning: Sequence[Burning], suspended: Iterable[Suspended], *, now_ms: int
) -> set[str]:
    """Returns the ids of a wallet's suspended projects that may start again.

    `suspended` is sorted, longest suspended first. A project may start if the balance pays an hour
    of it and of all that runs or was chosen before it. One that costs too much is skipped.
    """
    left = _left(balance, burning, now_ms=now_ms)
    chosen = set()
    for project in suspended:
        hour = hour_of(project.monthly_price_micro_usd)
        if 0 < left >= hour:
            left -= hour
            chosen.add(project.id)
    return chosen


def lacking(
    balance: MicroUsd, burning: Sequence[Burning], monthly_price: MicroUsd, *, now_ms: int
) -> MicroUsd:
    """Returns the least payment that makes a suspended project of this price `resumable`."""
    left = _left(balance, burning, now_ms=now_ms)
    return MicroUsd(max(0, hour_of(monthly_price) - left))


def _left(balance: MicroUsd, burning: Sequence[Burning], *, now_ms: int) -> int:
    """Returns the balance less what running projects owe, and less one more hour of them."""
    an_hour = hour_of(*(each.monthly_price_micro_usd for each in burning))
    return balance - owed(burning, at_ms=now_ms) - an_hour


def warning_hours(runs_out_ms: int | None, *, now_ms: int) -> int | None:
    """Returns the shortest warning that comes due before the next full hour is booked, or None.

    So a wallet that is warned of 24 hours still has 24 hours.
    """
    if runs_out_ms is None:
        return None
    left_ms = runs_out_ms - now_ms
    due = [hours for hours in WARNINGS_HOURS if left_ms < (hours + 1) * HOUR_MS]
    return min(due, default=None)

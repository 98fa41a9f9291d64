"""What running costs, and how long credits last: exact, and without a database.

An interval's total cost is `charge_up_to` its elapsed time, a step function. Credits run out in the
first millisecond at which all intervals together owe the whole balance.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
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
    return MicroUsd(sum(max(0, _owed(each, at_ms)) for each in burning))


def runs_out_at(balance: MicroUsd, burning: Sequence[Burning], *, now_ms: int) -> int | None:
    """Returns the first time from now on at which these have burned the balance, or None."""
    a_month = sum(each.monthly_price_micro_usd for each in burning)
    if a_month == 0:
        return None
    # Rounding up puts each less than 1 micro-USD above the straight line; that bounds the search.
    bill = _Bill(burning, now_ms=now_ms)
    left = balance - bill.owed(now_ms)
    latest = now_ms + max(0, -(-(left + len(burning)) * MONTH_MS // a_month))
    earliest = max(now_ms, now_ms + (left - len(burning)) * MONTH_MS // a_month)
    while earliest < latest:
        middle = (earliest + latest) // 2
        if bill.owed(middle) >= balance:
            latest = middle
        else:
            earliest = middle + 1
    return earliest


def _owed(interval: Burning, at_ms: int) -> int:
    """Returns what an interval costs up to `at_ms`, less what was booked: negative if more was."""
    before_ms = interval.started_at_ms - at_ms
    cost = -(interval.monthly_price_micro_usd * before_ms // MONTH_MS)
    return cost - interval.charged_micro_usd


class _Bill:
    """What intervals owe at any time from `now_ms` on: asked often, of thousands of a few prices.

    Those of one price owe 1 micro-USD more after equal times. So they owe that often what has
    passed of it in whole, and once more each whose own step, its phase, lies in the part begun.
    """

    def __init__(self, burning: Iterable[Burning], *, now_ms: int) -> None:
        self._paid_ahead = []  # few, if any: whose costs have yet to reach what was booked
        self._booked = 0
        self._phases: defaultdict[int, list[int]] = defaultdict(list)  # by price
        for each in burning:
            if _owed(each, now_ms) < 0:
                self._paid_ahead.append(each)
                continue
            price = each.monthly_price_micro_usd
            steps, phase = divmod(price * each.started_at_ms, MONTH_MS)
            self._booked += steps + each.charged_micro_usd
            self._phases[price].append(phase)
        for phases in self._phases.values():
            phases.sort()

    def owed(self, at_ms: int) -> int:
        """Returns what `owed` does."""
        total = owed(self._paid_ahead, at_ms=at_ms) - self._booked
        for price, phases in self._phases.items():
            steps, phase = divmod(price * at_ms, MONTH_MS)
            total += len(phases) * steps + bisect_left(phases, phase)
        return total


def hour_of(*monthly_prices: MicroUsd) -> MicroUsd:
    """Returns the most that one hour of projects at these prices burns."""
    return MicroUsd(
        sum(
            count * charge_up_to(HOUR_MS, monthly_price=price)
            for price, count in Counter(monthly_prices).items()
        )
    )


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


def promised_ms(months: int, *, before: MicroUsd, after: MicroUsd) -> int:
    """Returns how long a project is billed at `before` in all, before `after` may count."""
    if after <= before:
        return 0
    return months * MONTH_MS

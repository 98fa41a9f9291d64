"""What running costs, and how long credits last. All times are milliseconds, in billed time."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from moorage.money import NOTHING, MicroUsd

HOUR_MS = 3_600_000
MONTH_MS = 730 * HOUR_MS
"""A month of billing: a twelfth of 365 days."""

WARNINGS_HOURS = (7 * 24, 3 * 24, 24, 1)
"""A wallet is warned once for each of these, before its credits run out; longest first."""


class Month(NamedTuple):
    """A calendar month in UTC; `end_ms` is the first millisecond of the next."""

    start_ms: int
    end_ms: int


def month_of(at_ms: int) -> Month:
    """Returns the month that a time is in."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    start = datetime(at.year, at.month, 1, tzinfo=UTC)
    end = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    return Month(int(start.timestamp()) * 1000, int(end.timestamp()) * 1000)


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

    @property
    def purse(self) -> MicroUsd:
        """What it burns before the balance that is asked about."""
        ...


class Waiting(NamedTuple):
    """A suspended project."""

    id: str
    monthly_price: MicroUsd
    purse: MicroUsd = NOTHING
    """What it burns before the balance that is asked about."""
    rest: MicroUsd | None = None
    """What its limit lets it burn in this month; None: it has no limit."""


def charge_up_to(elapsed_ms: int, *, monthly_price: MicroUsd) -> MicroUsd:
    """Returns what `elapsed_ms` of running costs in all, rounded up to the micro-USD."""
    return MicroUsd(-(-monthly_price * max(0, elapsed_ms) // MONTH_MS))


def owed(burning: Iterable[Burning], *, at_ms: int) -> MicroUsd:
    """Returns what these cost up to `at_ms`, beyond their purses, and is not booked yet."""
    return MicroUsd(sum(max(0, _burn_owed(each, at_ms)) for each in burning))


def runs_out_at(balance: MicroUsd, burning: Sequence[Burning], *, now_ms: int) -> int | None:
    """Returns the first time from now on at which these have burned the balance, or None.

    Each burns its purse first. Without a balance it is the first time at which one needs it.
    """
    burning = [each for each in burning if each.monthly_price_micro_usd > 0]
    if not burning:
        return None
    if balance <= 0:
        return min(_needs_more_at(each, now_ms) for each in burning)
    a_month = sum(each.monthly_price_micro_usd for each in burning)
    # Rounding up puts each less than 1 micro-USD above the straight line; that bounds the search.
    bill = _Bill(burning, now_ms=now_ms)
    left = balance - bill.owed(now_ms)
    covered = balance - sum(_burn_owed(each, now_ms) for each in burning)  # with all purses
    latest = now_ms + max(0, -(-(covered + len(burning)) * MONTH_MS // a_month))
    earliest = max(now_ms, now_ms + (left - len(burning)) * MONTH_MS // a_month)
    while earliest < latest:
        middle = (earliest + latest) // 2
        if bill.owed(middle) >= balance:
            latest = middle
        else:
            earliest = middle + 1
    return earliest


def _burn_owed(interval: Burning, at_ms: int) -> int:
    """Returns what an interval costs up to `at_ms`, less what was booked and what its purse has:
    negative if these are more.
    """
    before_ms = interval.started_at_ms - at_ms
    cost = -(interval.monthly_price_micro_usd * before_ms // MONTH_MS)
    return cost - interval.charged_micro_usd - interval.purse


def _needs_more_at(interval: Burning, now_ms: int) -> int:
    """Returns the first time from now on at which an interval has burned its purse."""
    # A cost of n micro-USD, rounded up, is reached a millisecond after that of n - 1 in whole.
    covered = interval.charged_micro_usd + interval.purse
    whole_ms = (covered - 1) * MONTH_MS // interval.monthly_price_micro_usd
    return max(now_ms, interval.started_at_ms + whole_ms + 1)


class _Bill:
    """What intervals owe at any time from `now_ms` on: asked often, of thousands of a few prices.

    Those of one price owe 1 micro-USD more after equal times. So they owe that often what has
    passed of it in whole, and once more each whose own step, its phase, lies in the part begun.
    """

    def __init__(self, burning: Iterable[Burning], *, now_ms: int) -> None:
        self._paid_ahead = []  # whose costs have yet to reach what was booked, and their purses
        self._booked = 0
        self._phases: defaultdict[int, list[int]] = defaultdict(list)  # by price
        for each in burning:
            if _burn_owed(each, now_ms) < 0:
                self._paid_ahead.append(each)
                continue
            price = each.monthly_price_micro_usd
            steps, phase = divmod(price * each.started_at_ms, MONTH_MS)
            self._booked += steps + each.charged_micro_usd + each.purse
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
    balance: MicroUsd, burning: Sequence[Burning], suspended: Iterable[Waiting], *, now_ms: int
) -> set[str]:
    """Returns the ids of a wallet's suspended projects that may start again.

    `suspended` is sorted, longest suspended first. A project may start if its purse and the balance
    pay an hour of it and of all that runs or was chosen before it, and its limit lets it burn that.
    One that costs too much is skipped.
    """
    left = _left(balance, burning, now_ms=now_ms)
    chosen = set()
    for project in suspended:
        hour = hour_of(project.monthly_price)
        reach = project.purse + max(0, left)
        if project.rest is not None:
            reach = min(reach, project.rest)
        if 0 < reach >= hour:
            left -= max(0, hour - project.purse)
            chosen.add(project.id)
    return chosen


def lacking(
    balance: MicroUsd, burning: Sequence[Burning], project: Waiting, *, now_ms: int
) -> MicroUsd:
    """Returns the least payment that makes a suspended project `resumable`, limit aside."""
    beyond = hour_of(project.monthly_price) - project.purse
    left = _left(balance, burning, now_ms=now_ms)
    return MicroUsd(max(0, beyond - left)) if beyond > 0 or project.purse <= 0 else NOTHING


def _left(balance: MicroUsd, burning: Sequence[Burning], *, now_ms: int) -> int:
    """Returns the balance less what running projects owe, and less one more hour of them."""
    promised = (
        max(0, _burn_owed(each, now_ms) + hour_of(each.monthly_price_micro_usd)) for each in burning
    )
    return balance - sum(promised)


def warning_hours(runs_out_ms: int | None, *, now_ms: int) -> int | None:
    """Returns the shortest warning that comes due before the next full hour is booked, or None.

    So a wallet that is warned of 24 hours still has 24 hours.
    """
    if runs_out_ms is None:
        return None
    left_ms = runs_out_ms - now_ms
    due = [hours for hours in WARNINGS_HOURS if left_ms < (hours + 1) * HOUR_MS]
    return min(due, default=None)


def promised_ms(months: int, *, rises: bool) -> int:
    """Returns how long a project is billed at a price in all, before one that rises may count."""
    return months * MONTH_MS if rises else 0

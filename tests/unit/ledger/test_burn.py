"""How long credits last, against a plain search millisecond by millisecond and by fractions."""

import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.ledger.running_costs import Waiting, lacking, resumable, runs_out_at, warning_hours
from moorage.money import NOTHING, MicroUsd
from support.gateway.clock import HOUR_MS

MONTH_MS = Fraction(365 * 24 * HOUR_MS, 12)
HALF_A_DOLLAR = MicroUsd(500_000)
AN_HOUR = 685  # micro-USD at $0.50 a month, rounded up


@dataclass(frozen=True)
class App:
    id: str = "app"
    monthly_price_micro_usd: MicroUsd = HALF_A_DOLLAR
    started_at_ms: int = 0
    charged_micro_usd: MicroUsd = NOTHING
    purse: MicroUsd = NOTHING


def cost(app: App, at_ms: int) -> int:
    price = Fraction(app.monthly_price_micro_usd)
    return max(0, math.ceil(price * max(0, at_ms - app.started_at_ms) / MONTH_MS))


def unpaid(apps: list[App], at_ms: int) -> int:
    return sum(max(0, cost(app, at_ms) - app.charged_micro_usd - app.purse) for app in apps)


def needs_more(apps: list[App], at_ms: int) -> bool:
    """Whether one that costs anything has burned its purse."""
    return any(
        cost(app, at_ms) - app.charged_micro_usd >= app.purse
        for app in apps
        if app.monthly_price_micro_usd
    )


apps = st.builds(
    App,
    monthly_price_micro_usd=(st.sampled_from([500_000, 7]) | st.integers(0, 10**7)).map(MicroUsd),
    started_at_ms=st.integers(0, 10**7),
    charged_micro_usd=st.integers(0, 2_000).map(MicroUsd),
    purse=(st.just(0) | st.integers(0, 5_000) | st.integers(0, 10**7)).map(MicroUsd),
)


@given(
    burning=st.lists(apps, min_size=1, max_size=8),
    balance=st.integers(-100, 10**8).map(MicroUsd),
    now_ms=st.integers(10**7, 2 * 10**7),
)
def test_credits_run_out_in_the_first_millisecond_that_they_do_not_cover(
    burning: list[App], balance: MicroUsd, now_ms: int
) -> None:
    burning = [  # nobody is charged for more than ran
        App(
            monthly_price_micro_usd=app.monthly_price_micro_usd,
            started_at_ms=app.started_at_ms,
            charged_micro_usd=MicroUsd(min(app.charged_micro_usd, cost(app, now_ms))),
            purse=app.purse,
        )
        for app in burning
    ]
    found = runs_out_at(balance, burning, now_ms=now_ms)
    if all(app.monthly_price_micro_usd == 0 for app in burning):
        assert found is None
        return
    assert found is not None
    assert found >= now_ms
    assert unpaid(burning, found) >= balance
    assert needs_more(burning, found)
    if found > now_ms:
        before = found - 1
        assert unpaid(burning, before) < balance or not needs_more(burning, before)


def test_half_a_dollar_lasts_a_month_and_two_apps_half_of_it() -> None:
    alone = runs_out_at(MicroUsd(500_000), [App()], now_ms=0)
    both = runs_out_at(MicroUsd(500_000), [App(), App()], now_ms=0)
    assert alone is not None
    assert both is not None
    assert 730 * HOUR_MS - 6_000 < alone <= 730 * HOUR_MS  # the last micro-USD lasts 5.256 s
    assert 365 * HOUR_MS - 12_000 < both <= 365 * HOUR_MS


def test_nothing_that_burns_never_runs_out() -> None:
    assert runs_out_at(MicroUsd(1), [], now_ms=0) is None


SUSPENDED = [
    Waiting("first", HALF_A_DOLLAR),
    Waiting("dear", MicroUsd(50_000_000)),
    Waiting("last", HALF_A_DOLLAR),
]


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        (0, set()),
        (AN_HOUR - 1, set()),
        (AN_HOUR, {"first"}),
        (2 * AN_HOUR, {"first", "last"}),
        (10**9, {"first", "dear", "last"}),
    ],
)
def test_longest_suspended_wake_first_and_a_dear_one_keeps_none_waiting(
    balance: int, expected: set[str]
) -> None:
    assert resumable(MicroUsd(balance), [], SUSPENDED, now_ms=0) == expected


def test_what_runs_already_and_what_it_owes_come_first() -> None:
    burning = [App(started_at_ms=0)]
    now_ms = HOUR_MS // 2  # 343 micro-USD are not booked yet
    enough = MicroUsd(2 * AN_HOUR + 343)
    following = Waiting("next", HALF_A_DOLLAR)
    assert resumable(enough, burning, [following], now_ms=now_ms) == {"next"}
    assert resumable(MicroUsd(enough - 1), burning, [following], now_ms=now_ms) == set()
    for balance in (MicroUsd(enough), MicroUsd(enough - 1), MicroUsd(-2_000_000)):
        lacks = lacking(balance, burning, following, now_ms=now_ms)
        assert lacks == enough - balance


@pytest.mark.parametrize(
    ("left_hours", "expected"),
    [
        (None, None),
        (169, None),
        (168.9, 168),
        (73, 168),
        (72.9, 72),
        (25, 72),
        (24.9, 24),
        (2, 24),
        (1.9, 1),
        (0, 1),
    ],
)
def test_each_warning_comes_while_its_hours_are_still_left(
    left_hours: float | None, expected: int | None
) -> None:
    runs_out_ms = None if left_hours is None else 7 + round(left_hours * HOUR_MS)
    assert warning_hours(runs_out_ms, now_ms=7) == expected

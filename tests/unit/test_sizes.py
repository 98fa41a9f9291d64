"""Sizes: the operator's list, and the price of each."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidField
from moorage.money import MicroUsd
from moorage.records.size import PriceList, Size, Sizes
from moorage.settings import Settings, load_settings


def sizes(listed: list[dict[str, Any]], **given: Any) -> Sizes:
    return load_settings(file=None, environ={}, sizes=listed, **given).size_list


def test_three_sizes_are_sold_where_none_are_listed() -> None:
    assert [
        (it.name, it.memory_mib, it.cpu_millis, it.disk_mib, it.volume_mib, it.month)
        for it in Settings().size_list.listed
    ] == [
        ("small", 256, 250, 1024, 1024, 250_000),
        ("standard", 512, 500, 1024, 1024, 500_000),
        ("large", 2048, 2000, 2048, 1024, 2_000_000),
    ]
    # 2 GiB at 100,000; small and standard have the same disks.
    assert [it.asleep_month for it in Settings().size_list.listed] == [200_000, 200_000, 300_000]


def test_listed_size_has_what_apps_have_but_for_what_it_says() -> None:
    huge = sizes([{"name": "huge", "memory_mib": 4096}], app_cpu_millis=700).of("huge")
    assert (huge.memory_mib, huge.cpu_millis, huge.disk_mib) == (4096, 700, 1024)
    assert huge.month == 2_000_000 + 350_000


def test_price_may_be_fixed_by_hand() -> None:
    fixed = sizes([{"name": "standard", "month_micro_usd": 7, "asleep_month_micro_usd": 3}]).default
    assert (fixed.month, fixed.asleep_month, fixed.memory_mib) == (7, 3, 512)


def test_sleep_costs_no_more_than_running() -> None:
    assert sizes([], disk_gib_month_micro_usd=9_000_000).default.asleep_month == 500_000


@pytest.mark.parametrize(
    "listed",
    [
        [{"name": "Large"}],
        [{"name": "a" * 33}],
        [{"name": "x", "memory_mib": 63}],
        [{"name": "x", "price": 1}],
        [{"memory_mib": 512}],
    ],
)
def test_wrong_size_is_refused_when_settings_are_read(listed: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidField, match="sizes"):
        sizes(listed)


def test_names_of_sizes_differ() -> None:
    with pytest.raises(InvalidField, match="differ"):
        sizes([{"name": "x"}, {"name": "x"}])


def test_unknown_size_is_refused_with_those_that_are_sold() -> None:
    listed = sizes([{"name": "old", "sold": False}, {"name": "big", "memory_mib": 1024}])
    with pytest.raises(InvalidField, match="must be one of the sizes here: standard, big"):
        listed.of("hug", field="settings.size")
    assert listed.of("old").memory_mib == 512  # which a project may still have
    assert listed.of("gone") == listed.default  # taken off the list, although one has it


@given(
    memory=st.integers(0, 10**9),
    cpu=st.integers(0, 10**9),
    disk=st.integers(0, 10**9),
    size=st.builds(
        Size,
        memory_mib=st.integers(1, 10**6),
        cpu_millis=st.integers(1, 10**6),
        disk_mib=st.integers(1, 10**6),
        volume_mib=st.integers(1, 10**6),
    ),
    months=st.integers(1, 24),
    minimum=st.integers(1, 10**7),
)
def test_price_is_the_exact_one_rounded_up_by_a_micro_usd_at_most(
    memory: int, cpu: int, disk: int, size: Size, months: int, minimum: int
) -> None:
    prices = PriceList(MicroUsd(memory), MicroUsd(cpu), MicroUsd(disk), MicroUsd(minimum))
    made = prices.sizes(size).default
    exact = Fraction(memory * size.memory_mib, 1024) + Fraction(cpu * size.cpu_millis, 1000)
    asleep = math.ceil(Fraction(disk * (size.disk_mib + size.volume_mib), 1024))
    assert math.ceil(exact) <= made.month <= math.ceil(exact) + 2
    assert made.asleep_month == min(made.month, asleep)
    assert prices.deploy(made, months=months) == max(minimum, made.month * months)

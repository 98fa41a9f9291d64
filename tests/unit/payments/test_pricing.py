import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.money import MicroUsd
from moorage.payments.price.quotes import PriceList, Size


@pytest.mark.parametrize(
    ("months", "price"), [(1, 500_000), (2, 1_000_000), (3, 1_500_000), (24, 12_000_000)]
)
def test_default_app_costs_half_a_dollar_a_month(months: int, price: int) -> None:
    assert PriceList().deploy(Size(), months=months) == price


def test_no_deploy_costs_less_than_the_minimum() -> None:
    cheap = PriceList(memory_gib_month=MicroUsd(1), cpu_month=MicroUsd(1))
    assert cheap.deploy(Size(), months=24) == 500_000
    assert cheap.month(Size()) == 2


def test_replicas_multiply_the_price() -> None:
    assert PriceList().month(Size(replicas=3)) == 3 * PriceList().month(Size())


@given(
    memory=st.integers(0, 10**9),
    cpu=st.integers(0, 10**9),
    size=st.builds(
        Size,
        memory_mib=st.integers(1, 10**6),
        cpu_millis=st.integers(1, 10**6),
        replicas=st.integers(1, 10),
    ),
    months=st.integers(1, 24),
    minimum=st.integers(1, 10**7),
)
def test_price_is_the_exact_one_rounded_up_by_a_micro_usd_at_most(
    memory: int, cpu: int, size: Size, months: int, minimum: int
) -> None:
    prices = PriceList(MicroUsd(memory), MicroUsd(cpu), MicroUsd(minimum))
    exact = Fraction(memory * size.memory_mib, 1024) + Fraction(cpu * size.cpu_millis, 1000)
    least = math.ceil(exact * size.replicas)
    assert least <= prices.month(size) <= least + 2 * size.replicas
    assert prices.deploy(size, months=months) == max(minimum, prices.month(size) * months)

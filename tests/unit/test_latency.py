"""What is told of latency: from counts in buckets, which add up."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.records.usage import (
    BOUNDS_MS,
    BUCKETS,
    Consumption,
    Latency,
    Traffic,
    bucket_of,
    latency_of,
)


def counted(*latencies_ms: float) -> Traffic:
    traffic = Traffic()
    for latency_ms in latencies_ms:
        traffic.count_latency(latency_ms)
    return traffic


def told(*latencies_ms: float) -> Latency:
    traffic = counted(*latencies_ms)
    latency = latency_of(traffic.latency, slowest_ms=traffic.slowest_ms)
    assert latency is not None
    return latency


def test_each_bucket_ends_at_its_bound() -> None:
    for number, bound in enumerate(BOUNDS_MS):
        assert BUCKETS[number] == f"within_{bound}_ms"
        assert bucket_of(bound) == number
        assert bucket_of(bound + 0.001) == number + 1
    assert BUCKETS[-1] == f"beyond_{BOUNDS_MS[-1]}_ms"
    assert len(BUCKETS) == len(BOUNDS_MS) + 1


def test_nothing_is_told_of_no_requests() -> None:
    assert latency_of([0] * len(BUCKETS), slowest_ms=0) is None


def test_few_slow_requests_show_in_the_slowest_and_not_in_the_median() -> None:
    latency = told(*[8] * 96, *[700] * 3, 31_000)
    assert 5 <= latency.median_ms <= 10
    assert 5 <= latency.p95_ms <= 10
    assert latency.slowest_ms == 31_000


def test_one_in_ten_that_is_slow_shows_in_p95() -> None:
    latency = told(*[8] * 90, *[700] * 10)
    assert 500 <= latency.p95_ms <= 700


@given(st.lists(st.floats(0, 60_000), min_size=1, max_size=200))
def test_median_lies_in_the_bucket_of_the_true_one(latencies_ms: list[float]) -> None:
    latency = told(*latencies_ms)
    true = statistics.median_low(latencies_ms)
    bounds = (0, *BOUNDS_MS, latency.slowest_ms)
    number = bucket_of(true)
    assert bounds[number] <= latency.median_ms <= bounds[number + 1]
    assert latency.median_ms <= latency.p95_ms <= latency.slowest_ms


@pytest.mark.parametrize("name", BUCKETS)
def test_every_bucket_is_a_field_of_what_is_stored(name: str) -> None:
    used = Consumption(project_id="p", **{name: 3})
    assert used.latency_counts[BUCKETS.index(name)] == 3
    assert sum(used.latency_counts) == 3

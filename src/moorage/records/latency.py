"""Latency: how long an app takes until it begins to answer, as counts that can be added up.

A request falls into the first bucket whose bound it does not exceed. Sums of buckets over hours
and gateways are exact; what is read from them (the median, say) is exact to the bucket.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

BOUNDS_MS = (2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000)

BUCKETS = (*(f"within_{bound}_ms" for bound in BOUNDS_MS), "beyond_10000_ms")
"""The buckets' names, in the order of time: those of fields, and of columns."""


class Latency(NamedTuple):
    """What most requests of some time took, in milliseconds."""

    median_ms: int
    p95_ms: int
    slowest_ms: int


def bucket_of(latency_ms: float) -> int:
    """Returns the number of the bucket that a request falls into."""
    return bisect_left(BOUNDS_MS, latency_ms)


def latency_of(counts: Sequence[int], *, slowest_ms: int) -> Latency | None:
    """Returns the latency of the requests in these buckets; None if there are none."""
    if not any(counts):
        return None
    return Latency(
        median_ms=_quantile(counts, 0.5, slowest_ms),
        p95_ms=_quantile(counts, 0.95, slowest_ms),
        slowest_ms=slowest_ms,
    )


def _quantile(counts: Sequence[int], share: float, slowest_ms: int) -> int:
    """Returns what this share of requests took at most, as if each bucket was evenly filled."""
    wanted = share * sum(counts)
    lower = 0
    for count, bound in zip(counts, (*BOUNDS_MS, slowest_ms), strict=True):
        upper = min(bound, slowest_ms)
        if wanted <= count:
            return round(lower + (upper - lower) * wanted / count)
        wanted -= count
        lower = upper
    return slowest_ms

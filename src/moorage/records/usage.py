"""What apps use, by hour and lately; their visitors, and how long those wait for an answer.

Latency is counts: a request falls into the first bucket whose bound it does not exceed. Sums of
buckets over hours and gateways are exact; what is read from them (the median, say) is exact to
the bucket.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import msgspec

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


SPAN_MS = 300_000
"""The stretch that a row of `usage_spans` is about; an hour is a whole number of them."""


class Consumption(msgspec.Struct, frozen=True, kw_only=True):
    """What a project's app used in some time."""

    project_id: str
    cpu_ms: int = 0  # processor time
    memory_byte_seconds: int = 0
    memory_peak_bytes: int = 0  # the highest sample
    requests: int = 0
    bytes_in: int = 0  # requests' bodies, and what WebSockets received
    bytes_out: int = 0
    status_1xx: int = 0
    status_2xx: int = 0
    status_3xx: int = 0
    status_4xx: int = 0
    status_5xx: int = 0
    held: int = 0  # requests that waited until the app was started, and how long in all
    held_ms: int = 0
    slowest_ms: int = 0  # until the app began to answer; below, how many by the bucket of `latency`
    within_2_ms: int = 0
    within_5_ms: int = 0
    within_10_ms: int = 0
    within_25_ms: int = 0
    within_50_ms: int = 0
    within_100_ms: int = 0
    within_250_ms: int = 0
    within_500_ms: int = 0
    within_1000_ms: int = 0
    within_2500_ms: int = 0
    within_10000_ms: int = 0
    beyond_10000_ms: int = 0

    @property
    def latency_counts(self) -> list[int]:
        """Returns how many requests are in each bucket of `latency`."""
        return [getattr(self, name) for name in BUCKETS]


def latency_in(times: Sequence[Consumption]) -> Latency | None:
    """Returns the latency of all requests in these hours or spans; None if there are none."""
    counts = [sum(bucket) for bucket in zip(*(each.latency_counts for each in times), strict=True)]
    return latency_of(counts, slowest_ms=max((each.slowest_ms for each in times), default=0))


class UsageHour(Consumption, frozen=True, kw_only=True):
    """One row of `usage`: the hour that began at `hour_ms`."""

    hour_ms: int


class UsageSpan(Consumption, frozen=True, kw_only=True):
    """One row of `usage_spans`: the five minutes that began at `begins_ms`."""

    begins_ms: int


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What an app uses now, from the last two samples."""

    cpu_millis: int  # thousandths of a core
    memory_bytes: int


HOUR_MS = 3_600_000


class Position(msgspec.Struct, frozen=True):
    """How far a log has been read: `head` says it of each file, `offset` is their sum."""

    head: str
    offset: int


class Traffic(msgspec.Struct):
    """The requests to one host in five minutes; bytes are those of heads, bodies and WebSockets."""

    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    status_1xx: int = 0
    status_2xx: int = 0
    status_3xx: int = 0
    status_4xx: int = 0
    status_5xx: int = 0
    last_at_ms: int = 0  # when the last request was answered
    held: int = 0  # that waited until the app was started
    held_ms: int = 0
    slowest_ms: int = 0
    latency: list[int] = msgspec.field(default_factory=lambda: [0] * len(BUCKETS))

    def count(self, *, status: int, bytes_in: int, bytes_out: int, at_ms: int) -> None:
        """Adds a request."""
        self.requests += 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.last_at_ms = max(self.last_at_ms, at_ms)
        status_class = f"status_{status // 100}xx"
        if status_class in self.__struct_fields__:
            setattr(self, status_class, getattr(self, status_class) + 1)

    def count_latency(self, latency_ms: float) -> None:
        """Adds how long the app took until it began to answer one of the requests."""
        self.latency[bucket_of(latency_ms)] += 1
        self.slowest_ms = max(self.slowest_ms, ceil(latency_ms))

    def count_held(self, held_ms: float) -> None:
        """Adds that one of the requests waited before the app got it."""
        self.held += 1
        self.held_ms += round(held_ms)


class Batch(msgspec.Struct):
    """The result of reading a log: traffic by host and five minutes, and where to continue."""

    position: Position
    traffic: dict[tuple[str, int], Traffic]
    tried: frozenset[str]  # hosts whose app got a request, whether or not it answered

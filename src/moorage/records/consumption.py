"""What projects use: hour by hour, lately every five minutes, and now."""

import msgspec

from moorage.records.latency import BUCKETS

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

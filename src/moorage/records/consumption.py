"""What projects use: hour by hour, lately every five minutes, and now."""

import msgspec

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

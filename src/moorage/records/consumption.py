"""What projects use: hour by hour, and now."""

import msgspec


class UsageHour(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `usage`: what a project's app used in the hour that began at `hour_ms`."""

    project_id: str
    hour_ms: int
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


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What an app uses now, from the last two samples."""

    cpu_millis: int  # thousandths of a core
    memory_bytes: int

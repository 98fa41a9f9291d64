"""What a project used."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.wire.shape import Absent, CamelBody, Time


class LatencyItem(CamelBody, frozen=True, kw_only=True):
    """Until the app began to answer."""

    median_ms: int
    p95_ms: int
    slowest_ms: int


class UsageItem(CamelBody, frozen=True, kw_only=True):
    """What a project's app used in a stretch of time."""

    requests: int
    status: Annotated[dict[str, int], Meta(description="requests by class: 1xx to 5xx"), Absent({})]
    bytes_in: Annotated[int, Meta(description="heads, bodies and WebSockets")]
    bytes_out: Annotated[int, Meta(description="heads, bodies and WebSockets")]
    cpu_ms: Annotated[int, Meta(description="processor time")]
    memory_byte_seconds: int
    memory_peak_bytes: Annotated[int, Meta(description="highest sample")]
    latency: LatencyItem | UnsetType = UNSET
    held: Annotated[int, Meta(description="requests that waited for a start"), Absent(0)]
    held_ms: Annotated[int, Absent(0)]


class UsageHourItem(UsageItem, frozen=True, kw_only=True):
    """One hour, by its beginning; unused ones are left out."""

    hour: Time


class UsageSpanItem(UsageItem, frozen=True, kw_only=True):
    """Five minutes, by their beginning."""

    begins: Time


class LoadItem(CamelBody, frozen=True, kw_only=True):
    """What an app that runs uses now."""

    cpu_millis: Annotated[int, Meta(description="thousandths of a core")]
    memory_bytes: int


class ProjectUsage(CamelBody, frozen=True, kw_only=True):
    """What a project used in some time."""

    project_id: Annotated[str, Absent("")]
    from_: Time = msgspec.field(name="from")
    to: Time
    now: Annotated[
        LoadItem | None,
        Meta(description="null while no app runs, and just after its start"),
        Absent(None),
    ]
    totals: UsageItem
    hours: Annotated[list[UsageHourItem], Absent([])]
    spans: list[UsageSpanItem] | UnsetType = UNSET

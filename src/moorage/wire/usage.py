"""What a project used."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.wire.shape import Absent, CamelBody, Time


class UsageItem(CamelBody, frozen=True, kw_only=True):
    """What a project's app used in a stretch of time."""

    requests: int
    status: Annotated[dict[str, int], Meta(description="requests by class: 1xx to 5xx"), Absent({})]
    bytes_in: Annotated[int, Meta(description="bodies of requests, and WebSockets'")]
    bytes_out: Annotated[int, Meta(description="bodies of answers, and WebSockets'")]
    cpu_ms: Annotated[int, Meta(description="processor time")]
    memory_byte_seconds: int
    memory_peak_bytes: Annotated[int, Meta(description="the most that a sample found")]


class UsageHourItem(UsageItem, frozen=True, kw_only=True):
    """One hour, by its beginning; those in which nothing was used are left out."""

    hour: Time


class UsageSpanItem(UsageItem, frozen=True, kw_only=True):
    """Five minutes, by their beginning."""

    begins: Time


class LoadItem(CamelBody, frozen=True, kw_only=True):
    """What an app that runs uses now."""

    cpu_millis: Annotated[int, Meta(description="thousandths of a core")]
    memory_bytes: int


class ProjectUsage(CamelBody, frozen=True, kw_only=True):
    """What a project used in what began from `from` on and before `to`."""

    project_id: Annotated[str, Absent("")]
    from_: Time = msgspec.field(name="from")
    to: Time
    now: Annotated[
        LoadItem | None,
        Meta(description="null while no app runs, and for up to half a minute after its start"),
        Absent(None),
    ]
    totals: UsageItem
    hours: Annotated[list[UsageHourItem], Absent([])]
    spans: list[UsageSpanItem] | UnsetType = UNSET

"""`GET /agent/projects/{projectId}/usage`: a project's requests and what its app used."""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import Front, owned_project
from moorage.api.http.problems import json_response
from moorage.api.http.query import LAST_TIME_MS, time_ms
from moorage.clock import iso_utc
from moorage.errors import InvalidField
from moorage.records.project import Project
from moorage.records.usage import Consumption, UsageHour, UsageSpan, latency_of
from moorage.storage.apps import usage
from moorage.wire.usage import (
    LatencyItem,
    LoadItem,
    ProjectUsage,
    UsageHourItem,
    UsageItem,
    UsageSpanItem,
)

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_MAX_DAYS = 31
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_SUMS = (
    *("requests", "bytes_in", "bytes_out", "held", "held_ms"),
    *("cpu_ms", "memory_byte_seconds"),
)


async def show_usage(room: Front, request: Request) -> Response:
    """What was used between two times, a day up to now unless given, and the sum."""
    project = await owned_project(room, request)
    until_ms = time_ms(request, "to", default=min(room.clock.now_ms(), LAST_TIME_MS))
    from_ms = time_ms(request, "from", default=max(0, until_ms - _DAY_MS))
    if not from_ms <= until_ms <= from_ms + _MAX_DAYS * _DAY_MS:
        raise InvalidField("from", f"must be before `to`, by at most {_MAX_DAYS} days")
    hours, spans = await _measured(room, request, project, from_ms=from_ms, until_ms=until_ms)
    return json_response(
        ProjectUsage(
            project_id=project.id,
            from_=iso_utc(from_ms),
            to=iso_utc(until_ms),
            now=await _load(room, project),
            totals=UsageItem(**_amounts(hours if spans is None else spans)),
            hours=[UsageHourItem(hour=iso_utc(hour.hour_ms), **_amounts([hour])) for hour in hours],
            spans=UNSET if spans is None else [_span_item(each) for each in spans],
        )
    )


def _span_item(span: UsageSpan) -> UsageSpanItem:
    return UsageSpanItem(begins=iso_utc(span.begins_ms), **_amounts([span]))


async def _measured(
    room: Front, request: Request, project: Project, *, from_ms: int, until_ms: int
) -> tuple[list[UsageHour], list[UsageSpan] | None]:
    """Returns the hours, or, where the request asks for these, the stretches of five minutes."""
    times = {"from_ms": from_ms, "until_ms": until_ms}
    match request.query_params.get("by", "hour"):
        case "hour":
            return await usage.between(room.db, project.id, **times), None
        case "5m":
            return [], await usage.spans_between(room.db, project.id, **times)
    raise InvalidField("by", "must be hour or 5m")


async def _load(room: Front, project: Project) -> LoadItem | None:
    load = await usage.load(room.db, project.serving_deployment_id or "")
    if load is None:
        return None
    return LoadItem(cpu_millis=load.cpu_millis, memory_bytes=load.memory_bytes)


def _amounts(hours: Sequence[Consumption]) -> dict[str, Any]:
    """Returns the sum of the hours, the highest of their peaks, and the latency in all of them."""
    return {
        "latency": _latency(hours),
        "status": {
            name: sum(getattr(hour, f"status_{name}") for hour in hours) for name in _CLASSES
        },
        "memory_peak_bytes": max((hour.memory_peak_bytes for hour in hours), default=0),
    } | {name: sum(getattr(hour, name) for hour in hours) for name in _SUMS}


def _latency(hours: Sequence[Consumption]) -> LatencyItem | UnsetType:
    counts = [sum(bucket) for bucket in zip(*(hour.latency_counts for hour in hours), strict=True)]
    slowest_ms = max((hour.slowest_ms for hour in hours), default=0)
    latency = latency_of(counts, slowest_ms=slowest_ms)
    return UNSET if latency is None else LatencyItem(**latency._asdict())

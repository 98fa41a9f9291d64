"""What a project's app was asked and used: numbers, charts, and a table of the hours."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from moorage.clock import iso_utc
from moorage.pages.rendering.chart import Chart, Marker, Series, Unit
from moorage.pages.rendering.written import ms
from moorage.pages.wallet.project.shown import project_of
from moorage.pages.wallet.times import DAY_MS, HOUR_MS
from moorage.pages.wallet.view import View
from moorage.payments.price.pricing import Size
from moorage.records.deployment import DeploymentStatus
from moorage.wire.deployments import DeploymentItem, DeploymentList
from moorage.wire.usage import ProjectUsage, UsageHourItem

SPANS = {"day": DAY_MS, "week": 7 * DAY_MS, "month": 30 * DAY_MS}
_CLASSES = ("2xx", "3xx", "4xx", "5xx", "1xx")
_MAX_MARKERS = 50
_MIB = 1024 * 1024
_SERVED = (DeploymentStatus.READY, DeploymentStatus.SUPERSEDED)


async def show_metrics(view: View) -> Response:
    """`GET …/metrics`: the last day, week or month."""
    project = await project_of(view)
    span = view.query.get("span", "day")
    span = span if span in SPANS else "day"
    until_ms = view.clock.now_ms()
    from_ms = (until_ms - SPANS[span]) // HOUR_MS * HOUR_MS
    usage = await view.api.get(
        ProjectUsage, "projects", project.id, "usage", from_=iso_utc(from_ms), to=iso_utc(until_ms)
    )
    deployed = await view.api.get(
        DeploymentList, "projects", project.id, "deployments", limit=_MAX_MARKERS
    )
    markers = deploy_markers(deployed.deployments, from_ms=from_ms)
    hours = hours_of(
        usage.hours, from_ms=from_ms, until_ms=until_ms, size=view.facts.size, markers=markers
    )
    return view.page(
        "wallet/project/metrics.html",
        project=project,
        usage=usage,
        span=span,
        spans=tuple(SPANS),
        memory_limit=view.facts.size.memory_mib * _MIB,
        cpu_limit_millis=view.facts.size.cpu_millis,
        charts=hours.charts(),
    )


def deploy_markers(deployed: Sequence[DeploymentItem], *, from_ms: int) -> list[Marker]:
    """Returns where versions began to serve, in the order of time."""
    ended = [
        (ms(each.ended_at), each)
        for each in deployed
        if each.ended_at is not None and each.status in _SERVED
    ]
    return [
        Marker(at_ms // 1000, f"Deployed {each.id[:8]}")
        for at_ms, each in reversed(ended)
        if at_ms >= from_ms
    ]


@dataclass(frozen=True, kw_only=True)
class Hours:
    """What was used, hour by hour; None in hours that nothing was measured in."""

    starts_ms: Sequence[int]
    found: Sequence[UsageHourItem | None]
    size: Size
    markers: list[Marker]

    def charts(self) -> list[tuple[str, Chart]]:
        """Returns each chart with its title."""
        return [
            ("Requests an hour", self._chart("count", self._requests())),
            (
                "Processor",
                self._chart(
                    "cores",
                    [self._series("Average of the hour", "cpu_ms", HOUR_MS)],
                    limit=self.size.cpu_millis / 1000,
                ),
            ),
            (
                "Memory",
                self._chart(
                    "bytes",
                    [
                        self._series("Average of the hour", "memory_byte_seconds", HOUR_MS / 1000),
                        self._series("Highest", "memory_peak_bytes"),
                    ],
                    limit=float(self.size.memory_mib * _MIB),
                ),
            ),
            (
                "Traffic",
                self._chart(
                    "bytes",
                    [self._series("Sent", "bytes_out"), self._series("Received", "bytes_in")],
                ),
            ),
        ]

    def _requests(self) -> list[Series]:
        """Returns a series for each class of answers that there was, for 2xx in any case."""
        of = {
            name: [None if each is None else each.status.get(name, 0) for each in self.found]
            for name in _CLASSES
        }
        return [Series(name, list(of[name])) for name in _CLASSES if name == "2xx" or any(of[name])]

    def _series(self, name: str, field: str, divisor: float = 1) -> Series:
        return Series(
            name, [None if each is None else getattr(each, field) / divisor for each in self.found]
        )

    def _chart(self, unit: Unit, series: list[Series], limit: float | None = None) -> Chart:
        times = [start // 1000 for start in self.starts_ms]
        return Chart(unit=unit, times=times, series=series, limit=limit, markers=self.markers)


def hours_of(
    hours: Sequence[UsageHourItem],
    *,
    from_ms: int,
    until_ms: int,
    size: Size,
    markers: list[Marker],
) -> Hours:
    """Returns every hour of a time."""
    by_hour = {ms(each.hour): each for each in hours}
    starts = range(from_ms, until_ms, HOUR_MS)
    found = [by_hour.get(start) for start in starts]
    return Hours(starts_ms=starts, found=found, size=size, markers=markers)

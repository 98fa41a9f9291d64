"""Traffic and resource use of a project's app: numbers, charts, and a table of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from moorage.clock import iso_utc
from moorage.pages.rendering.formatting import Chart, Marker, Series, Unit, ms
from moorage.pages.wallet.view import DAY_MS, HOUR_MS, View, project_of
from moorage.records.deployment import DeploymentStatus
from moorage.records.size import Size
from moorage.records.usage import SPAN_MS
from moorage.wire import calls
from moorage.wire.deployments import DeploymentItem
from moorage.wire.projects import ProjectUsage, UsageItem

SPANS = {"hour": HOUR_MS, "day": DAY_MS, "week": 7 * DAY_MS, "month": 30 * DAY_MS}
_FINE = ("hour", "day")  # for as long five minutes are kept
_CLASSES = ("2xx", "3xx", "4xx", "5xx", "1xx")
_MAX_MARKERS = 50
_MAX_ROWS = 48
_MIB = 1024 * 1024
_SERVED = (DeploymentStatus.READY, DeploymentStatus.SUPERSEDED)


async def show_metrics(view: View) -> Response:
    """`GET …/metrics`: the last hour, day, week or month."""
    project = await project_of(view)
    span = view.query.get("span", "day")
    span = span if span in SPANS else "day"
    step_ms, until_ms = (SPAN_MS if span in _FINE else HOUR_MS), view.clock.now_ms()
    from_ms = (until_ms - SPANS[span]) // step_ms * step_ms
    usage = await view.api.call(
        calls.USAGE,
        project.id,
        from_=iso_utc(from_ms),
        to=iso_utc(until_ms),
        by="5m" if span in _FINE else "hour",
    )
    size = view.facts.sizes.of(project.size)
    deployed = await view.api.call(calls.DEPLOYMENTS, project.id, limit=_MAX_MARKERS)
    found = measured(usage)
    steps = Steps(
        starts_ms=(starts := range(from_ms, until_ms, step_ms)),
        found=[found.get(start) for start in starts],
        step_ms=step_ms,
        size=size,
        markers=deploy_markers(deployed.deployments, from_ms=from_ms),
    )
    return view.page(
        "wallet/project/metrics.html",
        project=project,
        usage=usage,
        rows=[(iso_utc(at_ms), found[at_ms]) for at_ms in sorted(found, reverse=True)[:_MAX_ROWS]],
        span=span,
        spans=tuple(SPANS),
        step=steps.name,
        memory_limit=size.memory_mib * _MIB,
        cpu_limit_millis=size.cpu_millis,
        charts=steps.charts(),
    )


def measured(usage: ProjectUsage) -> dict[int, UsageItem]:
    """Returns what was used by the begin of each hour, or five minutes, in which something was."""
    hours: dict[int, UsageItem] = {ms(each.hour): each for each in usage.hours}
    return hours | {ms(each.begins): each for each in usage.spans or ()}


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
class Steps:
    """What was used in each hour, or each five minutes; None where nothing was measured."""

    starts_ms: Sequence[int]
    found: Sequence[UsageItem | None]
    step_ms: int
    size: Size
    markers: list[Marker]

    @property
    def name(self) -> str:
        """What a step is called."""
        return "hour" if self.step_ms == HOUR_MS else "five minutes"

    def charts(self) -> list[tuple[str, Chart]]:
        """Returns each chart with its title."""
        return [
            (f"Requests in each {self.name}", self._chart("count", self._requests())),
            ("Time until the app began to answer", self._chart("ms", self._latencies())),
            (
                "Processor",
                self._chart(
                    "cores",
                    [self._series("Average", "cpu_ms", self.step_ms)],
                    limit=self.size.cpu_millis / 1000,
                ),
            ),
            (
                "Memory",
                self._chart(
                    "bytes",
                    [
                        self._series("Average", "memory_byte_seconds", self.step_ms / 1000),
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

    def _latencies(self) -> list[Series]:
        """Returns half of the requests', and most of theirs; of the slowest there is a number."""
        latencies = [None if each is None else each.latency or None for each in self.found]
        return [
            Series("Half of the requests", [each and each.median_ms for each in latencies]),
            Series("95 of 100", [each and each.p95_ms for each in latencies]),
        ]

    def _series(self, name: str, field: str, divisor: float = 1) -> Series:
        return Series(
            name,
            [
                None if each is None else round(getattr(each, field) / divisor, 4)
                for each in self.found
            ],
        )

    def _chart(self, unit: Unit, series: list[Series], limit: float | None = None) -> Chart:
        times = [start // 1000 for start in self.starts_ms]
        return Chart(unit=unit, times=times, series=series, limit=limit, markers=self.markers)

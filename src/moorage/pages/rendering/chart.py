"""A chart as data: what `ui.chart` draws in the browser, and tells as a table beside it."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal

from moorage.pages.rendering.written import bytes_text, milliseconds

Unit = Literal["bytes", "cores", "count", "ms", "percent", "usd"]
MAX_SERIES = 5
MAX_ROWS = 48


@dataclass(frozen=True)
class Series:
    """One line of a chart; None where nothing was measured."""

    name: str
    values: list[float | None]


@dataclass(frozen=True)
class Marker:
    """Something that happened, such as a deploy: a line across the chart."""

    at: int  # seconds since 1970
    label: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over time, up to five of one unit. A table of it has 48 rows at most."""

    unit: Unit
    times: list[int]  # seconds since 1970, ascending, one for each value of each series
    series: list[Series]
    limit: float | None = None  # what the values can't be above
    markers: list[Marker] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < len(self.series) <= MAX_SERIES:
            raise ValueError(f"a chart has 1 to {MAX_SERIES} series")
        if any(len(each.values) != len(self.times) for each in self.series):
            raise ValueError("each series has one value for each time")

    @property
    def data(self) -> dict[str, Any]:
        """What the script draws, as JSON may hold it."""
        return asdict(self)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured at all."""
        return all(value is None for each in self.series for value in each.values)

    @property
    def heads(self) -> list[str | tuple[str, str]]:
        """The heads of the table's columns, as `ui.table` takes them."""
        return ["From", *((each.name, "num") for each in self.series)]

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The table: the begin of each span, and each series' highest value in it."""
        step = -(-len(self.times) // MAX_ROWS) or 1
        edges = [*range(0, len(self.times), step), len(self.times)]
        return [
            (
                f"{datetime.fromtimestamp(self.times[first], UTC):%Y-%m-%d %H:%M} UTC",
                [self._highest(each.values[first:end]) for each in self.series],
            )
            for first, end in pairwise(edges)
        ]

    def _highest(self, values: list[float | None]) -> str:
        known = [value for value in values if value is not None]
        return self.written(max(known)) if known else "–"

    def written(self, value: float) -> str:
        """Returns a value in the chart's unit."""
        match self.unit:
            case "bytes":
                return bytes_text(round(value))
            case "cores":
                return f"{value:.3f}".rstrip("0").rstrip(".") + (
                    " core" if value == 1 else " cores"
                )
            case "ms":
                return milliseconds(value)
            case "percent":
                return f"{value:.1f}".removesuffix(".0") + " %"
            case "usd":
                return f"${value:,.2f}"
            case "count":
                return f"{value:,.2f}".rstrip("0").rstrip(".")

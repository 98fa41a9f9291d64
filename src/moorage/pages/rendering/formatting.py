"""How amounts, times and sizes are written on pages; each is a filter of templates."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from moorage.money import MICRO_USD_PER_USD, MicroUsd, usd_text

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
"""Escape sequences of terminals: ECMA-48 §5.4, and the operating system commands of xterm."""

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_CELL = re.compile(r"<t[rdh](?=[\s>])")  # texts of others are escaped: they have no `<`
_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def usd(amount: MicroUsd) -> str:
    """Returns an exact amount, $1,234.50, with as many digits as it has."""
    whole, point, fraction = usd_text(amount).partition(".")
    sign, dollar, digits = whole.partition("$")
    return f"{sign}{dollar}{int(digits):,}{point}{fraction}"


def dollars(amount: float) -> str:
    """Returns an amount that an answer names in dollars, as `usd` does."""
    return usd(MicroUsd(round(amount * MICRO_USD_PER_USD)))


def about(amount: MicroUsd) -> str:
    """Returns an amount to the cent, as people say it: about $0.50; exactly where it is less."""
    cents = round(amount, -4)
    if cents in (0, amount):
        return usd(amount)
    return f"about {usd(MicroUsd(cents))}"


@pass_context
def when(context: Context, at_ms: int | None) -> Markup:
    """Returns a time in UTC, and how long ago it is; a script keeps that true."""
    if at_ms is None:
        return Markup("never")
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    machine = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    now_ms = context.get("now_ms")
    ago = (
        Markup("")
        if now_ms is None
        else Markup(' <span class="ago">{}</span>').format(relative((now_ms - at_ms) / 1000))
    )
    return Markup('<span class="when"><time datetime="{}">{} UTC</time>{}</span>').format(
        machine, f"{at:%Y-%m-%d %H:%M:%S}", ago
    )


def ms(iso: str) -> int:
    """Returns Unix milliseconds of a time as the API's answers have it."""
    return round(datetime.fromisoformat(iso).timestamp() * 1000)


def relative(seconds: float) -> str:
    """Returns how long ago something was, or until it is (negative): 3 minutes ago, in 2 days."""
    for size, name in _UNITS:
        count = int(abs(seconds)) // size
        if count:
            words = f"{count} {name}{'s' if count > 1 else ''}"
            return f"{words} ago" if seconds > 0 else f"in {words}"
    return "now"


def duration(seconds: float) -> str:
    """Returns a length of time in its two largest units: 3 days 4 hours."""
    left, parts = int(seconds), []
    for size, name in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
        if len(parts) == 2:
            break
    return " ".join(parts) or ("under a second" if seconds > 0 else "0 seconds")


def worked(milliseconds_used: float) -> str:
    """Returns processor time: as `duration`, and below a minute to the hundredth of a second."""
    seconds = milliseconds_used / 1000
    if seconds >= 60:
        return duration(seconds)
    return f"{seconds:.2f} s" if seconds >= 1 else milliseconds(milliseconds_used)


def named(rows: Markup, heads: Sequence[str | tuple[str, str]]) -> Markup:
    """Returns a table's rows, each cell with the name of its column, which narrow screens show."""
    names = [escape(head if isinstance(head, str) else head[0]) for head in heads]
    place = 0

    def name(found: re.Match[str]) -> str:
        nonlocal place
        if found[0] == "<tr":
            place = 0
            return found[0]
        place += 1
        return f'{found[0]} data-column="{names[place - 1]}"'

    return Markup(_CELL.sub(name, rows))  # noqa: S704 (the names are escaped)


def milliseconds(value: float) -> str:
    """Returns a short time: 180 ms, 2.40 s."""
    return f"{value:,.0f} ms" if value < 1000 else f"{value / 1000:,.2f} s"


def bytes_text(size: int) -> str:
    """Returns a size in a binary unit."""
    value = float(size)
    for unit in _SIZES[:-1]:
        if value < 1024:
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {_SIZES[-1]}"


def trimmed(amount: str) -> str:
    """Returns a token's amount with two decimals or more, as exact as it was: 10.00, 0.500001."""
    whole, point, fraction = amount.partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<2}" if point else whole


def short(digits: str) -> Markup:
    """Returns an address or hash with its middle left out; whole in its title."""
    if len(digits) <= 14:
        return escape(digits)
    return Markup('<abbr class="hex" title="{}">{}…{}</abbr>').format(
        digits, digits[:8], digits[-4:]
    )


def link(target: str) -> str:
    """Returns where a link of a stranger leads: a web or mail address; nowhere if it is neither."""
    scheme, colon, _ = target.partition(":")
    if not colon:
        return f"mailto:{target}" if "@" in target else "#"
    return target if scheme.lower() in {"http", "https", "mailto"} else "#"


def harmless(text: str) -> str:
    """Returns a text of a stranger, such as a log line, whose invisible characters can be seen.

    Colours of terminals are left out; characters that turn or hide text are written as U+202E.
    """
    return _INVISIBLE.sub(lambda found: f"‹U+{ord(found[0]):04X}›", _TERMINAL.sub("", text))


FILTERS: dict[str, Callable[..., Any]] = {
    "usd": usd,
    "dollars": dollars,
    "about": about,
    "when": when,
    "ms": ms,
    "duration": duration,
    "named": named,
    "worked": worked,
    "bytes": bytes_text,
    "milliseconds": milliseconds,
    "short": short,
    "trimmed": trimmed,
    "relative": relative,
    "link": link,
    "harmless": harmless,
}


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

"""How amounts, times and sizes are written on pages; each is a filter of templates."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from moorage.money import MicroUsd, usd_text

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def usd(amount: MicroUsd) -> str:
    """Returns an exact amount, $1.50, with as many digits as it has."""
    return usd_text(amount)


def when(at_ms: int | None) -> Markup:
    """Returns a time, in UTC; a script adds how long ago it is, in the reader's own zone."""
    if at_ms is None:
        return Markup("never")
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    machine = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}">{} UTC</time>').format(machine, f"{at:%Y-%m-%d %H:%M:%S}")


def duration(seconds: float) -> str:
    """Returns a length of time in its two largest units: 3 days 4 hours."""
    left, parts = int(seconds), []
    for size, name in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 seconds"


def bytes_text(size: int) -> str:
    """Returns a size in a binary unit."""
    value = float(size)
    for unit in _SIZES[:-1]:
        if value < 1024:
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {_SIZES[-1]}"


def short(digits: str) -> Markup:
    """Returns an address or hash with its middle left out; whole in its title."""
    if len(digits) <= 14:
        return escape(digits)
    return Markup('<abbr class="hex" title="{}">{}…{}</abbr>').format(
        digits, digits[:8], digits[-4:]
    )


FILTERS: dict[str, Callable[..., Any]] = {
    "usd": usd,
    "when": when,
    "duration": duration,
    "bytes": bytes_text,
    "short": short,
}

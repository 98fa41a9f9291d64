"""`moorage usage`: what a project's app was asked and what it used."""

import asyncio

from msgspec import UNSET, UnsetType

from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.screen import Screen
from moorage.cli.wallet.projects import find_project
from moorage.sdk.errors import RequestRefused
from moorage.wire.usage import LatencyItem, ProjectUsage, UsageItem

_MIB = 1024 * 1024
_COLUMNS = (
    *("FROM", "REQUESTS", "5XX", "MEDIAN", "95 %", "SLOWEST"),
    *("IN", "OUT", "CPU", "MOST MEMORY"),
)
_FLAGS = {"from": "--since", "to": "--until"}


def usage(
    project: str,
    /,
    *,
    since: str | None = None,
    until: str | None = None,
    fine: bool = False,
    options: Options = DEFAULTS,
) -> int:
    """Show traffic and resource use of a project's app, by the hour: the last day, unless you say.

    Parameters
    ----------
    project
        The project's name or id.
    since
        Hours from this time on, such as 2026-04-07T10:00:00Z or Unix milliseconds.
    until
        Hours before this time; 31 days at most are shown at once.
    fine
        By five minutes in place of hours; those are kept for a day.
    """
    screen = Screen(json=options.json)
    connection, by = find_connection(options), "5m" if fine else ""

    async def ask() -> ProjectUsage:
        async with connection.signed_client() as client:
            found = await find_project(client, project)
            try:
                return await client.usage(found, since=since, until=until, by=by)
            except RequestRefused as refused:
                raise _in_flags(refused) from refused

    used = asyncio.run(ask())
    screen.document(used)
    if used.now is None:
        screen.result(
            "Now: not known; it does not run, or was started within the last half minute."
        )
    else:
        screen.result(
            f"Now: {used.now.cpu_millis / 10:.0f} % of a core, {_mib(used.now.memory_bytes)}."
        )
    rows = [_row(hour.hour, hour) for hour in used.hours]
    rows += [_row(span.begins, span) for span in used.spans or ()]
    screen.table(_COLUMNS, [*rows, _row("in all", used.totals)])
    if held := used.totals.held:
        screen.result(
            f"Requests that waited until the app was started: {held}, for "
            f"{used.totals.held_ms / held / 1000:.1f} s on average."
        )
    return Exit.OK


def _in_flags(refused: RequestRefused) -> RequestRefused:
    """The refusal with the name of the flag in place of the field's."""
    field = str(refused.body.get("field"))
    return RequestRefused(
        status=refused.status,
        code=refused.code,
        error=refused.error.replace(f"{field}:", f"{_FLAGS.get(field, field)}:", 1),
        retryable=refused.retryable,
        body=refused.body,
    )


def _row(name: str, used: UsageItem) -> tuple[str, ...]:
    return (
        name,
        str(used.requests),
        str(used.status.get("5xx", 0)),
        *_latency(used.latency),
        _mib(used.bytes_in),
        _mib(used.bytes_out),
        f"{used.cpu_ms / 1000:.1f} s",
        _mib(used.memory_peak_bytes),
    )


def _latency(latency: LatencyItem | UnsetType) -> tuple[str, str, str]:
    if latency is UNSET:
        return ("–", "–", "–")
    return (
        f"{latency.median_ms} ms",
        f"{latency.p95_ms} ms",
        f"{latency.slowest_ms} ms",
    )


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"

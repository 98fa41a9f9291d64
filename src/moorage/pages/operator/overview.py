"""Pages on the gateway itself: overview, trends, settings, what operators did, the log, notices."""

from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from moorage import logs
from moorage.errors import MoorageError
from moorage.gateway.configuration import compare
from moorage.money import MICRO_USD_PER_USD
from moorage.operate.customers import overview as customer_rules
from moorage.pages.operator.health import MachineHealth
from moorage.pages.operator.view import PER_PAGE, View
from moorage.pages.rendering.formatting import Chart, Series, Unit
from moorage.settings import Settings, described, recorded
from moorage.storage.operation import audit_log, configuration, overview, wallet_rules
from moorage.storage.operation.configuration import ConfigurationChange
from moorage.storage.operation.overview import DAY_MS, HourOfAll

_HOUR_MS = 3_600_000
_DAYS = 30
_HOURS = 24
_CLASSES = ("2xx", "3xx", "4xx", "5xx")


async def show_trends(view: View) -> Response:
    """`GET /operator/trends`: money by the day for a month, the rest by the hour for a day."""
    db, now_ms = view.books.db, view.context.clock.now_ms()
    days = _last(_DAYS, DAY_MS, now_ms)
    paid = await overview.paid_by_day(db, since_ms=days[0])
    money = _chart(
        "usd", days, [Series("Credited", [paid.get(day, 0) / MICRO_USD_PER_USD for day in days])]
    )
    starts = _last(_HOURS, _HOUR_MS, now_ms)
    found = {each.hour_ms: each for each in await overview.hours_of_all(db, since_ms=starts[0])}
    hours = [found.get(start) for start in starts]
    machine = (await view.context.health()).machine
    return view.page(
        "trends.html",
        paid_micro_usd=sum(paid.values()),
        requests=sum(_answered(each) for each in found.values()),
        charts=[
            ("Money in, by the day", money),
            ("Requests, by the hour", _chart("count", starts, _requests(hours))),
            ("Processor, by the hour", _chart("cores", starts, _processor(hours, machine))),
            ("Memory, by the hour", _chart("bytes", starts, _memory(hours, machine))),
        ],
    )


def _last(count: int, step_ms: int, now_ms: int) -> range:
    """Returns the begins of so many steps, of which the last one is now."""
    last = now_ms // step_ms * step_ms
    return range(last - (count - 1) * step_ms, last + 1, step_ms)


def _chart(unit: Unit, starts_ms: Sequence[int], series: list[Series]) -> Chart:
    return Chart(unit=unit, times=[start // 1000 for start in starts_ms], series=series)


def _answered(hour: HourOfAll) -> int:
    return sum(getattr(hour, f"status_{name}") for name in _CLASSES)


def _requests(hours: Sequence[HourOfAll | None]) -> list[Series]:
    return [
        Series(name, [None if each is None else getattr(each, f"status_{name}") for each in hours])
        for name in _CLASSES
    ]


def _processor(hours: Sequence[HourOfAll | None], machine: MachineHealth | None) -> list[Series]:
    used = [None if each is None else round(each.cpu_ms / _HOUR_MS, 4) for each in hours]
    sold = None if machine is None else machine.cpu_sold_millis / 1000
    return _beside_sold(used, sold)


def _memory(hours: Sequence[HourOfAll | None], machine: MachineHealth | None) -> list[Series]:
    used = [
        None if each is None else round(each.memory_byte_seconds / (_HOUR_MS / 1000))
        for each in hours
    ]
    return _beside_sold(used, None if machine is None else machine.memory_sold_bytes)


def _beside_sold(used: Sequence[float | None], sold: float | None) -> list[Series]:
    """Returns what was used, and what is sold now, as a level line beside it."""
    average = Series("Used, on average", list(used))
    if sold is None or all(each is None for each in used):
        return [average]
    return [average, Series("Sold now", [sold] * len(used))]


async def show_configuration(view: View) -> Response:
    """`GET /operator/settings`: secrets by a fingerprint alone."""
    text = view.query.get("q", "").strip().lower()
    default = described(Settings())
    rows = [
        (name, _text(value), value != default.get(name))
        for name, value in described(view.context.settings).items()
        if text in name
    ]
    changes, problem = _waiting(view)
    return view.page("settings.html", rows=rows, waiting=changes, problem=problem)


async def history(view: View) -> Response:
    """`GET /operator/settings/history`: what starts have changed, the newest first."""
    every = await configuration.history(view.books.db)
    first_ms = min((each.at_ms for each in every), default=0)
    found = [each for each in reversed(every) if each.at_ms != first_ms]
    part = found[view.offset : view.offset + PER_PAGE]
    more = len(found) > view.offset + PER_PAGE
    return view.page("settings_history.html", changes=part, parts=view.neighbours(has_more=more))


def _waiting(view: View) -> tuple[list[ConfigurationChange], str]:
    """Returns what the next start would change, and why that is not known.

    What the file said at the start may differ from what is in force, as `moorage dev` adds to it.
    """
    context = view.context
    try:
        now, in_force = recorded(context.load()), recorded(context.settings)
        changed = compare(recorded(context.configured), now, now_ms=context.clock.now_ms())
        return [each for each in changed if each.after != in_force.get(each.setting)], ""
    except (MoorageError, OSError) as error:
        return [], error.message if isinstance(error, MoorageError) else str(error.strerror)


def _text(value: object) -> str:
    """Returns a value as it is written: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


_LINES = 100
_LEVELS = ("all", "warning", "error")
_MAX_WORDS = 200


async def done(view: View) -> Response:
    """`GET /operator/acts`: what operators did, the newest first."""
    found = await audit_log.page(
        view.books.db,
        limit=PER_PAGE + 1,
        offset=view.offset,
        text=view.query.get("q", "")[:_MAX_WORDS].strip(),
    )
    parts = view.neighbours(has_more=len(found) > PER_PAGE)
    return view.page("acts.html", acts=found[:PER_PAGE], parts=parts)


async def log(view: View) -> Response:
    """`GET /operator/log`: this gateway's recent lines, by request, level and text."""
    level = view.query.get("level", "all")
    level = level if level in _LEVELS else "all"
    lines = logs.recent.find(
        text=view.query.get("q", "").strip(),
        level=level,
        limit=_LINES,
    )
    return view.page("log.html", lines=lines, level=level, levels=_LEVELS, limit=_LINES)


_PATH = "/operator/notices"


async def show_notices(view: View) -> Response:
    """`GET /operator/notices`."""
    return view.page(
        "notices.html",
        notices=await wallet_rules.current_notices(view.books.db),
        told=len(await overview.wallets_with_projects(view.books.db)),
    )


async def announce(view: View) -> Response:
    """`POST …/announcement`: tells every wallet that has a project, and shows it."""
    view.require_confirmed()
    await customer_rules.announce(view.books, view.reason("words"))
    return view.done(_PATH, "announced")


async def end_announcement(view: View) -> Response:
    """`POST …/announcement/end`."""
    await customer_rules.announce(view.books, "")
    return view.done(_PATH, "ended")


async def begin_maintenance(view: View) -> Response:
    """`POST …/maintenance`: refuses new deploys, with the operator's words."""
    view.require_confirmed()
    await customer_rules.maintenance(view.books, begin=True, words=view.reason("words"))
    return view.done(_PATH, "maintenance")


async def end_maintenance(view: View) -> Response:
    """`POST …/maintenance/end`."""
    await customer_rules.maintenance(view.books, begin=False, words="")
    return view.done(_PATH, "ended")


_DAY_MS = 86_400_000
_ACTS = 5


async def show_overview(view: View) -> Response:
    """`GET /operator`."""
    health = await view.context.health()
    now_ms = view.context.clock.now_ms()
    return view.page(
        "overview.html",
        health=health,
        acts=await audit_log.page(view.books.db, limit=_ACTS, since_ms=now_ms - 7 * _DAY_MS),
        overdue_ms=now_ms - 2 * _DAY_MS,
    )


async def glance(view: View) -> Response:
    """`GET /operator/glance`: the part of the first page that is looked at again by itself."""
    return view.page("glance.html", health=await view.context.health(), overdue_ms=0)

"""How money, requests and the machine's load went lately, as charts."""

from collections.abc import Sequence

from starlette.responses import Response

from moorage.money import MICRO_USD_PER_USD
from moorage.pages.operator.health import MachineHealth
from moorage.pages.operator.view import View
from moorage.pages.rendering.chart import Chart, Series, Unit
from moorage.storage.operation import overview
from moorage.storage.operation.overview import DAY_MS, HourOfAll

_HOUR_MS = 3_600_000
_DAYS = 30
_HOURS = 24
_CLASSES = ("2xx", "3xx", "4xx", "5xx")


async def shown(view: View) -> Response:
    """`GET /operator/trends`: money by the day for a month, the rest by the hour for a day."""
    db, now_ms = view.books.db, view.desk.clock.now_ms()
    days = _last(_DAYS, DAY_MS, now_ms)
    paid = await overview.paid_by_day(db, since_ms=days[0])
    money = _chart(
        "usd", days, [Series("Credited", [paid.get(day, 0) / MICRO_USD_PER_USD for day in days])]
    )
    starts = _last(_HOURS, _HOUR_MS, now_ms)
    found = {each.hour_ms: each for each in await overview.hours_of_all(db, since_ms=starts[0])}
    hours = [found.get(start) for start in starts]
    machine = (await view.desk.health()).machine
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

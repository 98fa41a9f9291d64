"""What projects cost: shown, and a new price ordered for them, or taken back."""

from datetime import UTC, date, datetime

from starlette.responses import Response

from moorage.errors import InvalidField
from moorage.operate.customers import prices
from moorage.operate.customers.prices import PRICE_NOTICE_DAYS, ProjectPrice
from moorage.pages.operator.view import PER_PAGE, View
from moorage.storage.operation import price_changes

_PATH = "/operator/prices"
_DAY_MS = 86_400_000


async def shown(view: View) -> Response:
    """`GET /operator/prices`: what all cost; with a date, what an order would change from then."""
    settings, now_ms = view.desk.load(), view.desk.clock.now_ms()
    a_month = prices.list_price(settings)
    text, problem = view.query.get("date", ""), ""
    part = {"limit": PER_PAGE, "offset": view.offset}
    listed: list[ProjectPrice] = []
    counts = await price_changes.counts(view.books.db, a_month)
    previewed = False
    if text:
        try:
            listed = await prices.preview_page(view.books, settings, from_ms=_day_ms(text), **part)
            previewed = True
        except InvalidField as error:
            problem = error.message
    if not previewed:
        listed = await prices.price_page(view.books, **part)
    count = counts.others if previewed else counts.projects
    soonest_ms = now_ms + (PRICE_NOTICE_DAYS + 1) * _DAY_MS
    return view.page(
        "prices.html",
        a_month=a_month,
        notice_days=PRICE_NOTICE_DAYS,
        counts=counts,
        listed=listed,
        previewed=previewed,
        date=text or f"{datetime.fromtimestamp(soonest_ms / 1000, UTC):%Y-%m-%d}",
        problem=problem,
        parts=view.neighbours(has_more=count > view.offset + PER_PAGE),
    )


async def order(view: View) -> Response:
    """`POST …/order`: gives projects the price list's price from a date on, and tells them.

    It is the one that was shown: the settings' file may have got another one since.
    """
    view.require_confirmed()
    from_ms = _day_ms(view.form.get("date", ""))
    settings = view.desk.load()
    if view.form.get("a_month") != str(prices.list_price(settings)):
        raise InvalidField("a_month", "the settings' file has another price by now: look again")
    await prices.order(view.books, settings, from_ms=from_ms, reason=view.reason())
    return view.done(_PATH, "prices-ordered")


async def cancel(view: View) -> Response:
    """`POST …/cancel`: takes back what does not count yet."""
    await prices.cancel(view.books, reason=view.reason())
    return view.done(_PATH, "prices-kept")


def _day_ms(text: str) -> int:
    """Returns the begin of a day in UTC. Raises InvalidField."""
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise InvalidField("date", "must be a day such as 2027-03-01") from error
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)

"""`moorage prices`: what projects cost, and a new price for those that there are."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions, reason_option, time_option
from moorage.cli.screen import Screen, counted

if TYPE_CHECKING:
    from moorage.operate.customers.prices import ProjectPrice


def prices(
    what: Literal["show", "preview", "order", "cancel"] = "show",
    date: str = "",
    /,
    *,
    reason: str = "",
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Give projects that there are the price list's price: `moorage prices preview 2027-03-01`.

    A project keeps the price that it was made with until you order another: that of the settings.
    It counts from the date; a higher one not before the project has run for the months that its
    first deploy paid for. Each owner is told by an event, now and when it counts.

    Parameters
    ----------
    what
        `show` lists what projects cost and what is ordered, `preview` what an order would change;
        `order` orders it; `cancel` takes back what does not count yet.
    date
        From when the new price counts: 2027-03-01 or 2027-03-01T10:00:00Z. A higher one at least
        `price_notice_days` from now.
    reason
        Why: told to the owners of an order, and kept for `moorage acts`.
    """
    from moorage.operate.customers.prices import run_cancel, run_order, run_preview, run_prices

    settings, screen = options.settings(), options.screen()
    if what == "cancel":
        kept = asyncio.run(run_cancel(settings, reason=reason_option(reason)))
        screen.document({"cancelled": kept})
        screen.result(f"Taken back: {counted(kept, 'project')} will not change in price.")
        return Exit.OK
    if what == "show":
        found = asyncio.run(run_prices(settings))
    elif what == "preview":
        found = asyncio.run(run_preview(settings, from_ms=_date(date)))
    else:
        why = reason_option(reason)
        found = asyncio.run(run_order(settings, from_ms=_date(date), reason=why))
    screen.document({"prices": found})
    _show(screen, found, none="There is no project." if what == "show" else "No price changes.")
    if what == "order" and found:
        screen.note("Told to their owners. New projects cost it from the next restart on.")
    return Exit.OK


def _date(text: str) -> int:
    from moorage.errors import InvalidField

    if not text:
        raise InvalidField("DATE", "say from when the new price counts, such as 2027-03-01")
    return time_option("DATE", text, default=0)


def _show(screen: Screen, found: Sequence["ProjectPrice"], *, none: str) -> None:
    from moorage.clock import iso_utc
    from moorage.money import usd_text

    screen.table(
        ("NAME", "A MONTH", "THEN", "FROM", "WALLET"),
        [
            (
                each.name,
                usd_text(each.now),
                "" if each.then is None else usd_text(each.then),
                "" if each.from_ms is None else iso_utc(each.from_ms),
                each.wallet,
            )
            for each in found
        ],
        none=none,
    )

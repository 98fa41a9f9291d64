"""`moorage report`: what was earned, what is owed to customers, invoices, payments for taxes."""

import asyncio
import csv
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions, time_option, wallet_option
from moorage.cli.screen import Screen, counted

if TYPE_CHECKING:
    from moorage.settings import Settings

_FOR_EVER_MS = 253_402_300_800_000  # the year 10,000


def report(
    what: Literal["revenue", "payments", "invoice"],
    /,
    *,
    by: Literal["day", "month"] = "month",
    wallet: str = "",
    since: str | None = None,
    until: str | None = None,
    as_csv: Annotated[bool, Parameter(name="--csv", negative=())] = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Report on money, all from the ledger: `moorage report revenue --by day`.

    `revenue`: what each chain and token brought, what of that was earned (credits are used up in
    the order in which they were paid), and what is still owed to customers. `payments`: each
    payment with its value date, the time of its block, for taxes. `invoice`: what a wallet paid and
    used.

    Parameters
    ----------
    what
        `revenue`, `payments` or `invoice`.
    by
        Of `revenue`: a line for each day or month, in UTC.
    wallet
        Of `invoice`, which needs it, and of `payments`: this wallet.
    since
        From this time on: 2026-04-07 or 2026-04-07T10:00:00Z.
    until
        Before this time.
    as_csv
        Print a table for a spreadsheet.
    """
    from moorage.errors import InvalidField

    settings = options.settings()
    since_ms = time_option("--since", since, default=0)
    until_ms = time_option("--until", until, default=_FOR_EVER_MS)
    address = wallet_option("--wallet", wallet)
    output = _Output(options.screen(), as_csv=as_csv)
    match what:
        case "revenue":
            _revenue(output, settings, by, since_ms, until_ms)
        case "payments":
            _payments(output, settings, address, since_ms, until_ms)
        case "invoice":
            if not address:
                raise InvalidField("--wallet", "name the wallet whose invoice it is")
            _invoice(output, settings, address, since_ms, until_ms)
    return Exit.OK


class _Output:
    """Prints a table for a person or for a spreadsheet, or a document."""

    def __init__(self, screen: Screen, *, as_csv: bool) -> None:
        self.screen = screen
        self._as_csv = as_csv

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, none: str) -> None:
        """Rows under headings."""
        if self._as_csv and not self.screen.json:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)
            return
        headings = [each.replace("_", " ").upper() for each in columns]
        self.screen.table(headings, list(rows), none=none)


def _revenue(output: _Output, settings: "Settings", by: str, since_ms: int, until_ms: int) -> None:
    from moorage.operate.reports.revenue import COLUMNS, Period, cells, run_revenue

    period = Period(by)
    lines, chains = asyncio.run(run_revenue(settings, by=period))
    shown = [
        line for line in lines if period.of(since_ms) <= line.period <= period.of(until_ms - 1)
    ]
    output.screen.document({"revenue": shown})
    output.table(COLUMNS, cells(shown, chains), none="Nothing was booked.")


def _payments(
    output: _Output, settings: "Settings", wallet: str, since_ms: int, until_ms: int
) -> None:
    from moorage.operate.reports.payments import COLUMNS, cells, run_payments

    lines, chains = asyncio.run(run_payments(settings))
    shown = [
        line
        for line in lines
        if since_ms <= line.at_ms < until_ms and wallet in ("", line.payment.payer)
    ]
    undated = sum(line.value_ms is None for line in shown)
    if undated:
        output.screen.warn(
            f"no value date of {counted(undated, 'payment')}, as the chain could not be asked: "
            "sorted by the time of booking"
        )
    output.screen.document({"payments": shown})
    output.table(COLUMNS, cells(shown, chains), none="Nobody has paid.")


def _invoice(
    output: _Output, settings: "Settings", wallet: str, since_ms: int, until_ms: int
) -> None:
    from moorage.money import decimal_text
    from moorage.operate.reports.invoice import run_invoice

    found = asyncio.run(run_invoice(settings, wallet, since_ms=since_ms, until_ms=until_ms))
    output.screen.document(found)
    rows = [(each.project, each.what, each.amount_micro_usd) for each in found.lines]
    sums = [
        ("credits at the beginning", found.opening),
        ("paid", found.paid),
        ("given", found.given),
        ("refunded", -found.refunded),
        ("used", -found.used),
        ("credits at the end", found.closing),
    ]
    output.table(
        ("project", "what", "usd"),
        [
            *((name, what, decimal_text(amount, decimals=6)) for name, what, amount in rows),
            *(("", what, decimal_text(amount, decimals=6)) for what, amount in sums),
        ],
        none="",
    )

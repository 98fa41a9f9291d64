"""A wallet's ledger, payments and invoices: page by page, to print, and as files."""

import csv
import io
import re
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
from starlette.responses import Response, StreamingResponse

from moorage.address import checksum_address
from moorage.clock import iso_utc
from moorage.money import MicroUsd, usd_text
from moorage.pages.rendering.formatting import ms
from moorage.pages.rendering.templates import file_headers
from moorage.pages.wallet.api import ApiRefused
from moorage.pages.wallet.view import View
from moorage.wire import calls
from moorage.wire.credits import CreditEntry, PaymentItem
from moorage.wire.receipts import Invoice

ENTRIES_A_PAGE = 50
_BURNING_SHOWN = 50
_ENTRIES_AT_ONCE = 100
_MAX_PAGES = 1_000
_DOLLARS = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def show_ledger(view: View) -> Response:
    """`GET /wallet/credits`: balance, what burns it, build time, and the ledger."""
    account = await view.api.call(
        calls.CREDITS, limit=ENTRIES_A_PAGE, before=view.query.get("before")
    )
    is_first = "before" not in view.query
    burning = sorted(account.burning, key=lambda each: -each.burn_per_hour_micro_usd)
    burning = burning[:_BURNING_SHOWN] if is_first else []
    return view.page(
        "wallet/money/ledger.html",
        account=account,
        burning=burning,
        runway=view.runway(account),
        names=await view.project_names(
            [*(each.project_id for each in account.ledger), *(each.project_id for each in burning)]
        ),
        is_first=is_first,
    )


async def show_payments(view: View) -> Response:
    """`GET /wallet/payments`: newest first."""
    found = await view.api.call(
        calls.PAYMENTS, limit=ENTRIES_A_PAGE, before=view.query.get("before")
    )
    return view.page(
        "wallet/money/payments.html",
        payments=found.payments,
        next=found.next,
        is_first="before" not in view.query,
        names=await view.project_names(each.project_id for each in found.payments),
    )


async def ask_refund(view: View) -> Response:
    """`POST /wallet/refunds`: have what the page showed sent back."""
    usd, quote = view.form.get("refundable_usd", ""), view.form.get("quote", "")
    if not _DOLLARS.fullmatch(usd):
        return await show_refunds(view, error="Ask for what this page says now.")
    api = await view.confirmed(
        f"Have ${usd} of unused credits sent back to {checksum_address(view.session.who)}.",
        sentence=f"Please run `moorage refund`: ${usd} of unused credits is to be sent back.",
    )
    body = {"quote": quote, "expect": {"refundable_usd": usd}}
    try:
        await api.call(calls.REFUND, body=body)
    except ApiRefused as refused:
        return await show_refunds(view, error=refused.problem.error)
    return view.redirect("/wallet/refunds", "refund-asked")


async def show_refunds(view: View, *, error: str = "") -> Response:
    """`GET /wallet/refunds`: what could go back now, what was asked for, and why more was not."""
    found = await view.api.call(calls.REFUNDS, limit=ENTRIES_A_PAGE)
    quote = None
    if view.session.may_change:
        quote = await view.api.call(calls.QUOTE_REFUND, body={})
    return view.page(
        "wallet/money/refunds.html",
        status=400 if error else 200,
        refunds=found.refunds,
        quote=quote,
        error=error,
    )


async def show_receipt(view: View) -> Response:
    """`GET /wallet/payments/{tx_hash}`: the transfers of one transaction, to be printed."""
    wanted = view.request.path_params["tx_hash"].lower()
    found: list[PaymentItem] = []
    async for page in _payments(view):
        here = [each for each in page if each.tx_hash == wanted]
        found += here
        if found and not here:  # those of one transaction stand together
            break
    if not found:
        return view.page("not_found.html", status=404)
    names = await view.project_names(each.project_id for each in found)
    return view.page("wallet/money/receipt.html", payments=found, names=names)


async def download_receipt(view: View) -> Response:
    """`GET /wallet/payments/{tx_hash}/receipt.json`: the gateway's signed receipts of it."""
    found = await view.api.call(calls.RECEIPT, view.request.path_params["tx_hash"])
    return _json(found, name="receipt.json")


async def show_invoice(view: View) -> Response:
    """`GET /wallet/invoice`: what was paid and used in some months, to be printed."""
    found = await _invoice(view)
    return view.page(
        "wallet/money/invoice.html",
        invoice=found,
        months=(found.since[:7], iso_utc(ms(found.until) - 1)[:7]),
        sums=_sums(found),
        contact=view.facts.seller.contact,
    )


async def download_invoice(view: View) -> Response:
    """`GET /wallet/invoice.json`: the same, for programs."""
    found = await _invoice(view)
    return _json(found, name=f"invoice-{found.number}.json")


async def download_invoice_lines(view: View) -> Response:
    """`GET /wallet/invoice.csv`: the same, for a spreadsheet."""
    found = await _invoice(view)

    async def lines() -> AsyncIterator[str]:
        yield _line(["month", "project", "what", "usd"])
        for each in found.lines:
            yield _line([each.month, each.project, each.what, _dollars(each.amount_micro_usd)])
        for what, amount in _sums(found):
            yield _line(["", "", what, _dollars(amount)])

    return await _csv(lines(), name=f"invoice-{found.number}.csv")


async def _invoice(view: View) -> Invoice:
    first, last = view.query.get("from") or None, view.query.get("to") or None
    return await view.api.call(calls.INVOICE, from_=first, to=last)


def _sums(found: Invoice) -> list[tuple[str, int]]:
    """Returns the sums of an invoice in their order; the first ones add up to the last."""
    return [
        ("Credits at the beginning", found.opening_micro_usd),
        ("Paid", found.paid_micro_usd),
        ("Given by the operator", found.given_micro_usd),
        ("Paid back", -found.refunded_micro_usd),
        ("Other", found.other_micro_usd),
        ("Used", -found.used_micro_usd),
        ("Credits at the end", found.closing_micro_usd),
    ]


def _dollars(amount: int) -> str:
    return usd_text(MicroUsd(amount)).replace("$", "")


def _json(document: object, *, name: str) -> Response:
    return Response(
        msgspec.json.encode(document), media_type="application/json", headers=file_headers(name)
    )


async def download_ledger(view: View) -> Response:
    """`GET /wallet/credits.csv`: the whole ledger, newest first."""
    return await _csv(_ledger_lines(view), name="ledger.csv")


async def download_payments(view: View) -> Response:
    """`GET /wallet/payments.csv`: all payments, newest first."""
    return await _csv(_payment_lines(view), name="payments.csv")


async def _ledger_lines(view: View) -> AsyncIterator[str]:
    yield _line(["time", "kind", "amount_usd", "project", "chain", "transaction", "id"])
    before: str | None = None
    for _ in range(_MAX_PAGES):
        account = await view.api.call(calls.CREDITS, limit=_ENTRIES_AT_ONCE, before=before)
        names = await view.project_names(each.project_id for each in account.ledger)
        yield "".join(_line(each) for each in _ledger_rows(account.ledger, names))
        before = account.next
        if before is None:
            return


def _ledger_rows(entries: Sequence[CreditEntry], names: dict[str, str]) -> Iterator[list[str]]:
    for each in entries:
        project = each.project_id or ""
        yield [
            each.at,
            each.kind,
            _dollars(each.amount_micro_usd),
            names.get(project, project),
            each.chain or "",
            each.tx_hash or "",
            each.id,
        ]


async def _payment_lines(view: View) -> AsyncIterator[str]:
    heads = ["time", "status", "amount", "token", "chain", "credited_usd", "transaction", "project"]
    yield _line([*heads, "refunded"])
    async for page in _payments(view):
        yield "".join(_line(_payment_row(each)) for each in page)


def _payment_row(each: PaymentItem) -> list[str]:
    credited = _dollars(each.credited_micro_usd)
    refunded = " ".join(refund.amount for refund in each.refunds if refund.status != "failed")
    return [
        *(each.at, each.status, each.amount, each.token, each.chain, credited, each.tx_hash),
        each.project_id or "",
        refunded,
    ]


async def _payments(view: View) -> AsyncIterator[list[PaymentItem]]:
    before: str | None = None
    for _ in range(_MAX_PAGES):
        found = await view.api.call(calls.PAYMENTS, limit=_ENTRIES_AT_ONCE, before=before)
        yield found.payments
        before = found.next
        if before is None:
            return


async def _csv(lines: AsyncIterator[str], *, name: str) -> Response:
    """Returns lines as a file, once the heads and what stands below them are there."""
    begun = [await anext(lines), await anext(lines, "")]

    async def all_lines() -> AsyncIterator[str]:
        for line in begun:
            yield line
        async for line in lines:
            yield line

    headers = file_headers(name)
    return StreamingResponse(all_lines(), media_type="text/csv; charset=utf-8", headers=headers)


def _line(fields: Sequence[str]) -> str:
    """Returns a line of CSV (RFC 4180); no field is a formula to a program that opens it."""
    written = io.StringIO()
    csv.writer(written).writerow([_harmless(each) for each in fields])
    return written.getvalue()


def _harmless(field: str) -> str:
    is_number = field[:1] == "-" and field[1:].replace(".", "", 1).isdigit()
    return f"'{field}" if field.startswith(_FORMULA) and not is_number else field

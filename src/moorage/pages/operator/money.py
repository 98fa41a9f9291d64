"""Pages on money: payments, refunds, prices, books, reports."""

import csv
import io
from collections import deque
from collections.abc import Iterator
from datetime import UTC, date, datetime
from urllib.parse import urlencode

from starlette.responses import Response

from moorage.errors import ConfigurationInvalid, InvalidField
from moorage.money import decimal_text
from moorage.operate.audit.rows import TokenTotal
from moorage.operate.customers import prices
from moorage.operate.customers.prices import PRICE_NOTICE_DAYS, ProjectPrice
from moorage.operate.refunds import (
    RefundOrder,
    begin_refund,
    decide,
    refund_key,
    release,
    send_queued,
)
from moorage.pages.operator.customers import WORDS, life_of, state_of
from moorage.pages.operator.view import PER_PAGE, View, wallet_address
from moorage.pages.rendering.templates import file_headers
from moorage.payments.relay.refunds import left_of
from moorage.records.payments import Payment, Refund, RefundStatus
from moorage.records.size import Sizes
from moorage.storage import events
from moorage.storage.money import payments as rows
from moorage.storage.money import refunds as refund_rows
from moorage.storage.operation import audit_log, payment_list, price_changes
from moorage.storage.operation.audit_log import Upkeep
from moorage.storage.operation.payment_list import ListedPayment, PaymentFilter
from moorage.threads import in_thread

_PATH = "/operator/prices"
_DAY_MS = 86_400_000


async def show_prices(view: View) -> Response:
    """`GET /operator/prices`: what all cost; with a date, what an order would change from then."""
    settings, now_ms = view.context.load(), view.context.clock.now_ms()
    sizes = settings.size_list
    text, problem = view.query.get("date", ""), ""
    part = {"limit": PER_PAGE, "offset": view.offset}
    listed: list[ProjectPrice] = []
    counts = await price_changes.counts(view.books.db, sizes)
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
        sizes=sizes.listed,
        shown=_shown_prices(sizes),
        notice_days=PRICE_NOTICE_DAYS,
        counts=counts,
        listed=listed,
        previewed=previewed,
        date=text or f"{datetime.fromtimestamp(soonest_ms / 1000, UTC):%Y-%m-%d}",
        problem=problem,
        parts=view.neighbours(has_more=count > view.offset + PER_PAGE),
    )


def _shown_prices(sizes: Sizes) -> str:
    """Returns all prices of a list, so that no other one is ordered than was shown."""
    return " ".join(f"{each.name}:{each.month}:{each.asleep_month}" for each in sizes.listed)


async def order(view: View) -> Response:
    """`POST …/order`: gives projects the price list's price from a date on, and tells them.

    It is the list that was shown; the settings' file may differ by now.
    """
    view.require_confirmed()
    from_ms = _day_ms(view.form.get("date", ""))
    settings = view.context.load()
    if view.form.get("shown") != _shown_prices(settings.size_list):
        raise InvalidField("a_month", "the settings' file has another price by now: look again")
    await prices.order(view.books, settings, from_ms=from_ms, reason=view.reason())
    return view.done(_PATH, "prices-ordered")


async def cancel(view: View) -> Response:
    """`POST …/cancel`: takes back what does not count yet."""
    await prices.cancel(view.books, reason=view.reason())
    return view.done(_PATH, "prices-kept")


def _day_ms(text: str) -> int:
    """Returns the begin of a day in UTC. Raises InvalidField."""
    with InvalidField.of("date", "must be a day such as 2027-03-01"):
        day = date.fromisoformat(text)
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


_ROWS = 200


async def show_books(view: View) -> Response:
    """`GET /operator/books`: the last audit here, and when the books were last audited at all."""
    audits = view.context.audits
    run = audits.last
    done = await audit_log.last_upkeep(view.books.db)
    return view.page(
        "books.html",
        run=run,
        is_running=audits.is_running,
        last=done.get(Upkeep.AUDIT),
        health=await view.context.health(),
        max_rows=_ROWS,
        totals=[] if run is None or run.report is None else list(map(_total, run.report.totals)),
    )


def _total(total: TokenTotal) -> list[str]:
    """Returns the cells of a token's sums."""
    sums = (total.received, total.credited, total.held, total.reversed, total.sent_back)
    amounts = [decimal_text(int(each), decimals=total.decimals) for each in sums]
    return [total.chain, total.token.upper(), *amounts]


async def audit(view: View) -> Response:
    """`POST /operator/books/audit`: begins one."""
    search = view.form.get("search") == "true"
    begun = view.context.audits.ask(view.books.operator, search=search)
    return view.done("/operator/books", "audit" if begun else "audit-runs")


KINDS = {"revenue": "Revenue", "payments": "Payments, for taxes", "invoice": "A wallet's invoice"}
_PERIODS = {"month": "month", "day": "day"}
_FIELDS = ("what", "by", "since", "until", "wallet")
_MAX_ROWS = 200


async def show_reports(view: View) -> Response:
    """`GET /operator/reports`: asks which, and has the browser fetch what it asks for."""
    query = {name: view.query[name] for name in _FIELDS if view.query.get(name)}
    return view.page(
        "reports.html",
        kinds=list(KINDS.items()),
        periods=list(_PERIODS.items()),
        what=_what(view),
        asked=urlencode(query) if "what" in query else "",
    )


async def table(view: View) -> Response:
    """`GET /operator/reports/table`: the part of that page with the report in it."""
    try:
        heads, last, total = await in_thread(_last_rows, await _report(view))
    except InvalidField as error:
        return view.page("report_table.html", problem=error.message, heads=[], rows=[], total=0)
    return view.page(
        "report_table.html",
        problem="",
        heads=[each.replace("_", " ").capitalize() for each in heads],
        rows=last,
        total=total,
    )


async def download(view: View) -> Response:
    """`GET /operator/reports.csv`: the whole report."""
    content, headers = await _report(view), file_headers(f"{_what(view)}.csv")
    return Response(content, media_type="text/csv; charset=utf-8", headers=headers)


def _last_rows(report: bytes) -> tuple[list[str], list[list[str]], int]:
    """Returns the headings of a table, its last rows, and how many it has. Blocks."""
    rows = csv.reader(io.StringIO(report.decode()))
    heads, last, total = next(rows), deque[list[str]](maxlen=_MAX_ROWS), 0
    for row in rows:
        last.append(row)
        total += 1
    return heads, list(last), total


async def _report(view: View) -> bytes:
    what, options = _what(view), []
    for name in ("since", "until"):
        if text := view.query.get(name):
            options += [f"--{name}", _day(name, text)]
    if what == "revenue":
        options += ["--by", "day" if view.query.get("by") == "day" else "month"]
    elif text := view.query.get("wallet", ""):
        options += ["--wallet", wallet_address(text)]
    return await view.context.reports.csv((what, *options))


def _what(view: View) -> str:
    asked = view.query.get("what", "revenue")
    return asked if asked in KINDS else "revenue"


def _day(name: str, text: str) -> str:
    with InvalidField.of(name, "must be a day such as 2026-04-07"):
        return date.fromisoformat(text).isoformat()


_UNUSUAL = 10
_ON_THEIR_WAY = 20
_MAX_DIGITS = 18  # of a number that fits a column


async def listed(view: View) -> Response:
    """`GET /operator/payments`: those that need a look, then all, or those of a filter."""
    which, text, chain_id = _filter(view)
    found = await payment_list.page(
        view.books.db,
        which,
        now_ms=view.context.clock.now_ms(),
        limit=PER_PAGE + 1,
        offset=view.offset,
        chain_id=chain_id,
        text=text,
    )
    plain = which is PaymentFilter.ALL and not text and not chain_id and view.page_number == 1
    unusual: list[ListedPayment] = []
    if plain:
        unusual = await payment_list.page(
            view.books.db,
            PaymentFilter.UNUSUAL,
            now_ms=view.context.clock.now_ms(),
            limit=_UNUSUAL + 1,
        )
    return view.page(
        "payments.html",
        payments=found[:PER_PAGE],
        unusual=unusual[:_UNUSUAL],
        more_unusual=len(unusual) > _UNUSUAL,
        on_their_way=await payment_list.on_their_way(view.books.db, limit=_ON_THEIR_WAY)
        if plain
        else [],
        state_of=state_of,
        which=which,
        filters=[(each.value, each.value.capitalize()) for each in PaymentFilter],
        chains=[(name, name) for name in view.context.books.chains],
        meanings=WORDS,
        parts=view.neighbours(has_more=len(found) > PER_PAGE),
    )


def _filter(view: View) -> tuple[PaymentFilter, str, int]:
    """Returns which payments are asked for: their state, payer or hash, and chain."""
    try:
        which = PaymentFilter(view.query.get("state", PaymentFilter.ALL))
    except ValueError:
        which = PaymentFilter.ALL
    chain = view.context.books.chains.get(view.query.get("chain", ""))
    return which, view.query.get("q", "").strip().lower(), 0 if chain is None else chain.chain_id


async def one(view: View) -> Response:
    """`GET /operator/payments/{chain_id}/{tx_hash}/{log_index}`."""
    return await _page_of(view, await _payment(view))


async def _page_of(view: View, payment: Payment) -> Response:
    db, now_ms = view.books.db, view.context.clock.now_ms()
    of_hash = await payment_list.page(
        db,
        PaymentFilter.ALL,
        now_ms=now_ms,
        limit=PER_PAGE,
        chain_id=payment.chain_id,
        text=payment.tx_hash,
    )
    this = next(each for each in of_hash if each.payment.log_index == payment.log_index)
    refunds = await refund_rows.of_payment(view.books.db, rows.key_of(payment))
    settlements = await payment_list.settled_by(
        db, chain_id=payment.chain_id, tx_hash=payment.tx_hash
    )
    told = await events.events_about(db, wallet=payment.payer, digits=payment.tx_hash)
    own = [each for each in settlements if each.payer == payment.payer]
    return view.page(
        "payment.html",
        listed=this,
        payment=payment,
        state=state_of(this),
        meaning=WORDS[state_of(this)],
        beside=[each for each in of_hash if each is not this],
        refunds=refunds,
        left=left_of(payment, refunds),
        key_problem=_key_problem(view),
        quotes=await payment_list.quotes_of(db, payment.payer, now_ms=now_ms),
        entries=await payment_list.entries_of(db, _postings_of(payment, refunds)),
        acts=await audit_log.about(
            db, payment.tx_hash, since_ms=payment.claimed_at_ms, limit=PER_PAGE
        ),
        steps=life_of(this, settlements=own, refunds=refunds, events=told),
        state_of=state_of,
    )


def _postings_of(payment: Payment, refunds: list[Refund]) -> Iterator[str]:
    base = f"payment:{payment.chain_id}:{payment.tx_hash}:{payment.log_index}"
    for booked in (base, *(f"{base}:{number}" for number in range(2, payment.round + 1))):
        yield from (f"{what}{booked}" for what in ("", "release:", "given:", "reversal:"))
    for each in refunds:
        yield from (f"refund:{each.id}", f"refund-gas:{each.id}")
        if each.status is RefundStatus.FAILED:
            yield from (f"refund-undone:{each.id}", f"refund-gas-undone:{each.id}")


def _key_problem(view: View) -> str:
    """Returns why no refund can be sent from here; "" where one can."""
    try:
        refund_key(view.context.settings, None)
    except ConfigurationInvalid as error:
        return error.message
    return ""


async def release_one(view: View) -> Response:
    """`POST …/release`: credits what screening holds of the payment's transaction."""
    payment = await _payment(view)
    view.require_confirmed()
    released = await release(
        view.books.db,
        payment.tx_hash,
        chain_ids={payment.chain_id},
        clock=view.context.clock,
        who=view.books.operator,
        reason=view.reason(),
    )
    if not released:
        raise InvalidField("payment", "is not held any more; look at it again")
    return view.done(_path(payment), "released")


async def refund_one(view: View) -> Response:
    """`POST …/refund`: sends tokens of the payment back to its payer."""
    payment = await _payment(view)
    view.require_confirmed()
    chain = view.context.chain_of(payment.chain_id)
    order = RefundOrder(
        tx_hash=payment.tx_hash,
        chain=None if chain is None else chain.name,
        log_index=payment.log_index,
        amount=view.form.get("amount", "").strip() or None,
        recipient=payment.payer,
        reason=view.reason(),
        earlier=_count(view.form.get("earlier", "")),
    )
    settings = view.context.settings
    await begin_refund(view.books, order, key=refund_key(settings, None))
    return view.done(_path(payment), "refund-sent")


async def decide_refund(view: View) -> Response:
    """`POST /operator/refunds/{request_id}`: sends what a customer asked back, or declines it."""
    view.require_confirmed()
    request_id, sends = view.request.path_params["request_id"], view.form.get("act") != "decline"
    key = refund_key(view.context.settings, None) if sends else None
    waiting = await decide(view.books, request_id, sends=sends, reason=view.reason())
    if key is not None:
        for each in waiting:
            await send_queued(view.books, each, key=key)
    return view.done("/operator/refunds", "refund-sent" if sends else "refund-declined")


async def refunds(view: View) -> Response:
    """`GET /operator/refunds`: what is asked for and held, and what went back."""
    found = await payment_list.all_refunds(view.books.db, limit=PER_PAGE + 1, offset=view.offset)
    return view.page(
        "refunds.html",
        refunds=found[:PER_PAGE],
        held=await rows.held(view.books.db),
        queued=await refund_rows.queued(view.books.db),
        key_problem=_key_problem(view),
        parts=view.neighbours(has_more=len(found) > PER_PAGE),
    )


async def _payment(view: View) -> Payment:
    """Returns the payment that the address names. Raises InvalidField."""
    named = view.request.path_params
    chain_id, log_index = (_number(named[name]) for name in ("chain_id", "log_index"))
    payment = None
    if chain_id is not None and log_index is not None:
        payment = await rows.one(view.books.db, (chain_id, named["tx_hash"].lower(), log_index))
    if payment is None:
        raise InvalidField("payment", "is not recorded here")
    return payment


def _number(text: str) -> int | None:
    """Returns the number in an address; None for what no database can hold."""
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None


def _path(payment: Payment) -> str:
    return f"/operator/payments/{payment.chain_id}/{payment.tx_hash}/{payment.log_index}"


def _count(text: str) -> int:
    """Returns how many refunds the page showed. Raises InvalidField."""
    number = _number(text)
    if number is None:
        raise InvalidField("earlier", "is missing: open the payment's page again")
    return number

"""Payments: the unusual ones first, one with its whole life, and what is done about it."""

from collections.abc import Iterator

from starlette.responses import Response

from moorage.errors import ConfigurationInvalid, InvalidField
from moorage.operate.refunds import RefundOrder, begin_refund, refund_key, release
from moorage.pages.operator.money.life import WORDS, life_of, state_of
from moorage.pages.operator.view import PER_PAGE, View
from moorage.payments.relay.refunds import left_of
from moorage.records.payments import Payment, Refund, RefundStatus
from moorage.storage import events
from moorage.storage.money import payments as rows
from moorage.storage.money import refunds as refund_rows
from moorage.storage.operation import audit_log, payment_list
from moorage.storage.operation.payment_list import ListedPayment, PaymentFilter

_UNUSUAL = 10
_ON_THEIR_WAY = 20
_MAX_DIGITS = 18  # of a number that fits a column


async def listed(view: View) -> Response:
    """`GET /operator/payments`: those that need a look, then all, or those of a filter."""
    which, text, chain_id = _filter(view)
    found = await payment_list.page(
        view.books.db,
        which,
        now_ms=view.desk.clock.now_ms(),
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
            now_ms=view.desk.clock.now_ms(),
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
        chains=[(name, name) for name in view.desk.books.chains],
        meanings=WORDS,
        parts=view.neighbours(has_more=len(found) > PER_PAGE),
    )


def _filter(view: View) -> tuple[PaymentFilter, str, int]:
    """Returns which payments are asked for: their state, payer or hash, and chain."""
    try:
        which = PaymentFilter(view.query.get("state", PaymentFilter.ALL))
    except ValueError:
        which = PaymentFilter.ALL
    chain = view.desk.books.chains.get(view.query.get("chain", ""))
    return which, view.query.get("q", "").strip().lower(), 0 if chain is None else chain.chain_id


async def one(view: View) -> Response:
    """`GET /operator/payments/{chain_id}/{tx_hash}/{log_index}`."""
    return await _page_of(view, await _payment(view))


async def _page_of(view: View, payment: Payment) -> Response:
    db, now_ms = view.books.db, view.desk.clock.now_ms()
    of_hash = await payment_list.page(
        db,
        PaymentFilter.ALL,
        now_ms=now_ms,
        limit=PER_PAGE,
        chain_id=payment.chain_id,
        text=payment.tx_hash,
    )
    this = next(each for each in of_hash if each.payment.log_index == payment.log_index)
    refunds = await _refunds_of(view, payment)
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
        yield from (booked, f"release:{booked}", f"reversal:{booked}")
    for each in refunds:
        yield f"refund:{each.id}"
        if each.status is RefundStatus.FAILED:
            yield f"refund-undone:{each.id}"


def _key_problem(view: View) -> str:
    """Returns why no refund can be sent from here; "" where one can."""
    try:
        refund_key(view.desk.settings, None)
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
        clock=view.desk.clock,
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
    chain = view.desk.chain_of(payment.chain_id)
    order = RefundOrder(
        tx_hash=payment.tx_hash,
        chain=None if chain is None else chain.name,
        log_index=payment.log_index,
        amount=view.form.get("amount", "").strip() or None,
        recipient=payment.payer,
        reason=view.reason(),
        earlier=_count(view.form.get("earlier", "")),
    )
    settings = view.desk.settings
    await begin_refund(settings, view.books, order, key=refund_key(settings, None))
    return view.done(_path(payment), "refund-sent")


async def refunds(view: View) -> Response:
    """`GET /operator/refunds`: what is held, and what went back."""
    found = await payment_list.all_refunds(view.books.db, limit=PER_PAGE + 1, offset=view.offset)
    return view.page(
        "refunds.html",
        refunds=found[:PER_PAGE],
        held=await rows.held(view.books.db),
        key_problem=_key_problem(view),
        parts=view.neighbours(has_more=len(found) > PER_PAGE),
    )


async def _refunds_of(view: View, payment: Payment) -> list[Refund]:
    return await refund_rows.of_payment(
        view.books.db,
        chain_id=payment.chain_id,
        tx_hash=payment.tx_hash,
        log_index=payment.log_index,
    )


async def _payment(view: View) -> Payment:
    """Returns the payment that the address names. Raises InvalidField."""
    named = view.request.path_params
    chain_id, log_index = (_number(named[name]) for name in ("chain_id", "log_index"))
    payment = None
    if chain_id is not None and log_index is not None:
        payment = await rows.one(
            view.books.db,
            chain_id=chain_id,
            tx_hash=named["tx_hash"].lower(),
            log_index=log_index,
        )
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

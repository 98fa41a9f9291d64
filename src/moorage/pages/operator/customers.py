"""Wallets: who burns what and until when; suspend, resume, give credits, allow."""

import uuid
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from starlette.responses import Response

from moorage.errors import InvalidField, UniqueViolation
from moorage.ledger.ledger import wallet_account
from moorage.ledger.running_costs import owed, runs_out_at
from moorage.money import MicroUsd
from moorage.operate.customers import evictions
from moorage.operate.customers import overview as customer_rules
from moorage.operate.customers.evictions import Subject
from moorage.operate.customers.overview import grant, granted, undo_grant
from moorage.pages.operator.view import PER_PAGE, View, wallet_address
from moorage.records.event import Event
from moorage.records.payments import (
    Finality,
    Payment,
    PaymentStatus,
    Refund,
    RefundStatus,
    Settlement,
    SettlementStatus,
)
from moorage.storage.apps import projects
from moorage.storage.apps.projects import ProjectQuery
from moorage.storage.money import accounts, billing
from moorage.storage.money import grants as grant_rows
from moorage.storage.operation import overview, payment_list, wallet_rules
from moorage.storage.operation.overview import ListedWallet
from moorage.storage.operation.payment_list import LATE_MS, ListedPayment, PaymentFilter

WORDS = {
    "settled": "Credited, claimed by a request, and on the chain for good as far as it counts.",
    "provisional": "Credited; its block may still leave the chain, and is checked again.",
    "unclaimed": "It arrived and was credited, but no request has named it: to the payer it is "
    "credit that the next deploy uses.",
    "partial": "It is a part of a price; the payer owes the rest, and the name is held until then.",
    "late": "Its deploy came more than half an hour after it, when its quote had ended.",
    "held": "Screening holds it: nothing is credited until you release it or send it back.",
    "reversed": "Its block left the chain, so its credit was taken back.",
    "refunded": "It was held, and was sent back.",
    "refunding": "A refund of it is on its way.",
}
"""What a state means."""

_REFUND_STEPS = {
    RefundStatus.QUEUED: ("busy", "A refund is asked for"),
    RefundStatus.INTENDED: ("busy", "A refund is signed"),
    RefundStatus.SENT: ("busy", "A refund is on its way"),
    RefundStatus.REFUNDED: ("done", "Sent back"),
    RefundStatus.FAILED: ("failed", "A refund failed; what it took was given back"),
}
_SETTLEMENT_STEPS = {
    SettlementStatus.INTENDED: ("busy", "The authorization is signed into a transaction"),
    SettlementStatus.SENT: ("busy", "The authorization's transaction is sent"),
    SettlementStatus.SETTLED: ("done", "The authorization is settled"),
    SettlementStatus.FAILED: ("failed", "The authorization failed"),
}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a payment, or is still to come."""

    title: str
    state: str  # done, busy, failed or waiting
    at_ms: int | None = None
    text: str = ""


def state_of(listed: ListedPayment) -> str:
    """Returns what a payment is called: one of WORDS."""
    payment = listed.payment
    if listed.refunding:
        return "refunding"
    if payment.status is not PaymentStatus.CREDITED:
        return payment.status.value
    if not listed.used:
        return "unclaimed" if listed.part_of is None else "partial"
    if listed.used_at_ms is not None and listed.used_at_ms - payment.claimed_at_ms > LATE_MS:
        return "late"
    return "provisional" if payment.finality is Finality.PROVISIONAL else "settled"


def life_of(
    listed: ListedPayment,
    *,
    settlements: Iterable[Settlement],
    refunds: Sequence[Refund],
    events: Iterable[Event],
) -> list[Step]:
    """Returns the steps of a payment's life, the oldest first, and then what is to come."""
    payment = listed.payment
    known = [
        *_authorized(settlements),
        Step(
            title="It arrived" if payment.round == 1 else f"It arrived again ({payment.round})",
            state="done",
            at_ms=payment.claimed_at_ms,
            text=f"In block {payment.block_number}, as log {payment.log_index}.",
        ),
        *_told(events),
        *_used(listed),
        *_sent_back(refunds),
    ]
    known.sort(key=lambda step: step.at_ms or 0)
    return [*known, *_to_come(payment)]


def _authorized(settlements: Iterable[Settlement]) -> Iterator[Step]:
    for each in settlements:
        yield Step(title="The payer's authorization came", state="done", at_ms=each.created_at_ms)
        state, title = _SETTLEMENT_STEPS[each.status]
        at_ms = each.ended_at_ms or each.created_at_ms
        yield Step(title=title, state=state, at_ms=at_ms, text=each.failure or "")


def _told(events: Iterable[Event]) -> Iterator[Step]:
    for each in events:
        yield Step(
            title=f"The payer was told: {each.kind.value}",
            state="done",
            at_ms=each.created_at_ms,
            text=f"Event {each.sequence}.",
        )


def _used(listed: ListedPayment) -> Iterator[Step]:
    if listed.deployment_id is None:
        return
    yield Step(
        title=f"It paid for a deploy of {listed.project or 'a deleted project'}",
        state="done",
        at_ms=listed.used_at_ms,
        text=f"Deployment {listed.deployment_id}.",
    )


def _sent_back(refunds: Iterable[Refund]) -> Iterator[Step]:
    for each in refunds:
        yield Step(
            title="A refund was ordered",
            state="done",
            at_ms=each.created_at_ms,
            text=each.reason,
        )
        state, title = _REFUND_STEPS[each.status]
        text = f"Transaction {each.refund_tx_hash}." if each.refund_tx_hash else ""
        yield Step(
            title=title, state=state, at_ms=each.ended_at_ms or each.created_at_ms, text=text
        )


def _to_come(payment: Payment) -> Iterator[Step]:
    match payment.status:
        case PaymentStatus.HELD:
            yield Step(title="Waits for you: release it, or send it back", state="waiting")
        case PaymentStatus.CREDITED if payment.finality is not Finality.FINALIZED:
            reached = "safe" if payment.finality is Finality.SAFE else "mined"
            yield Step(
                title="Its block is to become final",
                state="busy",
                text=f"So far it is {reached}; it is read again at each step.",
            )
        case PaymentStatus.CREDITED:
            yield Step(title="Its block is final", state="done")


_LATEST = 10
_NEWEST = 2**62


class WalletBalance:
    """A wallet, with what has burned and until when its credits last."""

    def __init__(self, wallet: ListedWallet, *, owed_: int, runs_out_ms: int | None) -> None:
        self.wallet = wallet
        self.balance = MicroUsd(wallet.balance - owed_)
        self.runs_out_ms = runs_out_ms


async def listed(view: View) -> Response:
    """`GET /operator/wallets`: those that burn most first."""
    text = view.query.get("q", "")
    found = await overview.wallet_page(
        view.books.db,
        limit=PER_PAGE + 1,
        offset=view.offset,
        wallet=wallet_address(text) if text.strip() else "",
    )
    return view.page(
        "wallets.html",
        balances=[await _balance_of(view, each) for each in found[:PER_PAGE]],
        total=await overview.count_wallets(view.books.db),
        parts=view.neighbours(has_more=len(found) > PER_PAGE),
    )


async def one(view: View) -> Response:
    """`GET /operator/wallets/{wallet}`."""
    db, wallet = view.books.db, view.wallet()
    found = await overview.wallet_page(db, limit=1, wallet=wallet)
    if not found:
        raise InvalidField("wallet", "has never paid or deployed here")
    given = await grant_rows.of_wallet(db, wallet, limit=PER_PAGE + 1, offset=view.offset)
    return view.page(
        "wallet.html",
        balance=await _balance_of(view, found[0]),
        projects=(await projects.project_page(db, ProjectQuery(wallet), limit=PER_PAGE))[::-1],
        rule=await wallet_rules.wallet_rule(db, wallet),
        payments=await payment_list.page(
            db, PaymentFilter.ALL, now_ms=view.context.clock.now_ms(), limit=_LATEST, text=wallet
        ),
        entries=await accounts.statement_page(
            db, account=wallet_account(wallet), before=_NEWEST, limit=_LATEST
        ),
        grants=given[:PER_PAGE],
        parts=view.neighbours(has_more=len(given) > PER_PAGE),
        grant_id=str(uuid.uuid4()),
        state_of=state_of,
    )


async def _balance_of(view: View, wallet: ListedWallet) -> WalletBalance:
    """Returns where a wallet stands now."""
    billed = view.context.billed
    burning = await billing.open_of_wallet(view.books.db, wallet.address)
    runs_out = runs_out_at(wallet.balance, burning, now_ms=billed.now_ms())
    return WalletBalance(
        wallet,
        owed_=owed(burning, at_ms=billed.now_ms()),
        runs_out_ms=None if runs_out is None else billed.wall_ms(runs_out),
    )


async def suspend(view: View) -> Response:
    """`POST …/suspend`: all projects of the wallet, and whatever it would deploy."""
    wallet = view.wallet()
    view.require_confirmed()
    await evictions.suspend(view.books, Subject("", wallet), view.reason())
    return view.done(f"/operator/wallets/{wallet}", "suspended")


async def resume(view: View) -> Response:
    """`POST …/resume`: lifts that, of single projects as well."""
    wallet = view.wallet()
    await evictions.unsuspend(view.books, Subject("", wallet), reason=view.reason())
    return view.done(f"/operator/wallets/{wallet}", "resumed")


async def give(view: View) -> Response:
    """`POST …/credits`: credits without a payment; the form's id gives them once."""
    wallet = view.wallet()
    view.require_confirmed()
    try:
        await grant(
            view.books,
            wallet=wallet,
            amount=granted("usd", view.form.get("usd", "")),
            reason=view.reason(),
            grant_id=_grant_id(view.form.get("id", "")),
        )
    except UniqueViolation:
        return view.done(f"/operator/wallets/{wallet}", "given-before")
    return view.done(f"/operator/wallets/{wallet}", "given")


async def take_back(view: View) -> Response:
    """`POST …/credits/{grant_id}/undo`: takes credits back that were given by hand."""
    grant_id = view.request.path_params["grant_id"]
    given = await grant_rows.one(view.books.db, grant_id)
    if given is None or given.wallet != view.wallet():
        raise InvalidField("credits", "were not given to this wallet")
    await undo_grant(view.books, grant_id, reason=view.reason())
    return view.done(f"/operator/wallets/{view.wallet()}", "taken-back")


async def allow(view: View) -> Response:
    """`POST …/rules`: whether the wallet is listed, and how many projects it may have."""
    wallet, text = view.wallet(), view.form.get("max_projects", "").strip()
    if text and not (text.isascii() and text.isdigit() and len(text) < 7):
        raise InvalidField("max_projects", "must be a number, or empty for as many as the setting")
    await customer_rules.allow(
        view.books,
        wallet,
        listed=view.form.get("listed") == "true",
        max_projects=int(text) if text else -1,
        reason=view.reason(),
    )
    return view.done(f"/operator/wallets/{wallet}", "allowed")


def _grant_id(text: str) -> str:
    """Returns the id that the form was made with. Raises InvalidField."""
    with InvalidField.of("id", "is missing: open the wallet's page again"):
        return str(uuid.UUID(text))

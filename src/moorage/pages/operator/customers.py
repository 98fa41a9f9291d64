"""Wallets: who burns what and until when; suspend, resume, give credits, allow."""

import uuid
from decimal import Decimal, InvalidOperation

from starlette.responses import Response

from moorage.errors import InvalidField, UniqueViolation
from moorage.ledger.burn import owed, runs_out_at
from moorage.ledger.ledger import wallet_account
from moorage.money import MICRO_USD_PER_USD, MicroUsd
from moorage.operate.customers import evictions
from moorage.operate.customers import overview as customer_rules
from moorage.operate.customers.evictions import Subject
from moorage.operate.customers.overview import grant, undo_grant
from moorage.pages.operator.money.life import state_of
from moorage.pages.operator.view import PER_PAGE, View, wallet_address
from moorage.storage.apps import projects
from moorage.storage.apps.projects import ProjectQuery
from moorage.storage.money import accounts, billing
from moorage.storage.money import grants as grant_rows
from moorage.storage.operation import overview, payment_list, wallet_rules
from moorage.storage.operation.overview import ListedWallet
from moorage.storage.operation.payment_list import PaymentFilter

_LATEST = 10
_NEWEST = 2**62
_MAX_GRANT_USD = 1_000_000


class Standing:
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
        standings=[await _standing(view, each) for each in found[:PER_PAGE]],
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
        standing=await _standing(view, found[0]),
        projects=(await projects.project_page(db, ProjectQuery(wallet), limit=PER_PAGE))[::-1],
        rule=await wallet_rules.wallet_rule(db, wallet),
        payments=await payment_list.page(
            db, PaymentFilter.ALL, now_ms=view.desk.clock.now_ms(), limit=_LATEST, text=wallet
        ),
        entries=await accounts.statement_page(
            db, account=wallet_account(wallet), before=_NEWEST, limit=_LATEST
        ),
        grants=given[:PER_PAGE],
        parts=view.neighbours(has_more=len(given) > PER_PAGE),
        grant_id=str(uuid.uuid4()),
        state_of=state_of,
    )


async def _standing(view: View, wallet: ListedWallet) -> Standing:
    """Returns where a wallet stands now."""
    billed = view.desk.billed
    burning = await billing.open_of_wallet(view.books.db, wallet.address)
    runs_out = runs_out_at(wallet.balance, burning, now_ms=billed.now_ms())
    return Standing(
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
            amount=_amount(view.form.get("usd", "")),
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


def _amount(text: str) -> MicroUsd:
    """Returns dollars as micro-USD, exactly. Raises InvalidField."""
    try:
        dollars = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation as error:
        raise InvalidField("usd", "must be an amount such as 2.50") from error
    if not dollars.is_finite() or not 0 < dollars <= _MAX_GRANT_USD:
        raise InvalidField("usd", f"must be above 0, and {_MAX_GRANT_USD:,} at most")
    amount = dollars * MICRO_USD_PER_USD
    if amount != int(amount):
        raise InvalidField("usd", "must have six decimals at most")
    return MicroUsd(int(amount))


def _grant_id(text: str) -> str:
    """Returns the id that the form was made with. Raises InvalidField."""
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise InvalidField("id", "is missing: open the wallet's page again") from error

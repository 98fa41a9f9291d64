"""What one wallet paid and used in a period, as an invoice or a statement shows it."""

from collections import Counter

import msgspec

from moorage.ledger.ledger import wallet_account
from moorage.operate.books import open_books
from moorage.settings import Settings
from moorage.storage.apps import projects
from moorage.storage.database import Transaction
from moorage.storage.money import accounts, purses
from moorage.storage.money.accounts import StatementEntry, purse_of

_USES = {"burn": "running", "build": "building beyond the allowance"}
_PAID = {"payment", "release", "reversal"}
_ENTRIES_AT_ONCE = 1_000


class InvoiceLine(msgspec.Struct, frozen=True):
    """What one project used in one way."""

    project: str  # its name
    project_id: str
    what: str
    amount_micro_usd: int


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet's period, in micro-USD: opening + paid + given - refunded - used = closing.

    What its projects' purses have counts as the wallet's here: it paid that too.
    """

    wallet: str
    opening: int
    paid: int  # payments that were credited, less those that a chain took back
    given: int  # by the operator, without a payment
    refunded: int
    used: int  # the sum of the lines
    closing: int
    lines: list[InvoiceLine]


async def run_invoice(settings: Settings, wallet: str, *, since_ms: int, until_ms: int) -> Invoice:
    """Returns a wallet's invoice of a period; see `invoice`."""
    async with open_books(settings) as books, books.db.snapshot() as snapshot:
        return await invoice(snapshot, wallet, since_ms=since_ms, until_ms=until_ms)


async def invoice(snapshot: Transaction, wallet: str, *, since_ms: int, until_ms: int) -> Invoice:
    """Returns what was booked on a wallet and its purses from `since_ms` on, before `until_ms`."""
    opening = 0
    moved: Counter[str] = Counter()
    used: Counter[tuple[str, str]] = Counter()
    for entry in await _statement(snapshot, wallet):
        if entry.created_at_ms < since_ms:
            opening += entry.amount
        elif entry.created_at_ms < until_ms:
            moved[entry.kind] += entry.amount
            if entry.kind in _USES:
                used[entry.project_id or "", entry.kind] -= entry.amount
    return Invoice(
        wallet=wallet,
        opening=opening,
        paid=sum(moved[kind] for kind in _PAID),
        given=moved["grant"],
        refunded=-moved["refund"],
        used=-sum(moved[kind] for kind in _USES),
        closing=opening + sum(moved.values()),
        lines=sorted(
            [
                InvoiceLine(await _name(snapshot, project_id), project_id, _USES[kind], amount)
                for (project_id, kind), amount in used.items()
            ],
            key=lambda line: (line.project, line.project_id, line.what),
        ),
    )


async def _statement(snapshot: Transaction, wallet: str) -> list[StatementEntry]:
    found: list[StatementEntry] = []
    own = [purse_of(each.project_id) for each in await purses.of_wallet(snapshot, wallet)]
    for account in (wallet_account(wallet), *own):
        before = 2**62
        while some := await accounts.statement_page(
            snapshot, account=account, before=before, limit=_ENTRIES_AT_ONCE
        ):
            found += some
            before = some[-1].place
    return found


async def _name(snapshot: Transaction, project_id: str) -> str:
    project = await projects.by_id(snapshot, project_id)
    return project.unique_name if project else project_id

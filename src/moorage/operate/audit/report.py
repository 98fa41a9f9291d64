"""Runs the three parts of an audit and reports what they found."""

import msgspec

from moorage.clock import SystemClock
from moorage.errors import ChainUnavailable
from moorage.ledger.ledger import EARNED
from moorage.operate.audit.chains import audit_chain
from moorage.operate.audit.rows import Finding, TokenTotal, audit_books, token_totals
from moorage.operate.audit.states import audit_states
from moorage.operate.books import OpenBooks, open_books
from moorage.settings import Settings
from moorage.storage.money.audit import Books

_NOT_RUNNING = "it does not run"


class Report(msgspec.Struct, frozen=True):
    """What an audit found."""

    findings: list[Finding]  # what is wrong
    pending: list[Finding]  # what the gateway will mend by itself
    unknown: dict[str, str]  # the chains that could not be read, and why
    totals: list[TokenTotal]
    payments: int
    balances_micro_usd: int
    burned_micro_usd: int


async def run_audit(settings: Settings, *, from_block: int | None, search: bool) -> Report:
    """Audits the gateway with these settings, which may be running.

    `search` looks for transfers to us from block `from_block` of each chain on; with None, from
    where the gateway began. Raises ConfigurationInvalid.
    """
    async with open_books(settings) as opened:
        async with opened.db.snapshot() as snapshot:
            books, findings = await audit_books(snapshot, opened.chains.values())
            findings += await audit_states(snapshot, now_ms=SystemClock().now_ms())
        report = Report(
            findings=findings,
            pending=[],
            unknown={},
            totals=token_totals(books, opened.chains.values()),
            payments=len(books.payments),
            balances_micro_usd=sum(books.balances.values()),
            burned_micro_usd=books.accounts.get(EARNED, 0),
        )
        await _ask_chains(opened, books, report, from_block=from_block, search=search)
    return report


async def _ask_chains(
    opened: OpenBooks, books: Books, report: Report, *, from_block: int | None, search: bool
) -> None:
    for name in opened.chains:
        client = opened.clients.get(name)
        if client is None:
            report.unknown[name] = _NOT_RUNNING
            continue
        try:
            found = await audit_chain(
                client, books, recipients=opened.recipients, from_block=from_block, search=search
            )
        except ChainUnavailable as error:
            report.unknown[name] = error.message
        else:
            report.findings.extend(found.findings)
            report.pending.extend(found.pending)

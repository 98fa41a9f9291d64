"""The operator's commands over money: audit, ledger, reports, payments and refunds."""

import asyncio
import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from moorage.cli.flags import Switch
from moorage.cli.main import Exit
from moorage.cli.operator.gateway import (
    DEFAULTS,
    GatewayMeant,
    OperatorOptions,
    RecordReason,
    Since,
    Until,
    reason_option,
    time_option,
    wallet_option,
)
from moorage.cli.screen import Screen, counted
from moorage.clock import SystemClock
from moorage.errors import InvalidField
from moorage.money import decimal_text

if TYPE_CHECKING:
    from moorage.chains.chain import Chain
    from moorage.operate.audit.report import Report
    from moorage.records.payments import Payment, Refund
    from moorage.settings import Settings


_FOR_EVER_MS = 253_402_300_800_000  # the year 10,000


def report(
    what: Literal["revenue", "payments", "invoice"],
    /,
    *,
    by: Literal["day", "month"] = "month",
    wallet: str = "",
    since: Since = None,
    until: Until = None,
    as_csv: Annotated[bool, Parameter(name="--csv", negative=())] = False,
    options: OperatorOptions = DEFAULTS,
) -> None:
    """Report on money, all from the ledger: `moorage operator report revenue --by day`.

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
    as_csv
        Print a table for a spreadsheet.
    """
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
    from moorage.operate.reports.payments import run_invoice

    found = asyncio.run(run_invoice(settings, wallet, since_ms=since_ms, until_ms=until_ms))
    output.screen.document(found)
    rows = [(each.project, each.what, each.amount_micro_usd) for each in found.lines]
    sums = [
        ("credits at the beginning", found.opening_micro_usd),
        ("paid", found.paid_micro_usd),
        ("given", found.given_micro_usd),
        ("refunded", -found.refunded_micro_usd),
        ("other", found.other_micro_usd),
        ("used", -found.used_micro_usd),
        ("credits at the end", found.closing_micro_usd),
    ]
    output.table(
        ("project", "what", "usd"),
        [
            *((name, what, decimal_text(amount, decimals=6)) for name, what, amount in rows),
            *(("", what, decimal_text(amount, decimals=6)) for what, amount in sums),
        ],
        none="",
    )


def audit(
    *, from_block: int | None = None, fast: Switch = False, options: OperatorOptions = DEFAULTS
) -> int:
    """Compare the books with themselves and with the chains, and name every row that is wrong.

    Exits with 0 when all is right, 1 when something is wrong, 4 when nothing is wrong, but a
    chain could not be read.

    Parameters
    ----------
    from_block
        Search each chain for transfers from this block on, not from where the gateway began.
    fast
        Check recorded transfers only; do not search for others.
    """
    from moorage.operate.audit.report import run_audit

    settings = options.settings()
    report = asyncio.run(run_audit(settings, from_block=from_block, search=not fast))
    screen = options.screen()
    screen.document({"ok": not report.findings and not report.unknown, "report": report})
    for line in _report_lines(report):
        screen.result(line)
    if report.findings:
        return Exit.FAILED
    return Exit.TRY_AGAIN if report.unknown else Exit.OK


def ledger(
    _: Annotated[Literal["export"], Parameter(name="export")],
    /,
    *,
    since: Since = None,
    until: Until = None,
    wallet: str = "",
    options: GatewayMeant = DEFAULTS,
) -> None:
    """Print the ledger as CSV, one line an entry: `moorage operator ledger export > ledger.csv`.

    Parameters
    ----------
    wallet
        Of this wallet alone.
    """
    from moorage.operate.books import open_books
    from moorage.operate.export import COLUMNS, ledger_rows

    settings = options.settings()
    bounds = {
        "since_ms": time_option("--since", since, default=0),
        "until_ms": time_option("--until", until, default=2**62),
    }
    address = wallet_option("--wallet", wallet)

    async def export() -> None:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        async with open_books(settings) as books:
            writer.writerow(COLUMNS)
            async for row in ledger_rows(books.db, wallet=address, **bounds):
                writer.writerow(row)

    asyncio.run(export())


def payments(
    what: Literal["held", "release", "find"],
    first: str = "",
    last: str = "",
    /,
    *,
    chain: str = "",
    credit: Switch = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """List what screening holds back, release it, or find payments that the books lack.

    `moorage operator payments release 0x…` credits a held payment to who paid, and its apps
    continue. To send one back instead, see `moorage operator refund`.
    `moorage operator payments find 2027-03-01 2027-03-02` searches that time again at every node,
    and lists what is not in the books; with `--credit` it credits what two nodes show, and whom
    screening allows.

    Parameters
    ----------
    what
        `held` lists, `release` credits, `find` searches.
    first
        The transaction whose held payments are released; or from where to search: a block's number
        or a time.
    last
        Up to where to search, this block included.
    chain
        The chain that is searched; needed for block numbers where there are several.
    credit
        Credit what is found.
    """
    if what == "find":
        _find(first, last, chain=chain, credit=credit, options=options)
        return Exit.OK
    from moorage.operate.books import open_books
    from moorage.operate.refunds import release
    from moorage.storage.money.payments import held

    settings = options.settings()
    wanted = _transaction(first) if what == "release" else ""

    async def listed() -> "list[Payment]":
        async with open_books(settings) as books:
            if not wanted:
                return await held(books.db)
            ids = {chain.chain_id for chain in books.chains.values()}
            return await release(
                books.db, wanted, chain_ids=ids, clock=SystemClock(), who=books.operator
            )

    found = asyncio.run(listed())
    screen = options.screen()
    screen.document({"payments": found})
    for item in found:
        usd = decimal_text(item.credited_micro_usd, decimals=6)
        screen.result(
            f"{item.chain_id} {item.tx_hash}:{item.log_index} {item.token} ${usd} "
            f"from {item.payer}: {item.held_reason}"
        )
    if wanted and not found:
        screen.note("nothing of this transaction is held")
        return Exit.FAILED
    if not found:
        screen.result("No payment is held.")
    return Exit.OK


def _find(first: str, last: str, *, chain: str, credit: bool, options: OperatorOptions) -> None:
    from moorage.operate.refunds import run_find

    if not first or not last:
        raise InvalidField("FIRST LAST", "say from where to where: two blocks, or two times")
    are_times = not (first.isdecimal() and last.isdecimal())
    begin, end = (
        (time_option("FIRST", first, default=0), time_option("LAST", last, default=0))
        if are_times
        else (int(first), int(last))
    )
    found = asyncio.run(
        run_find(
            options.settings(), begin, end, chain=chain, are_times=are_times, credits_it=credit
        )
    )
    screen = options.screen()
    screen.document({"found": found, "credited": credit})
    for each in found:
        for one in each.transfers:
            usd = decimal_text(one.worth, decimals=6)
            line = f"{each.chain} block {each.block_number} {each.tx_hash}:{one.log_index}"
            screen.result(f"{line} {one.token} ${usd} from {one.payer}")
        if each.why_not:
            screen.result(f"{each.chain} {each.tx_hash} can't be credited: {each.why_not}")
    if not found:
        screen.result("Nothing was credited." if credit else "The books lack no payment there.")
    elif not credit:
        screen.note("nothing is credited yet: the same with --credit credits it")


def refund(
    tx_hash: str = "",
    /,
    *,
    reason: RecordReason = "",
    key_file: Path | None = None,
    amount: str | None = None,
    chain: str | None = None,
    log_index: int | None = None,
    to: str | None = None,
    resume: Switch = False,
    all_unspent: Switch = False,
    queued: Switch = False,
    decline: Switch = False,
    wait_seconds: float = 60.0,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Send tokens of a payment back to who paid: `moorage operator refund 0x… --reason "…"`.

    What a customer asked for and waits for you is sent, or declined, by its id in place of the
    transaction; `--queued` lists it.

    No more than the payment brought, nor than its payer has credits for; a held payment goes back
    as a whole. Exits with 3 while the outcome is open: then never send it by hand, but run
    `moorage operator refund --resume` later.

    Parameters
    ----------
    tx_hash
        The payment's transaction, or the id of what a customer asked for.
    key_file
        The key that sends, in a file for its owner's eyes only; needs tokens and gas. In dev it is
        that of the address that is paid.
    amount
        How many tokens, as a decimal; without it all that is left.
    chain
        The payment's chain, where several have this hash.
    log_index
        Which payment, where the transaction made several.
    to
        Who paid, to be sure; anybody else is refused.
    resume
        Instead follow the refunds whose outcome is open.
    all_unspent
        Instead send every wallet what it paid and did not use, as when a gateway is given up.
    queued
        Instead list what customers asked for and is not sent.
    decline
        Do not send what a customer asked for: the credits are given back.
    wait_seconds
        How long to wait for it to be mined.
    """
    from moorage.operate.refunds import (
        RefundOrder,
        run_all_unspent,
        run_decide,
        run_queued,
        run_refund,
        run_resume,
    )

    settings, screen = options.settings(), options.screen()
    if queued:
        waiting = asyncio.run(run_queued(settings))
        screen.document({"refunds": [refund for _, refund in waiting]})
        for seen in waiting:
            screen.result(f"{seen.refund.request_id}: {refund_text(*seen)}")
        if not waiting:
            screen.result("No refund waits.")
        return Exit.OK
    if decline or (tx_hash and not tx_hash.startswith("0x")):
        decided = run_decide(
            settings,
            tx_hash,
            sends=not decline,
            reason=reason_option(reason),
            key_file=key_file,
            wait_seconds=wait_seconds,
        )
        done = asyncio.run(decided)
    elif all_unspent:
        sent = run_all_unspent(
            settings,
            reason=reason_option(reason),
            key_file=key_file,
            wait_seconds=wait_seconds,
        )
        done = asyncio.run(sent)
    elif resume:
        done = asyncio.run(run_resume(settings, key_file=key_file, wait_seconds=wait_seconds))
    else:
        order = RefundOrder(
            tx_hash=_transaction(tx_hash),
            chain=chain,
            log_index=log_index,
            amount=amount,
            recipient=wallet_option("--to", to) if to else None,
            reason=reason_option(reason),
        )
        refunded = run_refund(settings, order, key_file=key_file, wait_seconds=wait_seconds)
        done = [asyncio.run(refunded)]
    screen.document({"refunds": [refund for _, refund in done]})
    for seen in done:
        screen.result(refund_text(*seen))
    if not done:
        screen.result("No refund's outcome is open.")
    return Exit.OK if decline else _refund_exit(item for _, item in done)


def refund_text(chain: "Chain", item: "Refund") -> str:
    """A refund, for a person."""
    token = chain.token_at(item.token_address)
    amount = f"{item.amount_atomic} of {item.token_address}"  # of a token no longer configured
    if token is not None:
        amount = f"{decimal_text(item.amount, decimals=token.decimals)} {token.symbol}"
    by = f", transaction {item.refund_tx_hash}" if item.refund_tx_hash else ""
    said = f"{item.status}: {amount} on {chain.name} to {item.recipient}{by}, refund {item.id}"
    return f"{said}. {item.waits_because}" if item.waits_because else said


def _refund_exit(done: "Iterable[Refund]") -> Exit:
    from moorage.records.payments import UNFINISHED, RefundStatus

    statuses = {item.status for item in done}
    if not statuses.isdisjoint(UNFINISHED):
        return Exit.DO_NOT_PAY_AGAIN
    return Exit.FAILED if RefundStatus.FAILED in statuses else Exit.OK


def _transaction(text: str) -> str:
    from moorage.chains.receipt import normalise_tx_hash

    with InvalidField.of("TX_HASH"):
        return normalise_tx_hash(text)


def _report_lines(report: "Report") -> list[str]:
    def usd(amount: int) -> str:
        return f"${decimal_text(amount, decimals=6)}"

    def tokens(amount: str, decimals: int) -> str:
        return decimal_text(int(amount), decimals=decimals)

    return [
        *(f"WRONG    {item.row}: {item.problem}" for item in report.findings),
        *(f"pending  {item.row}: {item.problem}" for item in report.pending),
        *(f"UNKNOWN  chain {name}: {why}" for name, why in report.unknown.items()),
        *(f"former   chain {name}: {what}" for name, what in report.former.items()),
        *(
            f"{total.chain} {total.token}: received {tokens(total.received, total.decimals)}, "
            f"held {tokens(total.held, total.decimals)}, "
            f"sent back {tokens(total.sent_back, total.decimals)}"
            for total in report.totals
        ),
        f"{report.payments} payment{'' if report.payments == 1 else 's'}",
        f"balances {usd(report.balances_micro_usd)}, burned {usd(report.burned_micro_usd)}",
        f"compensated {usd(report.compensated_micro_usd)}",
        _verdict(report),
    ]


def _verdict(report: "Report") -> str:
    if report.findings:
        return f"{len(report.findings)} wrong"
    return "unknown: a chain could not be read" if report.unknown else "ok"

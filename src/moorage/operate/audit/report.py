"""Runs the three parts of an audit and reports what they found."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from moorage.chains.chain import Chain
from moorage.chains.rpc import RpcClient
from moorage.clock import SystemClock
from moorage.errors import ChainUnavailable, ConfigurationInvalid, DatabaseUnavailable
from moorage.gateway.configuration import former_chains
from moorage.ledger.ledger import COMPENSATED, EARNED
from moorage.operate.audit.chains import ChainAudit, audit_chain
from moorage.operate.audit.rows import Finding, TokenTotal, audit_books, token_totals
from moorage.operate.audit.states import audit_states
from moorage.operate.books import OpenBooks, open_books
from moorage.payments.relay.relayer import key_in
from moorage.settings import Settings
from moorage.storage.money import settlements
from moorage.storage.money.audit import Books
from moorage.storage.operation import audit_log, configuration
from moorage.storage.operation.audit_log import Upkeep, UpkeepDone

_NOT_RUNNING = "it does not run"
_NOT_CONFIGURED = "it is not configured any more"

log = structlog.get_logger()


class Report(msgspec.Struct, frozen=True):
    """What an audit found."""

    findings: list[Finding]  # what is wrong
    pending: list[Finding]  # what the gateway will fix by itself
    unknown: dict[str, str]  # the chains that could not be read, and why
    former: dict[str, str]  # chains that are not configured any more, and what was paid there
    totals: list[TokenTotal]
    payments: int
    balances_micro_usd: int
    burned_micro_usd: int
    compensated_micro_usd: int  # of that, given back for time in which apps were lost


async def run_audit(settings: Settings, *, from_block: int | None, search: bool) -> Report:
    """Audits the gateway with these settings, which may be running.

    `search` looks for transfers to us from block `from_block` of each chain on; with None, from
    where the gateway began. Raises ConfigurationInvalid.
    """
    async with open_books(settings) as opened:
        async with opened.db.snapshot() as snapshot:
            former = former_chains(
                await configuration.history(snapshot), now=opened.chains.values()
            )
            chains = [*opened.chains.values(), *former]
            books, findings = await audit_books(snapshot, chains)
            on_its_way = {each.chain_id for each in await settlements.unsettled_by_token(snapshot)}
            findings += await audit_states(snapshot, now_ms=SystemClock().now_ms())
        report = Report(
            findings=findings,
            pending=[],
            unknown={},
            former={},
            totals=token_totals(books, [*opened.chains.values(), *_paid_on(former, books)]),
            payments=len(books.payments),
            balances_micro_usd=sum(books.balances.values()),
            burned_micro_usd=books.accounts.get(EARNED, 0),
            compensated_micro_usd=-books.accounts.get(COMPENSATED, 0),
        )
        _tell_former(report, books, chains, opened.chains, on_its_way)
        await _ask_chains(settings, opened, books, report, from_block=from_block, search=search)
        await _note(opened, report)
    return report


async def _note(opened: OpenBooks, report: Report) -> None:
    """Records what was found, for the gateway's metrics; what is found counts without that."""
    done = UpkeepDone(
        kind=Upkeep.AUDIT,
        at_ms=SystemClock().now_ms(),
        wrong=len(report.findings),
        pending=len(report.pending),
        unknown=len(report.unknown),
    )
    try:
        async with opened.db.transaction(durable=False) as tx:
            await audit_log.note_upkeep(tx, done)
    except DatabaseUnavailable as error:
        log.warning("the audit is not recorded", error=error.message)


def _paid_on(chains: Iterable[Chain], books: Books) -> list[Chain]:
    """Returns those of the chains on which anything was paid."""
    paid = {payment.chain_id for payment in books.payments}
    return [chain for chain in chains if chain.chain_id in paid]


def _tell_former(
    report: Report,
    books: Books,
    chains: Iterable[Chain],
    configured: Mapping[str, Chain],
    on_its_way: Collection[int],
) -> None:
    """Names each chain that has payments and no nodes; money on its way there makes it unknown."""
    now = {chain.chain_id for chain in configured.values()}
    names = {chain.chain_id: chain.name for chain in chains}
    counts = Counter(payment.chain_id for payment in books.payments)
    for chain_id, count in counts.items():
        if chain_id in now:
            continue
        name = names.get(chain_id, str(chain_id))
        if chain_id in on_its_way:
            report.unknown[name] = f"{_NOT_CONFIGURED}, and money is on its way there: put it back"
        report.former[name] = f"{count} payments, not looked up: {_NOT_CONFIGURED}"


async def _ask_chains(
    settings: Settings,
    opened: OpenBooks,
    books: Books,
    report: Report,
    *,
    from_block: int | None,
    search: bool,
) -> None:
    senders = _refund_senders(settings)

    async def ask(node: RpcClient) -> ChainAudit:
        return await audit_chain(
            node,
            books,
            recipients=opened.recipients,
            retired=opened.retired,
            senders=senders,
            from_block=from_block,
            search=search,
        )

    for name in opened.chains:
        client = opened.clients.get(name)
        if client is None:
            report.unknown[name] = _NOT_RUNNING
            continue
        answers = dict(enumerate(await client.every(ask), 1))
        found = {at: one for at, one in answers.items() if not isinstance(one, ChainUnavailable)}
        for at, error in answers.items():
            if isinstance(error, ChainUnavailable):
                report.unknown[f"{name}, node {at}" if found else name] = error.message
        report.findings.extend(_together({at: one.findings for at, one in found.items()}))
        report.pending.extend(_together({at: one.pending for at, one in found.items()}))


def _together(found: Mapping[int, Sequence[Finding]]) -> Iterator[Finding]:
    """Yields what the nodes of a chain, by number, give rise to; and where they disagree, whose."""
    by: dict[Finding, list[int]] = {}
    for number, findings in found.items():
        for finding in findings:
            by.setdefault(finding, []).append(number)
    for finding, numbers in by.items():
        if len(numbers) < len(found):
            whose = ", ".join(map(str, numbers))
            problem = f"{finding.problem}: so says node {whose}, of {len(found)} that answer"
            yield Finding(finding.row, problem)
        else:
            yield finding


def _refund_senders(settings: Settings) -> set[str]:
    """Returns the address of `refund_key_file`; none if there is no such file to be read here."""
    if not settings.refund_key_file:
        return set()
    try:
        return {key_in(Path(settings.refund_key_file), option="refund_key_file").address}
    except ConfigurationInvalid as problem:
        log.warning("the audit does not know who sends refunds", error=problem.message)
        return set()

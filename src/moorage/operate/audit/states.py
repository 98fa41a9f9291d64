"""Audits states: finds rows that are open for too long, or that no other row confirms.

What the gateway does by itself within seconds may take an hour; what waits for a chain, a day.
"""

from collections.abc import Iterable, Iterator, Mapping

from moorage.ledger.running_costs import HOUR_MS
from moorage.operate.audit.rows import Finding
from moorage.payments.price.quotes import MAX_PROMISE_MS, QUOTE_LIFETIME_MS
from moorage.records.payments import Quote
from moorage.storage.database import Transaction
from moorage.storage.money import audit as rows
from moorage.storage.money.audit import BilledInterval, CreditedSettlement

_DAY_MS = 24 * HOUR_MS
_EVENTS_SURELY_KEPT_MS = 30 * _DAY_MS


async def audit_states(snapshot: Transaction, *, now_ms: int) -> list[Finding]:
    """Returns what is wrong with the states of rows."""
    refunds = await rows.open_refunds(snapshot)
    unresolved = await rows.unresolved(snapshot)
    intervals = await rows.billed_intervals(snapshot)
    untold = await rows.untold_releases(snapshot, since_ms=now_ms - _EVENTS_SURELY_KEPT_MS)
    return [
        *(
            Finding(f"project {each}", "serves, and no run interval bills it")
            for each in await rows.unbilled(snapshot)
        ),
        *interval_findings(intervals, billed_ms=await rows.billed_up_to(snapshot)),
        *price_findings(intervals, await rows.new_prices(snapshot)),
        *(
            Finding(f"settlement {each}", "has no outcome a day after its authorization ended")
            for each, ends_at in unresolved
            if now_ms - ends_at * 1000 > _DAY_MS
        ),
        *settlement_findings(await rows.credited_settlements(snapshot), now_ms=now_ms),
        *(
            Finding(
                f"refund {each}", "is not final after a day: `moorage operator refund --resume`"
            )
            for each, intended_at_ms in refunds
            if now_ms - intended_at_ms > _DAY_MS
        ),
        *quote_findings(
            await rows.all_quotes(snapshot), await rows.paid_by_wallet(snapshot), now_ms=now_ms
        ),
        *(Finding(f"posting {each}", "released a payment, but nobody was told") for each in untold),
    ]


_STATE = {True: "asleep", False: "awake"}


def interval_findings(
    intervals: Iterable[BilledInterval], *, billed_ms: int | None
) -> Iterator[Finding]:
    """Each is charged in full hours while open, not in advance, and at its project's price."""
    for each in (each for each in intervals if each.ended_at_ms is None):
        row = f"run interval {each.id}"
        began_at, costs = each.monthly_price_micro_usd, each.project_price_micro_usd
        if began_at != costs:
            yield Finding(row, f"began at {began_at} a month, its project costs {costs}")
        if each.asleep != each.project_sleeps:
            yield Finding(
                row, f"is for {_STATE[each.asleep]}, its project is {_STATE[not each.asleep]}"
            )
        if (each.charged_until_ms - each.started_at_ms) % HOUR_MS:
            yield Finding(row, "is open, and not charged in full hours from its start")
        # Billed time is read when an interval begins, and every minute.
        if billed_ms is not None and each.charged_until_ms > billed_ms + HOUR_MS:
            yield Finding(row, "is charged up to a time that has not come")


def price_findings(
    intervals: Iterable[BilledInterval], new_prices: Iterable[tuple[str, int, int]]
) -> Iterator[Finding]:
    """Each project costs what it was last billed at awake, or what an operator ordered since."""
    billed = [each for each in intervals if not each.asleep]
    costs = {each.project_id: each.project_price_micro_usd for each in billed}
    since: dict[str, tuple[int, int]] = {
        each.project_id: (each.started_at_ms, each.monthly_price_micro_usd) for each in billed
    }
    for project_id, at_ms, price in new_prices:
        if project_id in since and at_ms >= since[project_id][0]:
            since[project_id] = (at_ms, price)
    for project_id, (_, billed_at) in since.items():
        if billed_at != costs[project_id]:
            yield Finding(
                f"project {project_id}",
                f"costs {costs[project_id]} a month, and was billed at {billed_at}",
            )


def settlement_findings(
    credited: Iterable[CreditedSettlement], *, now_ms: int
) -> Iterator[Finding]:
    """Each credited settlement is settled within an hour."""
    for each in credited:
        if each.status == "failed":
            yield Finding(f"settlement {each.id}", "failed, but its transaction is credited")
        elif now_ms - each.claimed_at_ms > HOUR_MS:
            yield Finding(f"settlement {each.id}", "has no outcome, but is credited for an hour")


def quote_findings(
    quotes: Iterable[Quote], paid: Mapping[str, int], *, now_ms: int
) -> Iterator[Finding]:
    """Each has the lifetime of quotes, and counts at most what its wallet has paid."""
    for each in quotes:
        row = f"quote {each.id}"
        if each.expires_at_ms - each.created_at_ms != QUOTE_LIFETIME_MS:
            yield Finding(row, "lives longer, or shorter, than quotes do")
        if each.created_at_ms > now_ms + HOUR_MS:
            yield Finding(row, "was made at a time that has not come")
        if each.promised_at_ms and each.created_at_ms - each.promised_at_ms > MAX_PROMISE_MS:
            yield Finding(row, "promises a price for longer than it may")
        if each.received_micro_usd > paid.get(each.wallet, 0):
            yield Finding(row, f"counts {each.received_micro_usd}, more than {each.wallet} paid")

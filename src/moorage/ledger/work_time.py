"""Work that is billed by its time: builds beyond their allowance, and runs."""

import msgspec

from moorage.errors import DeployFailed, FailureCause
from moorage.ledger import ledger
from moorage.ledger.delegated import left_for_work
from moorage.ledger.running_costs import charge_up_to, month_of
from moorage.money import MicroUsd
from moorage.storage.database import Source, Transaction
from moorage.storage.money import accounts, billing
from moorage.storage.money.billing import Work, WorkKind

BOOK_SECONDS = 10.0
"""How often work is booked. At most so much goes unbilled when the gateway crashes."""

_ENDED = {
    WorkKind.BUILD: "before this was built, so the build was ended",
    WorkKind.RUN: "before this had run to its end, so it was ended",
}
_AGAIN = {WorkKind.BUILD: "deploy again", WorkKind.RUN: "run it again"}
_BY_HAND = {WorkKind.BUILD: "deploy it", WorkKind.RUN: "run it"}


async def book(tx: Transaction, begun: Work, *, ran_ms: int, free_ms: int = 0, now_ms: int) -> Work:
    """Stores how long work has run, and charges what exceeds the free time; `tx` is durable.

    It goes by the row, as it may not be known whether the last booking was committed.
    """
    work = await billing.work_of(tx, begun.id) or begun
    if ran_ms <= work.ran_ms:
        return work
    billed_ms = work.billed_ms + max(0, ran_ms - work.ran_ms - free_ms)
    owed = charge_up_to(billed_ms, monthly_price=work.monthly_price_micro_usd)
    due = await _within_limit(tx, work, MicroUsd(owed - work.charged_micro_usd), now_ms=now_ms)
    posting = f"{work.kind}:{work.id}:{ran_ms}"
    burn = ledger.Burn(work.project_id, work.wallet, due, posting, work.started_at_ms)
    (burned,) = await ledger.burn(tx, [burn], now_ms=now_ms, kind=work.kind)
    charged = MicroUsd(work.charged_micro_usd + burned.taken)
    booked = msgspec.structs.replace(
        work, ran_ms=ran_ms, billed_ms=billed_ms, charged_micro_usd=charged
    )
    await billing.book_work(tx, booked)
    return booked


async def _within_limit(tx: Transaction, work: Work, due: MicroUsd, *, now_ms: int) -> MicroUsd:
    """Returns how much of what is due may be taken, by the limit of who asked for the work."""
    if due <= 0 or await left_for_work(tx, work, now_ms=now_ms) is None:
        return due
    await accounts.lock(tx, work.wallet)  # what its delegates commit is counted by one at a time
    left = await left_for_work(tx, work, now_ms=now_ms)
    return due if left is None else min(due, left)


async def require_credits(
    source: Source, work: Work, *, now_ms: int, is_free: bool = False
) -> None:
    """Raises DeployFailed if the project can burn nothing, or no more in this month.

    Or if whoever asked for the work may commit no more, unless it `is_free` for now.
    """
    purse = await accounts.purse(source, work.project_id)
    if purse is not None and purse.limit is not None:
        month = month_of(work.started_at_ms)
        if await ledger.spent_in(source, work.project_id, month) >= purse.limit:
            raise DeployFailed(
                FailureCause.AT_LIMIT,
                "The project has burned what its limit lets it in this month, "
                f"{_ENDED[work.kind]}. Raise it (PUT /agent/projects/{{projectId}}/purse), then "
                f"{_AGAIN[work.kind]}.",
            )
    if (await ledger.reach(source, work.project_id, wallet=work.wallet)).total <= 0:
        raise DeployFailed(
            FailureCause.OUT_OF_CREDITS,
            f"Your credits ran out {_ENDED[work.kind]}. Top up your credits "
            f"(POST /agent/credits), then {_AGAIN[work.kind]}.",
        )
    left = await left_for_work(source, work, now_ms=now_ms)
    if left is not None and left <= 0 and not is_free:
        raise DeployFailed(
            FailureCause.AT_LIMIT,
            "The delegate that asked for this has used up what it may commit in this month, "
            f"{_ENDED[work.kind]}. The wallet itself may {_BY_HAND[work.kind]}, or sign a "
            "delegation with a higher limitUsdMonth.",
        )

"""What delegates commit of their owners' credits, and what is left of their limits.

A delegate commits the purses of projects that it opens, and what builds and runs that it asked for
burn of the owner's credits. What comes back from a purse does not raise what is left: others may
have filled it.
"""

from moorage.acting import acted_by
from moorage.errors import DelegateLimit
from moorage.ledger.running_costs import month_of
from moorage.money import MICRO_USD_PER_USD, NOTHING, MicroUsd
from moorage.records.access import Scope, StoredDelegation
from moorage.records.project import Project
from moorage.storage import delegations, recoveries
from moorage.storage.database import Source
from moorage.storage.money import accounts
from moorage.storage.money.billing import Work


async def left_of(source: Source, delegation: StoredDelegation, *, now_ms: int) -> MicroUsd:
    """Returns what its delegate may still commit by this delegation in the month.

    What it committed by other delegations of the same owner counts as well.
    """
    committed = await accounts.committed_by(
        source,
        owner=delegation.owner,
        delegate=delegation.delegate,
        since_ms=month_of(now_ms).start_ms,
    )
    limit = delegation.limit_usd_month * MICRO_USD_PER_USD
    return MicroUsd(max(0, limit - committed))


async def left_for_work(source: Source, work: Work, *, now_ms: int) -> MicroUsd | None:
    """Returns what a build or a run may still burn of its wallet's credits; None without a limit.

    It is nothing when the delegate's delegation has ended. The address that took the wallet over is
    no delegate.
    """
    if not work.acted_by.startswith("0x"):
        return None
    if work.acted_by == await recoveries.holder_of(source, work.wallet):
        return None
    purse = await accounts.purse(source, work.project_id)
    if purse is not None and not purse.shared:
        return None
    live = await delegations.live_between(
        source, owner=work.wallet, delegate=work.acted_by, now_ms=now_ms
    )
    lefts = [
        await left_of(source, each, now_ms=now_ms) for each in live if each.covers(Scope.DEPLOY)
    ]
    return max(lefts, default=NOTHING)


async def require_as_cheap(source: Source, project: Project, month: MicroUsd) -> None:
    """Raises DelegateLimit if a delegate would make a project burn more a month than it does.

    A project that burns only its purse is no such case, and the address that took the wallet over
    is no delegate.
    """
    by = acted_by(project.wallet)
    if month <= project.monthly_price_micro_usd or not by.startswith("0x"):
        return
    purse = await accounts.purse(source, project.id)
    if purse is not None and not purse.shared:
        return
    if by != await recoveries.holder_of(source, project.wallet):
        raise DelegateLimit(
            "This size would burn more of the owner's credits than the project does now, without "
            "end: its owner can choose it, or have the project live from its purse alone."
        )

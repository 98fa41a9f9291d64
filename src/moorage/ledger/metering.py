"""Metering: what running apps burn, from recorded run intervals, exactly.

The charge up to a moment is a pure function of the elapsed time; what is booked is its growth
since the last booking. So neither a restart nor a clock step bills twice or skips.
"""

import uuid

from moorage.clock import Clock
from moorage.deploy.project import ProjectStatus
from moorage.events import outbox
from moorage.events.event import EventKind
from moorage.ledger import ledger
from moorage.money import MicroUsd
from moorage.storage import accounts, intervals, projects
from moorage.storage.database import Database, Transaction
from moorage.storage.intervals import RunInterval

HOUR_MS = 3_600_000
MONTH_MS = 730 * HOUR_MS
"""A month of billing: a twelfth of 365 days."""


def charge_up_to(elapsed_ms: int, *, monthly_price: MicroUsd) -> MicroUsd:
    """What `elapsed_ms` of running costs in all; rounded up to the micro-USD."""
    return MicroUsd(-(-monthly_price * max(0, elapsed_ms) // MONTH_MS))


class Metering:
    """Charges run intervals hour by hour, and at their end."""

    def __init__(self, *, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def begin(self, tx: Transaction, project_id: str) -> None:
        """Start billing a project, unless it is being billed."""
        if await intervals.open_of(tx, project_id) is None:
            await intervals.open_interval(
                tx,
                interval_id=str(uuid.uuid4()),
                project_id=project_id,
                at_ms=self._clock.now_ms(),
            )

    async def end(self, tx: Transaction, project_id: str) -> None:
        """Charge what is due and stop billing a project."""
        interval = await intervals.open_of(tx, project_id)
        if interval is None:
            return
        now_ms = max(self._clock.now_ms(), interval.charged_until_ms)
        await self._charge(tx, interval, until_ms=now_ms)
        await intervals.close(tx, interval.id, at_ms=now_ms)

    async def tick(self) -> list[str]:
        """Charge every interval that ran another full hour; suspends projects out of credits.

        Gives the ids of the projects it suspended.
        """
        now_ms = self._clock.now_ms()
        suspended = []
        for due in await intervals.due(self._db, charged_before_ms=now_ms - HOUR_MS):
            async with self._db.transaction(durable=True) as tx:
                # Read again: it may have ended while this waited for its turn to write.
                interval = await intervals.open_of(tx, due.project_id)
                if interval is not None and await self._charge_hours(tx, interval, now_ms):
                    suspended.append(interval.project_id)
        return suspended

    async def _charge_hours(self, tx: Transaction, interval: RunInterval, now_ms: int) -> bool:
        """Charge the full hours up to now; suspends when that takes the last of the credits."""
        hours = (now_ms - interval.started_at_ms) // HOUR_MS
        until_ms = interval.started_at_ms + hours * HOUR_MS
        if until_ms <= interval.charged_until_ms:
            return False
        await self._charge(tx, interval, until_ms=until_ms)
        if await accounts.balance(tx, interval.wallet) > 0:
            return False
        await self._suspend(tx, interval, now_ms)
        return True

    async def suspend_unpaid(self, tx: Transaction, wallet: str) -> None:
        """Suspend what a wallet runs without credits, as its payment was taken back."""
        if await accounts.balance(tx, wallet) > 0:
            return
        for interval in await intervals.open_of_wallet(tx, wallet):
            await self._suspend(tx, interval, self._clock.now_ms())

    async def _suspend(self, tx: Transaction, interval: RunInterval, now_ms: int) -> None:
        await intervals.close(tx, interval.id, at_ms=now_ms)
        await projects.set_status(tx, interval.project_id, ProjectStatus.SUSPENDED)
        await outbox.record(
            tx,
            wallet=interval.wallet,
            kind=EventKind.PROJECT_SUSPENDED,
            data={"project_id": interval.project_id},
            now_ms=now_ms,
        )

    async def _charge(self, tx: Transaction, interval: RunInterval, *, until_ms: int) -> None:
        total = charge_up_to(
            until_ms - interval.started_at_ms, monthly_price=interval.monthly_price_micro_usd
        )
        owed = MicroUsd(max(0, total - interval.charged_micro_usd))
        taken = await ledger.burn(
            tx,
            wallet=interval.wallet,
            amount=owed,
            posting_id=f"burn:{interval.id}:{until_ms}",
            now_ms=self._clock.now_ms(),
        )
        if not await intervals.charge(tx, interval, until_ms=until_ms, amount=taken):
            raise RuntimeError(f"interval {interval.id} was charged elsewhere meanwhile")

"""Build time: each dollar that a wallet paid gives free minutes; after those, builds burn credits.

They burn at the price of a running app of a build's size, whether they succeed or not. Those of a
project that a payment alone opened go by what was paid into its purse, until it is adopted.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable

import msgspec

from moorage.clock import Clock
from moorage.errors import DatabaseUnavailable, DeployFailed, FailureCause
from moorage.ledger import ledger
from moorage.ledger.delegated import left_for_build
from moorage.ledger.running_costs import charge_up_to, month_of
from moorage.money import MICRO_USD_PER_USD, NOTHING, MicroUsd
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import accounts, billing, payments
from moorage.storage.money.billing import BuildRun

BOOK_SECONDS = 10.0
"""How often a running build is booked. At most so much goes unbilled when the gateway crashes."""

_MINUTE_MS = 60_000
_LIMIT_REACHED = (
    "The delegate that asked for this has used up what it may commit in this month, so the build "
    "was ended. The wallet itself may deploy it, or sign a delegation with a higher limitUsdMonth."
)


class Allowance(msgspec.Struct, frozen=True):
    """How long a wallet may build for free, and what more costs."""

    allowed_ms: int
    used_ms: int
    monthly_price: MicroUsd  # of a build that runs all the time

    @property
    def left_ms(self) -> int:
        """The free time that is left."""
        return max(0, self.allowed_ms - self.used_ms)

    @property
    def minute(self) -> MicroUsd:
        """What a minute beyond the free time costs, rounded up."""
        return charge_up_to(_MINUTE_MS, monthly_price=self.monthly_price)


class BuildTime:
    """Books how long builds take. `monthly_price` is that of a build that runs all the time."""

    def __init__(
        self,
        *,
        db: Database,
        minutes_per_usd: int,
        monthly_price: MicroUsd,
        clock: Clock,
        book_seconds: float = BOOK_SECONDS,
    ) -> None:
        self._db = db
        self._minutes_per_usd = minutes_per_usd
        self._monthly_price = monthly_price
        self._clock = clock
        self._book_seconds = book_seconds

    async def allowance(
        self, source: Source, holder: str, *, to_come: MicroUsd = NOTHING
    ) -> Allowance:
        """Returns what a holder's payments allow, counting one that is still `to_come`."""
        paid = await payments.sum_credited_to(source, holder) + to_come
        return Allowance(
            allowed_ms=paid * self._minutes_per_usd * _MINUTE_MS // MICRO_USD_PER_USD,
            used_ms=await billing.free_ms(source, holder),
            monthly_price=self._monthly_price,
        )

    async def left_ms(self, *, wallet: str, project_id: str) -> int:
        """Returns the free time that is left for a project's builds, as booked so far."""
        holder = await ledger.allowance_holder(self._db, project_id, wallet=wallet)
        return (await self.allowance(self._db, holder)).left_ms

    async def spend(
        self,
        build: Callable[[], Awaitable[None]],
        *,
        wallet: str,
        project_id: str,
        deployment_id: str,
    ) -> None:
        """Runs the build and books its time, also when it fails or is cancelled.

        Raises DeployFailed when there are no credits, before the build or during it.
        """
        run = BuildRun(
            id=str(uuid.uuid4()),
            wallet=wallet,
            project_id=project_id,
            deployment_id=deployment_id,
            monthly_price_micro_usd=self._monthly_price,
            started_at_ms=self._clock.now_ms(),
        )
        async with self._db.transaction(durable=False) as tx:
            await self._require_credits(tx, run)
            await billing.add_build(tx, run)
        began_seconds = self._clock.monotonic_seconds()
        building = asyncio.ensure_future(build())
        try:
            while not (await asyncio.wait([building], timeout=self._book_seconds))[0]:
                with contextlib.suppress(DatabaseUnavailable):  # booked with what follows
                    await self._book(run, began_seconds)
                    await self._require_credits(self._db, run)
            await building
        finally:
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)
            await asyncio.shield(self._book(run, began_seconds))

    async def _book(self, begun: BuildRun, began_seconds: float) -> None:
        """Stores how long the build has run, and charges what exceeds the free time.

        It goes by the row, as it may not be known whether the last booking was committed.
        """
        ran_ms = round((self._clock.monotonic_seconds() - began_seconds) * 1000)
        async with self._db.transaction(durable=True) as tx:
            run = await billing.build(tx, begun.id) or begun
            holder = await ledger.allowance_holder(tx, run.project_id, wallet=run.wallet)
            left_ms = (await self.allowance(tx, holder)).left_ms
            billed_ms = run.billed_ms + max(0, ran_ms - run.ran_ms - left_ms)
            owed = charge_up_to(billed_ms, monthly_price=run.monthly_price_micro_usd)
            due = await self._within_limit(tx, run, MicroUsd(owed - run.charged_micro_usd))
            burn = ledger.Burn(
                run.project_id, run.wallet, due, f"build:{run.id}:{ran_ms}", run.started_at_ms
            )
            (burned,) = await ledger.burn(tx, [burn], now_ms=self._clock.now_ms(), kind="build")
            booked = msgspec.structs.replace(
                run,
                ran_ms=ran_ms,
                billed_ms=billed_ms,
                charged_micro_usd=MicroUsd(run.charged_micro_usd + burned.taken),
            )
            await billing.book_build(tx, booked)

    async def _within_limit(self, tx: Transaction, run: BuildRun, due: MicroUsd) -> MicroUsd:
        """Returns how much of what is due may be taken, by the limit of who asked for the build."""
        now_ms = self._clock.now_ms()
        if due <= 0 or await left_for_build(tx, run, now_ms=now_ms) is None:
            return due
        await accounts.lock(tx, run.wallet)  # what its delegates commit is counted by one at a time
        left = await left_for_build(tx, run, now_ms=now_ms)
        return due if left is None else min(due, left)

    async def _require_credits(self, source: Source, run: BuildRun) -> None:
        await _require_credits(source, run)
        left = await left_for_build(source, run, now_ms=self._clock.now_ms())
        if left is not None and left <= 0:
            holder = await ledger.allowance_holder(source, run.project_id, wallet=run.wallet)
            if not (await self.allowance(source, holder)).left_ms:
                raise DeployFailed(FailureCause.AT_LIMIT, _LIMIT_REACHED)


async def _require_credits(source: Source, run: BuildRun) -> None:
    """Raises DeployFailed if the project can burn nothing, or no more in this month."""
    purse = await accounts.purse(source, run.project_id)
    if purse is not None and purse.limit is not None:
        month = month_of(run.started_at_ms)
        if await ledger.spent_in(source, run.project_id, month) >= purse.limit:
            raise DeployFailed(
                FailureCause.AT_LIMIT,
                "The project has burned what its limit lets it in this month, so it was not built. "
                "Raise it (PUT /agent/projects/{projectId}/purse), then deploy again.",
            )
    if (await ledger.reach(source, run.project_id, wallet=run.wallet)).total <= 0:
        raise DeployFailed(
            FailureCause.OUT_OF_CREDITS,
            "Your credits ran out before this was built, so the build was ended. Top up your "
            "credits (POST /agent/credits), then deploy again.",
        )

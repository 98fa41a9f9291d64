"""Build time: each dollar that a wallet paid gives free minutes; after those, builds burn credits.

They burn the price of a running app of a build's size, whether they succeed or not. For a project
that a payment alone opened, what was paid into its purse counts, until it is adopted.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable

import msgspec

from moorage.clock import Clock
from moorage.errors import DatabaseUnavailable
from moorage.ledger import ledger
from moorage.ledger.running_costs import charge_up_to
from moorage.ledger.work_time import BOOK_SECONDS, book, require_credits
from moorage.money import MICRO_USD_PER_USD, NOTHING, MicroUsd
from moorage.storage.apps import deployments
from moorage.storage.database import Database, Source
from moorage.storage.money import billing, payments
from moorage.storage.money.billing import Work

_MINUTE_MS = 60_000


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
        return await self._left_ms(self._db, wallet=wallet, project_id=project_id)

    async def _left_ms(self, source: Source, *, wallet: str, project_id: str) -> int:
        holder = await ledger.allowance_holder(source, project_id, wallet=wallet)
        return (await self.allowance(source, holder)).left_ms

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
        deployment = await deployments.by_id(self._db, deployment_id)
        begun = Work(
            id=str(uuid.uuid4()),
            wallet=wallet,
            project_id=project_id,
            deployment_id=deployment_id,
            monthly_price_micro_usd=self._monthly_price,
            started_at_ms=self._clock.now_ms(),
            acted_by="" if deployment is None else deployment.acted_by,
        )
        async with self._db.transaction(durable=False) as tx:
            await self._require_credits(tx, begun)
            await billing.add_work(tx, begun)
        began_seconds = self._clock.monotonic_seconds()
        building = asyncio.ensure_future(build())
        try:
            while not (await asyncio.wait([building], timeout=self._book_seconds))[0]:
                with contextlib.suppress(DatabaseUnavailable):  # booked with what follows
                    await self._book(begun, began_seconds)
                    await self._require_credits(self._db, begun)
            await building
        finally:
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)
            await asyncio.shield(self._book(begun, began_seconds))

    async def _book(self, begun: Work, began_seconds: float) -> None:
        ran_ms = round((self._clock.monotonic_seconds() - began_seconds) * 1000)
        async with self._db.transaction(durable=True) as tx:
            free_ms = await self._free_ms(tx, begun)
            await book(tx, begun, ran_ms=ran_ms, free_ms=free_ms, now_ms=self._clock.now_ms())

    async def _free_ms(self, source: Source, begun: Work) -> int:
        return await self._left_ms(source, wallet=begun.wallet, project_id=begun.project_id)

    async def _require_credits(self, source: Source, begun: Work) -> None:
        is_free = bool(await self._free_ms(source, begun))
        await require_credits(source, begun, now_ms=self._clock.now_ms(), is_free=is_free)

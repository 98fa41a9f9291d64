"""The services of the room, and its loops."""

from collections import OrderedDict
from functools import cached_property

import msgspec

from moorage.clock import Clock, boot_id
from moorage.core import Core
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering
from moorage.ledger.running_costs import HOUR_MS, WARNINGS_HOURS, runs_out_at
from moorage.loop import Loop, Scope
from moorage.money import MicroUsd
from moorage.storage.database import Database
from moorage.storage.money import accounts, billing, payments

_REMEMBERED_SECONDS = 300.0
_REMEMBERED_WALLETS = 10_000
_WARNED_SECONDS = 60.0


class PaidWallets:
    """Knows which wallets have paid.

    A wallet has paid when its credited payments, without reversed ones, are at least
    `minimum_charge` in all: with less, many keys would be cheap.
    """

    def __init__(self, *, db: Database, minimum_charge: MicroUsd, clock: Clock) -> None:
        self._db = db
        self._minimum_charge = minimum_charge
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()  # wallet → monotonic seconds

    async def has_paid(self, wallet: str) -> bool:
        """Returns whether `wallet` has paid. A yes is cached for five minutes, a no is not."""
        now_seconds = self._clock.monotonic_seconds()
        if self._paid_until.get(wallet, 0.0) > now_seconds:
            return True
        self._paid_until.pop(wallet, None)
        if await payments.sum_credited(self._db, payer=wallet) < self._minimum_charge:
            return False
        self._paid_until[wallet] = now_seconds + _REMEMBERED_SECONDS
        if len(self._paid_until) > _REMEMBERED_WALLETS:
            self._paid_until.popitem(last=False)
        return True


class CreditWarnings:
    """Knows how long the credits of a wallet last, if it was warned that they run out."""

    def __init__(self, *, db: Database, metering: Metering, clock: Clock) -> None:
        self._db = db
        self._metering = metering
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, int | None]] = OrderedDict()

    async def hours_left(self, wallet: str) -> int | None:
        """Returns the full hours that are left, as of a minute ago at most; None: no warning."""
        now_seconds = self._clock.monotonic_seconds()
        until_seconds, hours = self._known.pop(wallet, (0.0, None))
        if until_seconds <= now_seconds:
            until_seconds, hours = now_seconds + _WARNED_SECONDS, await self._hours_left(wallet)
        self._known[wallet] = until_seconds, hours
        if len(self._known) > _REMEMBERED_WALLETS:
            self._known.popitem(last=False)
        return hours

    async def _hours_left(self, wallet: str) -> int | None:
        balance, warned = await accounts.balance_and_warning(self._db, wallet)
        if warned is None:
            return None
        now_ms = self._metering.time.now_ms()
        burning = await billing.open_of_wallet(self._db, wallet)
        runs_out_ms = runs_out_at(balance, burning, now_ms=now_ms)
        hours = None if runs_out_ms is None else (runs_out_ms - now_ms) // HOUR_MS
        return hours if hours is not None and hours <= max(WARNINGS_HOURS) else None


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that this room reads, and two prices computed from them."""

    build_minutes_per_usd: int
    build_month: MicroUsd  # of a build that runs all the time
    minimum_charge: MicroUsd
    compensates: bool = True


_METERING_SECONDS = 300.0
"""Metering that has booked nothing for as long stands still: that costs the operator money."""


class LedgerServices:
    """What charges wallets; each service is made on its first use."""

    def __init__(self, core: Core, settings: LedgerSettings) -> None:
        self._core = core
        self._settings = settings

    @cached_property
    def metering(self) -> Metering:
        return Metering(
            db=self._core.db,
            clock=self._core.clock,
            boot_id=boot_id(),
            gateway=self._core.leader,
            compensates=self._settings.compensates,
        )

    @cached_property
    def build_time(self) -> BuildTime:
        return BuildTime(
            db=self._core.db,
            minutes_per_usd=self._settings.build_minutes_per_usd,
            monthly_price=self._settings.build_month,
            clock=self._core.clock,
        )

    @cached_property
    def paid_wallets(self) -> PaidWallets:
        return PaidWallets(
            db=self._core.db,
            minimum_charge=self._settings.minimum_charge,
            clock=self._core.clock,
        )

    @cached_property
    def credit_warnings(self) -> CreditWarnings:
        return CreditWarnings(db=self._core.db, metering=self.metering, clock=self._core.clock)

    @property
    def loops(self) -> tuple[Loop, ...]:
        tick = self.metering.tick
        return (
            Loop(
                "metering",
                every_seconds=60,
                tick=tick,
                scope=Scope.CLUSTER,
                patience_seconds=_METERING_SECONDS,
            ),
        )

"""Which wallets have paid. A key costs nothing, so what a stranger may take is bounded apart."""

from collections import OrderedDict

from moorage.clock import Clock
from moorage.money import MicroUsd
from moorage.storage.database import Database
from moorage.storage.money import payments

_REMEMBERED_SECONDS = 300.0
_REMEMBERED_WALLETS = 10_000


class PaidWallets:
    """Tells wallets that paid at least once from those that never did.

    A wallet has paid when the payments that were credited to it, and not taken back since, come to
    `minimum_charge` in all: less would make keys cheap again.
    """

    def __init__(self, *, db: Database, minimum_charge: MicroUsd, clock: Clock) -> None:
        self._db = db
        self._minimum_charge = minimum_charge
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()  # wallet → monotonic seconds

    async def has_paid(self, wallet: str) -> bool:
        """Whether `wallet` has paid. A yes is remembered for five minutes, a no is not."""
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

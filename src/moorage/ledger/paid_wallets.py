"""Which wallets have paid. Keys cost nothing, so those that never paid have limits of their own."""

from collections import OrderedDict

from moorage.clock import Clock
from moorage.money import MicroUsd
from moorage.storage.database import Database
from moorage.storage.money import payments

_REMEMBERED_SECONDS = 300.0
_REMEMBERED_WALLETS = 10_000


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

"""Billed time: Unix milliseconds that go on exactly as the machine runs.

Setting the wall clock moves it neither way. It goes on while the gateway is down and apps are not;
it stands still while the machine is down, and they are.
"""

from moorage.clock import Clock
from moorage.storage.database import Database, Transaction
from moorage.storage.money import meters
from moorage.storage.money.meters import Reading


class BilledTime:
    """Reads wall time once, at the very first start, and counts on from there.

    Of each gateway, by its id, as each machine stands still for itself.
    """

    def __init__(self, *, clock: Clock, boot_id: str, gateway: str) -> None:
        self._clock = clock
        self._gateway = gateway
        self._boot_id = boot_id
        self._ahead_ms = clock.now_ms() - self._monotonic_ms()

    def now_ms(self) -> int:
        """Billed time now; never less than before."""
        return self._monotonic_ms() + self._ahead_ms

    def wall_ms(self, billed_ms: int) -> int:
        """When it will be, or was, that billed time, if the machine goes on running."""
        return self._clock.now_ms() + billed_ms - self.now_ms()

    async def resume(self, db: Database) -> int:
        """Go on from the last reading; gives the milliseconds that have gone by since, unread."""
        reading = await meters.last(db, self._gateway)
        if reading is None:
            return 0
        monotonic_ms = self._monotonic_ms()
        unread_ms = 0
        if reading.boot_id == self._boot_id:
            unread_ms = max(0, monotonic_ms - reading.monotonic_ms)
        self._ahead_ms = reading.billed_ms + unread_ms - monotonic_ms
        return unread_ms

    async def note(self, tx: Transaction) -> None:
        """Keep how far it has come, for the next start."""
        await meters.note(
            tx,
            self._gateway,
            Reading(
                billed_ms=self.now_ms(), monotonic_ms=self._monotonic_ms(), boot_id=self._boot_id
            ),
        )

    def _monotonic_ms(self) -> int:
        return round(self._clock.monotonic_seconds() * 1000)

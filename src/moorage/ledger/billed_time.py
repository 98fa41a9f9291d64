"""Billed time: milliseconds since 1970 that pass only while the machine runs.

Setting the wall clock does not change it. It goes on while the gateway alone is down, as apps run
then; it stops while the machine is down.
"""

from moorage.clock import Clock
from moorage.storage.database import Database, Transaction
from moorage.storage.money import billing
from moorage.storage.money.billing import Reading


class BilledTime:
    """Starts from wall time at the very first start, then adds monotonic time.

    Each gateway stores its own, by its id, as each machine stops separately.
    """

    def __init__(self, *, clock: Clock, boot_id: str, gateway: str) -> None:
        self._clock = clock
        self._gateway = gateway
        self._boot_id = boot_id
        self._ahead_ms = clock.now_ms() - self._monotonic_ms()
        self._stopped_at_ms = 0  # how far it had come when the machine was last down

    def now_ms(self) -> int:
        """Returns the billed time now; it never decreases."""
        return self._monotonic_ms() + self._ahead_ms

    def wall_ms(self, billed_ms: int) -> int:
        """Returns the wall time at a billed time, if the machine runs without a stop."""
        return self._clock.now_ms() + billed_ms - self.now_ms()

    def at_wall(self, wall_ms: int) -> int:
        """Returns the billed time at a wall time in the past; of one at which the machine was down,
        the billed time at which it stopped.
        """
        return max(self._stopped_at_ms, self.now_ms() - (self._clock.now_ms() - wall_ms))

    async def resume(self, db: Database) -> int:
        """Goes on from the last stored reading; returns the milliseconds that passed since it."""
        reading = await billing.last_reading(db, self._gateway)
        if reading is None:
            return 0
        monotonic_ms = self._monotonic_ms()
        unread_ms = 0
        if reading.boot_id == self._boot_id:
            unread_ms = max(0, monotonic_ms - reading.monotonic_ms)
        else:
            self._stopped_at_ms = reading.billed_ms
        self._ahead_ms = reading.billed_ms + unread_ms - monotonic_ms
        return unread_ms

    async def note(self, tx: Transaction) -> None:
        """Stores the reading, for the next start."""
        await billing.note_reading(
            tx,
            self._gateway,
            Reading(
                billed_ms=self.now_ms(), monotonic_ms=self._monotonic_ms(), boot_id=self._boot_id
            ),
        )

    def _monotonic_ms(self) -> int:
        return round(self._clock.monotonic_seconds() * 1000)

"""Rate limits for keys (a wallet, a deployment, a client address), by an exact sliding window."""

from array import array
from typing import Protocol

from moorage.clock import Clock
from moorage.errors import RateLimited
from moorage.storage.several.shared_tables import SharedTables


class RateLimiter(Protocol):
    """Counts the requests of each key. Several gateways can share the counts."""

    limit: int
    """How many of a key pass in a window; may be changed at any time."""

    async def check(self, key: str) -> None:
        """Counts one request of `key`.

        Raises RateLimited, without counting, if too many have passed; its `retry_after_seconds` is
        the smallest whole number of seconds after which one passes.
        """
        ...


class MemoryRateLimiter:
    """At most `limit` requests of a key in any `window_seconds`, kept in memory.

    The window slides over the times of the requests. A bucket that refills would let a burst of 30
    and then another 30 pass within one minute. Refused requests do not count. Keys that have been
    quiet for a window are forgotten. Beyond `capacity` keys the ones quiet longest are forgotten
    early: a client with that many keys gains nothing by it, and new keys are never refused.
    """

    def __init__(
        self, *, clock: Clock, limit: int = 30, window_seconds: int = 60, capacity: int = 100_000
    ) -> None:
        self._clock = clock
        self.limit = limit
        self._window_us = window_seconds * 1_000_000
        # Two generations of key → times of its passed requests, oldest first. The older generation
        # is dropped as a whole, so that quiet keys need not be searched for.
        self._generation_size = max(1, capacity // 2)
        self._young: dict[str, array[int]] = {}
        self._old: dict[str, array[int]] = {}
        self._turn_us = self._now_us()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._young) + len(self._old)

    async def check(self, key: str) -> None:
        """Counts one request of `key`, like `RateLimiter.check`."""
        now_us = self._now_us()
        if now_us - self._turn_us >= self._window_us or len(self._young) >= self._generation_size:
            self._turn(now_us)
        times = self._young.get(key)
        if times is None:
            times = self._young[key] = self._old.pop(key) if key in self._old else array("q")
        if len(times) >= self.limit:
            wait_us = times[0] + self._window_us - now_us
            if wait_us > 0:
                raise RateLimited(-(-wait_us // 1_000_000))
            times.pop(0)
        times.append(now_us)

    def _turn(self, now_us: int) -> None:
        idle = now_us - self._turn_us >= 2 * self._window_us
        self._old = {} if idle else self._young
        self._young = {}
        self._turn_us = now_us

    def _now_us(self) -> int:
        # Whole microseconds: with sums of floats a client could pass slightly too early.
        return round(self._clock.monotonic_seconds() * 1_000_000)


class SharedRateLimiter(RateLimiter):
    """At most `limit` requests of a key in any window, whichever gateway they come to."""

    def __init__(
        self, tables: SharedTables, *, name: str, limit: int, window_seconds: int = 60
    ) -> None:
        """`name` sets its keys apart from those of other limiters."""
        self._tables = tables
        self._name = name
        self.limit = limit
        self._window_us = window_seconds * 1_000_000

    async def check(self, key: str) -> None:
        """Counts one request of `key`, like `RateLimiter.check`. Raises DatabaseUnavailable."""
        wait_us = await self._tables.count(
            f"{self._name}:{key}", limit=self.limit, window_us=self._window_us
        )
        if wait_us > 0:
            raise RateLimited(-(-wait_us // 1_000_000))

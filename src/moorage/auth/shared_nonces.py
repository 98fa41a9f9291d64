"""Nonces that several gateways share: each can be used once, whichever of them is asked.

As in `NonceFile`, a nonce is remembered or its timestamp refused. A server, the *holder*, has
nonces and floor, and may lose both at once. The mark, on the disk, is then the next one's floor.
"""

from typing import Protocol

from moorage.auth.nonces import AHEAD_MS, WINDOW_MS, check_timestamp, nonce_digest
from moorage.auth.rate_limit import RateLimiter
from moorage.auth.wallet import Wallet
from moorage.clock import Clock
from moorage.errors import AuthUnavailable, DatabaseUnavailable, NonceReused, RateLimited
from moorage.storage.shared.holder import TABLES, Mark

FORGET_SECONDS = 10
_KEPT_MS = 2 * WINDOW_MS
"""How long a nonce is remembered: clocks of gateways may differ by as much as is left."""

_NEVER_MS = -1
_HOLDERS = 5  # that lose all nonces one after the other while one request waits


class UsedNonces(Protocol):
    """Used nonces on a server; each method raises DatabaseUnavailable."""

    async def mark(self, timestamp_ms: int) -> Mark:
        """Raises the mark, on the disk; returns it, with who holds the nonces now."""
        ...

    async def use(self, holder: str, digest: str, timestamp_ms: int) -> tuple[bool, int] | None:
        """Records a nonce; returns whether it is new, and the floor.

        Returns None if the holder lost all nonces, or can't be asked: then call `replace`.
        """
        ...

    async def replace(self, lost: str) -> Mark:
        """Has another hold the nonces in place of `lost`, and refuse all up to the mark."""
        ...

    async def forget(self, until_ms: int) -> None:
        """Forgets the nonces up to a timestamp, and raises the floor to the newest of them."""
        ...

    async def remember_body(self, digest: str, body: str) -> None:
        """Remembers the body of a used nonce's request."""
        ...

    async def was_of_body(self, digest: str, body: str) -> bool:
        """Whether that body is remembered."""
        ...


class SharedNonces:
    """A `NonceStore` over a server that several gateways use."""

    def __init__(self, used: UsedNonces, *, clock: Clock) -> None:
        self._used = used
        self._clock = clock
        self._floor_ms = _NEVER_MS
        self._mark = Mark(_NEVER_MS, TABLES)

    def check_timestamp(self, timestamp_ms: int) -> None:
        """Raises TimestampExpired unless `consume` would accept it, as far as is known here."""
        check_timestamp(timestamp_ms, now_ms=self._clock.now_ms(), floor_ms=self._floor_ms)

    async def consume(self, wallet: Wallet, timestamp_ms: int, nonce: str) -> None:
        """Uses `nonce` like `NonceStore.consume`."""
        self.check_timestamp(timestamp_ms)
        try:
            is_new, floor_ms = await self._use(nonce_digest(wallet, nonce).hex(), timestamp_ms)
        except DatabaseUnavailable as error:
            raise AuthUnavailable from error
        self._floor_ms = floor_ms
        if not is_new:
            self.check_timestamp(timestamp_ms)
            raise NonceReused(header="X-Nonce")

    async def remember_body(
        self, wallet: Wallet, timestamp_ms: int, nonce: str, body_digest: str
    ) -> None:
        """Remembers the body of a nonce like `NonceStore.remember_body`, as long as the nonce."""
        del timestamp_ms  # it is the nonce's
        try:
            await self._used.remember_body(nonce_digest(wallet, nonce).hex(), body_digest)
        except DatabaseUnavailable as error:
            raise AuthUnavailable from error

    async def was_of_body(self, wallet: Wallet, nonce: str, body_digest: str) -> bool:
        """Whether that body is remembered with the nonce, like `NonceStore.was_of_body`."""
        try:
            return await self._used.was_of_body(nonce_digest(wallet, nonce).hex(), body_digest)
        except DatabaseUnavailable as error:
            raise AuthUnavailable from error

    async def forget(self) -> None:
        """Forgets the nonces that are long out of the window. Raises DatabaseUnavailable."""
        await self._used.forget(self._clock.now_ms() - _KEPT_MS)

    async def _use(self, digest: str, timestamp_ms: int) -> tuple[bool, int]:
        """Records a nonce, under a mark above it; returns whether it is new, and the floor."""
        for _ in range(_HOLDERS):
            if timestamp_ms + AHEAD_MS // 2 > self._mark.timestamp_ms:
                ahead_ms = max(timestamp_ms, self._clock.now_ms()) + AHEAD_MS
                self._mark = await self._used.mark(ahead_ms)
            holder = self._mark.holder
            used = await self._used.use(holder, digest, timestamp_ms)
            if used is not None:
                return used
            self._mark = await self._used.replace(holder)
        raise AuthUnavailable


class Counts(Protocol):
    """Counts of requests on a server."""

    async def count(self, key: str, *, limit: int, window_us: int) -> int:
        """Counts a request unless `limit` passed in the window; returns microseconds to wait."""
        ...

    async def forget_counts(self) -> None:
        """Forgets the keys that were quiet for their window."""
        ...


class SharedRateLimiter(RateLimiter):
    """At most `limit` requests of a key in any window, whichever gateway they come to."""

    def __init__(self, counts: Counts, *, name: str, limit: int, window_seconds: int = 60) -> None:
        """`name` sets its keys apart from those of other limiters."""
        self._counts = counts
        self._name = name
        self.limit = limit
        self._window_us = window_seconds * 1_000_000

    async def check(self, key: str) -> None:
        """Counts one request of `key`, like `RateLimiter.check`. Raises DatabaseUnavailable."""
        wait_us = await self._counts.count(
            f"{self._name}:{key}", limit=self.limit, window_us=self._window_us
        )
        if wait_us > 0:
            raise RateLimited(-(-wait_us // 1_000_000))

"""Places for bodies that are on their way in, and how long a slow one may keep its place.

When all are taken, the slowest of whoever has most gives its place to the newcomer. Wallets that
paid and strangers never take each other's.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import msgspec

from moorage.uploads.room import Uploader


class Pace:
    """How far one body may fall behind the least rate: `grace_seconds` at most, at any time.

    Only time counts in which the server waited. Bytes win no more than the grace back, so that
    whoever sent much at first has no time in store.
    """

    def __init__(self, *, bytes_per_second: int, grace_seconds: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._grace_seconds = grace_seconds
        self.seconds_left = grace_seconds

    def waited(self, seconds: float) -> None:
        """The server waited for bytes."""
        self.seconds_left -= seconds

    def received(self, count: int) -> None:
        """So many bytes came."""
        earned = count / self._bytes_per_second
        self.seconds_left = min(self._grace_seconds, self.seconds_left + earned)


class PlaceLimits(msgspec.Struct, frozen=True):
    """Bodies that may be on their way in at the same time."""

    strangers: int = 128
    """Of wallets that never paid, and of requests without one."""

    paid: int = 256
    """Of wallets that paid."""

    one_uploader: int = 32
    """Of one such wallet, or of one address of strangers."""


class Body(Protocol):
    """A body on its way in, as far as it matters here."""

    @property
    def uploader(self) -> Uploader:
        """Whose it is."""
        ...

    @property
    def seconds_left(self) -> float:
        """How much longer it may keep the server waiting: the slower it was, the less."""
        ...

    @property
    def received_bytes(self) -> int:
        """How much of it came."""
        ...

    def displace(self) -> None:
        """Ends it."""
        ...


B = TypeVar("B", bound=Body)


class Places(Generic[B]):
    """Who has which place."""

    def __init__(self, limits: PlaceLimits) -> None:
        self._limits = limits
        self._taken: dict[bool, set[B]] = {True: set(), False: set()}  # by whether it paid

    def enter(self, body: B) -> None:
        """Gives it a place; where none is left, the slowest of whoever has most loses his."""
        has_paid = body.uploader.has_paid
        taken = self._taken[has_paid]
        own = [each for each in taken if each.uploader == body.uploader]
        if len(own) >= self._limits.one_uploader:
            self._displace(own)
        elif len(taken) >= (self._limits.paid if has_paid else self._limits.strangers):
            counts = Counter(each.uploader for each in taken)
            most = max(counts.values())
            self._displace(each for each in taken if counts[each.uploader] == most)
        taken.add(body)

    def leave(self, body: B) -> None:
        """Frees its place, if it still has one."""
        self._taken[body.uploader.has_paid].discard(body)

    def _displace(self, candidates: Iterable[B]) -> None:
        slowest = min(candidates, key=lambda each: (each.seconds_left, each.received_bytes))
        self.leave(slowest)
        slowest.displace()

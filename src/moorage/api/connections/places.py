"""Places for bodies that arrive, and how long a slow one may keep its place.

When all are taken, the uploader with the most places loses its slowest body to the newcomer.
Wallets that paid and strangers have separate places.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import msgspec

from moorage.uploads.room import Uploader


class Pace:
    """How far a body is behind the minimum rate: it may be `grace_seconds` behind at any time.

    Only the time that the server waited counts. Bytes never earn more than the grace, so a fast
    start saves up no time.
    """

    def __init__(self, *, bytes_per_second: int, grace_seconds: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._grace_seconds = grace_seconds
        self.seconds_left = grace_seconds

    def waited(self, seconds: float) -> None:
        """Counts seconds in which the server waited for bytes."""
        self.seconds_left -= seconds

    def received(self, count: int) -> None:
        """Counts bytes that arrived."""
        earned = count / self._bytes_per_second
        self.seconds_left = min(self._grace_seconds, self.seconds_left + earned)


class PlaceLimits(msgspec.Struct, frozen=True):
    """How many bodies may arrive at the same time."""

    strangers: int = 128
    """Of wallets that never paid, and of requests without one."""

    paid: int = 256
    """Of wallets that paid."""

    one_uploader: int = 32
    """Of one wallet that paid, or of one address of strangers."""


class Body(Protocol):
    """A body that arrives, as the places see it."""

    @property
    def uploader(self) -> Uploader:
        """Who sends it."""
        ...

    @property
    def seconds_left(self) -> float:
        """How much longer it may keep the server waiting; the slower it was, the less."""
        ...

    @property
    def received_bytes(self) -> int:
        """How many bytes arrived."""
        ...

    def displace(self) -> None:
        """Ends it."""
        ...


B = TypeVar("B", bound=Body)


class Places(Generic[B]):
    """The bodies that have a place."""

    def __init__(self, limits: PlaceLimits) -> None:
        self._limits = limits
        self._taken: dict[bool, set[B]] = {True: set(), False: set()}  # by whether it paid

    def enter(self, body: B) -> None:
        """Gives it a place; if none is left, displaces the slowest body of who has the most."""
        has_paid = body.uploader.has_paid
        taken = self._taken[has_paid]
        own = [each for each in taken if each.uploader == body.uploader]
        if len(own) >= self._limits.one_uploader:
            self._displace(own)
        elif len(taken) >= (self._limits.paid if has_paid else self._limits.strangers):
            counts = Counter(each.uploader for each in taken)
            max_count = max(counts.values())
            self._displace(each for each in taken if counts[each.uploader] == max_count)
        taken.add(body)

    def leave(self, body: B) -> None:
        """Frees its place, if it still has one."""
        self._taken[body.uploader.has_paid].discard(body)

    def _displace(self, candidates: Iterable[B]) -> None:
        slowest = min(candidates, key=lambda each: (each.seconds_left, each.received_bytes))
        self.leave(slowest)
        slowest.displace()

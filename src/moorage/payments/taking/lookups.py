"""Limits how often and how long chains are asked for transactions that strangers name.

A stranger is a wallet that never paid. New keys and made-up hashes cost nothing, so the lookups of
strangers are limited by client address; those of wallets that have paid are not limited.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from moorage.auth.rate_limit import RateLimiter
from moorage.clock import Clock
from moorage.errors import PaymentPending, RateLimited

WAIT_AT_ONCE = 64
WAIT_AT_ONCE_PER_ADDRESS = 8
"""Lookups of strangers that may wait for a transaction to appear, in all and of one address."""

MISSED_SECONDS = 60.0
MISSED_KEPT = 10_000

_LATER = (
    "Too many transactions are looked for right now. If you have paid, do not pay again: "
    "it is found without you, or when you send the same request again."
)


class Lookup:
    """One lookup of a transaction: whether it waits for it, and whom each question counts for."""

    def __init__(self, *, waits: bool = True, looks: RateLimiter | None = None, key: str = ""):
        self.waits = waits
        self._looks = looks
        self._key = key

    def at_once(self) -> "Lookup":
        """The same lookup, without waiting."""
        return Lookup(waits=False, looks=self._looks, key=self._key)

    async def count(self) -> None:
        """Counts one question to a node. Raises PaymentPending over the limit: it may be paid."""
        if self._looks is not None:
            try:
                await self._looks.check(self._key)
            except RateLimited as full:
                raise PaymentPending(_LATER, retry_after_seconds=full.retry_after_seconds) from full


class Lookups:
    """Limits the lookups of strangers; `looks` counts their questions by client address."""

    def __init__(self, *, looks: RateLimiter, clock: Clock) -> None:
        self._looks = looks
        self._clock = clock
        self._waiting: Counter[str] = Counter()
        self._missed: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def count(self, stranger_at: str) -> None:
        """Counts a question about a payment that has not moved money yet. Raises RateLimited."""
        await self._looks.check(stranger_at)

    @contextmanager
    def of(self, stranger_at: str | None, tx_hash: str) -> Iterator[Lookup]:
        """The lookup of `tx_hash` for a stranger at this address; None for a wallet that has paid.

        A stranger's lookup waits for a transaction only once: if that was missed within the last
        minute, each request asks once, without waiting. Nor does it wait when too many others do.
        """
        if stranger_at is None:
            yield Lookup()
            return
        waits = not self._is_missed(stranger_at, tx_hash) and self._has_room(stranger_at)
        self._waiting[stranger_at] += waits
        try:
            yield Lookup(waits=waits, looks=self._looks, key=stranger_at)
        except PaymentPending:
            self._note_missed(stranger_at, tx_hash)
            raise
        finally:
            self._waiting[stranger_at] -= waits
            if not self._waiting[stranger_at]:
                del self._waiting[stranger_at]

    def _has_room(self, stranger_at: str) -> bool:
        return (
            self._waiting[stranger_at] < WAIT_AT_ONCE_PER_ADDRESS
            and self._waiting.total() < WAIT_AT_ONCE
        )

    def _is_missed(self, stranger_at: str, tx_hash: str) -> bool:
        missed = self._missed.get((stranger_at, tx_hash))
        return missed is not None and self._clock.monotonic_seconds() - missed < MISSED_SECONDS

    def _note_missed(self, stranger_at: str, tx_hash: str) -> None:
        self._missed[stranger_at, tx_hash] = self._clock.monotonic_seconds()
        self._missed.move_to_end((stranger_at, tx_hash))
        while len(self._missed) > MISSED_KEPT:
            self._missed.popitem(last=False)

"""The nonces that could still be replayed, in memory."""

from collections.abc import Iterable
from heapq import heappop, heappush

from moorage.auth.nonce_journal import NEVER_MS


class NonceMemory:
    """Digests of nonces, each until its timestamp lies below the window; then the floor covers it.

    Inserting and expiring cost a constant time for each nonce, and about 140 bytes.
    """

    def __init__(self, *, floor_ms: int = NEVER_MS, used: Iterable[tuple[int, bytes]] = ()) -> None:
        self.floor_ms = floor_ms
        self._digests: set[bytes] = set()
        self._by_second: dict[int, list[bytes]] = {}
        self._seconds: list[int] = []  # the keys of `_by_second`, as a heap
        # A nonce that its wallet signed again after it had expired counts from its last use.
        for digest, timestamp_ms in {digest: time_ms for time_ms, digest in sorted(used)}.items():
            self.insert(timestamp_ms, digest)

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    @property
    def next_expiry_ms(self) -> int | None:
        """The timestamp up to which everything has to be below the window for nonces to expire."""
        return self._seconds[0] * 1000 + 999 if self._seconds else None

    def insert(self, timestamp_ms: int, digest: bytes) -> None:
        """Remember a nonce that is not remembered yet."""
        second = timestamp_ms // 1000
        bucket = self._by_second.get(second)
        if bucket is None:
            bucket = self._by_second[second] = []
            heappush(self._seconds, second)
        bucket.append(digest)
        self._digests.add(digest)

    def expire(self, window_start_ms: int) -> None:
        """Forget nonces of timestamps before the window, raising the floor over each."""
        while self._seconds and self._seconds[0] * 1000 + 999 < window_start_ms:
            second = heappop(self._seconds)
            self._digests.difference_update(self._by_second.pop(second))
            self.floor_ms = max(self.floor_ms, second * 1000 + 999)

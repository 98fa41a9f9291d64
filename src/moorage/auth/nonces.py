"""Nonces, each used once: remembered in memory, and over any restart by a journal.

No replay passes, because every nonce ever consumed is remembered or its timestamp lies at or under
the floor, and the floor only rises. The clock decides merely which timestamps are inside the window
and when a nonce may be forgotten, so it may step either way.
"""

import asyncio
import fcntl
import os
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

from moorage.auth.nonce_journal import DIGEST_BYTES, NonceJournal, Sync, force_to_disk
from moorage.auth.nonce_memory import NonceMemory
from moorage.auth.wallet import Wallet
from moorage.clock import Clock
from moorage.errors import (
    AlreadyRunning,
    AuthUnavailable,
    NonceReused,
    RateLimited,
    TimestampExpired,
)

_T = TypeVar("_T")

WINDOW_MS = 60_000
CAPACITY = 500_000  # at 140 bytes; 8,000 requests a second for the minute that each is remembered

_MARK_AHEAD_MS = 5_000
"""How far ahead of now a timestamp may lie without waiting for the disk.

Also how long clients wait at most after the machine (not only the process) went down.
"""


class NonceStore:
    """The nonces consumed within the window, for the one process that holds `directory`.

    Consuming appends a record to the journal, which is safe from the end of the process. From the
    end of the machine it becomes safe a moment later: the disk is synced when the mark runs out,
    every few seconds under load and never when idle, and a timestamp beyond the mark waits for it.
    """

    def __init__(
        self,
        *,
        journal: NonceJournal,
        memory: NonceMemory,
        clock: Clock,
        opened_ms: int,
        window_ms: int,
        capacity: int,
        lock_fd: int,
        executor: Executor,
    ) -> None:
        self._journal = journal
        self._memory = memory
        self._clock = clock
        self._window_ms = window_ms
        self._capacity = capacity
        self._lock_fd = lock_fd
        self._executor = executor
        self._segment_since_ms = opened_ms
        self._mark_ms = self._highest_mark_ms = opened_ms + _MARK_AHEAD_MS
        self._flush: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._is_broken = False  # the disk refused a record: nothing passes until it takes one
        self._is_trusted = True  # it never did, so what the journal reads is what was appended
        self._is_closed = False

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        clock: Clock,
        window_ms: int = WINDOW_MS,
        capacity: int = CAPACITY,
        boot_id: str | None = None,
        sync: Sync = force_to_disk,
        executor: Executor | None = None,
    ) -> "NonceStore":
        """The store kept in `directory`, which is made where missing.

        `floor_ms` of what it returns says whom it refuses: after the end of the process nobody,
        after the end of the machine timestamps up to about five seconds past it, and where the
        journal is missing or a copy, those up to `window_ms` from now. Raises AlreadyRunning when
        another process has it open, OSError when the disk fails.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = _lock(directory / "lock")
        try:
            now_ms = clock.now_ms()
            journal = NonceJournal(directory, boot_id=boot_id or machine_boot_id(), sync=sync)
            floor_ms, used = journal.recover(lost_floor_ms=now_ms + window_ms)
            if journal.is_new and os.fstat(lock_fd).st_size:
                floor_ms = now_ms + window_ms
            journal.switch(journal.begin(floor_ms=floor_ms, mark_ms=now_ms + _MARK_AHEAD_MS))
            journal.drop(floor_ms=floor_ms)
            os.pwrite(lock_fd, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(
            journal=journal,
            memory=NonceMemory(floor_ms=floor_ms, used=used),
            clock=clock,
            opened_ms=now_ms,
            window_ms=window_ms,
            capacity=capacity,
            lock_fd=lock_fd,
            executor=executor or ThreadPoolExecutor(1, thread_name_prefix="nonces"),
        )

    def __len__(self) -> int:
        """How many nonces are remembered."""
        return len(self._memory)

    @property
    def floor_ms(self) -> int:
        """Timestamps up to this one are refused, inside the window or not."""
        return self._memory.floor_ms

    def check_timestamp(self, timestamp_ms: int) -> None:
        """Raises TimestampExpired unless `consume` would take `timestamp_ms` now."""
        self._check_timestamp(timestamp_ms, self._clock.now_ms())

    async def consume(self, wallet: Wallet, timestamp_ms: int, nonce: str) -> None:
        """Use up `nonce` (a lower-case UUID) of `wallet`, for good when this returns.

        Atomic among all tasks: nothing is awaited between the check and the insertion. Raises
        TimestampExpired, NonceReused, RateLimited when `capacity` nonces are remembered, and
        AuthUnavailable when the disk refuses the record.
        """
        now_ms = self._clock.now_ms()
        self._check_timestamp(timestamp_ms, now_ms)
        digest = blake2b(f"{wallet}:{nonce}".encode(), digest_size=DIGEST_BYTES).digest()
        memory = self._memory
        memory.expire(now_ms - self._window_ms)
        if digest in memory:
            raise NonceReused
        if len(memory) >= self._capacity:
            raise RateLimited(self._seconds_until_room(now_ms))
        self._append(timestamp_ms, digest)
        memory.insert(timestamp_ms, digest)
        if timestamp_ms > self._mark_ms:
            await self._synced()
        elif now_ms > self._mark_ms - _MARK_AHEAD_MS // 2:
            self._start_flush()

    async def close(self) -> None:
        """Force what was consumed to disk and let another process open the directory.

        Raises OSError when the disk fails; the directory is free then too.
        """
        if self._flush is not None:
            await asyncio.wait([self._flush])
        self._is_closed = True
        self._executor.shutdown()
        try:
            if not self._is_broken:
                self._journal.sync()
        finally:
            self._journal.close()
            os.close(self._lock_fd)

    def _check_timestamp(self, timestamp_ms: int, now_ms: int) -> None:
        if abs(timestamp_ms - now_ms) > self._window_ms:
            raise TimestampExpired
        if timestamp_ms <= self._memory.floor_ms:
            seconds = max(1, -(-(self._memory.floor_ms + 1 - now_ms) // 1000))
            raise TimestampExpired(
                "The gateway restarted and can't tell whether this request was made before. "
                f"Sign again with a fresh timestamp in {seconds} s."
            )

    def _seconds_until_room(self, now_ms: int) -> int:
        expiry_ms = self._memory.next_expiry_ms
        until_ms = 0 if expiry_ms is None else expiry_ms + 1 + self._window_ms - now_ms
        return max(1, -(-until_ms // 1000))

    def _append(self, timestamp_ms: int, digest: bytes) -> None:
        if self._is_broken:
            self._start_flush()
            raise AuthUnavailable
        try:
            self._journal.append(timestamp_ms, digest)
        except OSError as error:
            self._is_broken, self._is_trusted = True, False
            raise AuthUnavailable from error

    async def _synced(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._start_flush()
        await waiter

    def _start_flush(self) -> None:
        if (self._flush is None or self._flush.done()) and not self._is_closed:
            self._flush = asyncio.create_task(self._run_flush(), name="nonces-flush")

    async def _run_flush(self) -> None:
        """Sync until nobody waits; one sync serves all who were waiting when it began."""
        while True:
            waiting, self._waiting = self._waiting, []
            failure: OSError | None = None
            try:
                await self._sync()
            except OSError as error:
                self._is_broken, self._is_trusted, failure = True, False, error
            for waiter in waiting:
                if waiter.cancelled():
                    continue
                if failure is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(AuthUnavailable())
            if not self._waiting:
                return

    async def _sync(self) -> None:
        now_ms = self._clock.now_ms()
        mark_ms = now_ms + _MARK_AHEAD_MS
        if not self._is_trusted:
            mark_ms = max(mark_ms, self._highest_mark_ms)
        if self._is_broken or not 0 <= now_ms - self._segment_since_ms < self._window_ms:
            await self._begin_segment(now_ms)
        if mark_ms < self._mark_ms:  # the clock stepped back
            self._mark_ms = mark_ms
            await self._in_thread(self._journal.sync)
        self._journal.promise(mark_ms)
        await self._in_thread(self._journal.sync)
        self._mark_ms = mark_ms
        self._highest_mark_ms = max(self._highest_mark_ms, mark_ms)

    async def _begin_segment(self, now_ms: int) -> None:
        was_broken, floor_ms = self._is_broken, self._memory.floor_ms
        mark_ms = self._mark_ms if self._is_trusted else self._highest_mark_ms
        begin = partial(self._journal.begin, floor_ms=floor_ms, mark_ms=mark_ms)
        fd = await self._in_thread(partial(begin, trusted=self._is_trusted))
        self._journal.switch(fd)
        if was_broken:
            self._journal.forget_retired()
            self._is_broken = False
        self._segment_since_ms = now_ms
        await self._in_thread(partial(self._journal.drop, floor_ms=floor_ms))

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def machine_boot_id() -> str:
    """A name for the time since this machine booted; one of its own where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(uuid.uuid4())


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyRunning from None
    return fd

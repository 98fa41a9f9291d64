"""Nonces: each can be used once, also after a restart.

A store either remembers a nonce or refuses its timestamp: it refuses all timestamps up to a
*floor*, which only rises. So the clock, which decides what is in the window and when a nonce is
forgotten, may jump forwards or backwards.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import msgspec

from moorage.auth.wallet import Wallet
from moorage.clock import Clock, boot_id
from moorage.errors import (
    AlreadyRunning,
    AuthUnavailable,
    DatabaseUnavailable,
    NonceReused,
    RateLimited,
    TimestampExpired,
)
from moorage.storage.several.shared_tables import SharedTables
from moorage.threads import in_thread

WINDOW_MS = 60_000
CAPACITY = 500_000  # 5,500 requests a second: each nonce is remembered for 60 to 90 seconds

AHEAD_MS = 5_000
"""How far the mark is ahead of the clock when it is written.

After the machine (not only the process) fails, clients with a correct clock wait this long.
"""

LOCK = "lock"  # the file with the mark, locked by the process that has it open
_SHARED = b"shared"  # in place of the mark, while nonces are kept elsewhere
_FORGET_EVERY_MS = 50
_LOOKED_AT_ONCE = 1_024  # takes a millisecond; a full store takes half a minute
_NEVER_MS = -1  # before any timestamp

FORGET_SECONDS = 10
_SHARED_KEPT_MS = 2 * WINDOW_MS
"""How long several gateways remember a nonce: their clocks may differ by what is left."""

_MAX_LOSSES = 5  # crashes of the database server while one request waits

_SETTINGS = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
"""
_SCHEMA = """
BEGIN;
CREATE TABLE nonces (digest BLOB PRIMARY KEY, timestamp_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE floor (timestamp_ms INTEGER NOT NULL);
INSERT INTO floor VALUES ({floor_ms:d});
COMMIT;
"""
_BODIES = """
CREATE TABLE IF NOT EXISTS bodies (
    digest BLOB PRIMARY KEY, timestamp_ms INTEGER NOT NULL, body TEXT NOT NULL
) WITHOUT ROWID;
DROP INDEX IF EXISTS bodies_by_time;
"""
_INSERT = "INSERT INTO nonces VALUES (?, ?) ON CONFLICT DO NOTHING"
_INSERT_BODY = "INSERT INTO bodies VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_OF_BODY = "SELECT 1 FROM bodies WHERE digest = ? AND body = ?"
_NEXT = """
SELECT max(digest), max(timestamp_ms) FILTER (WHERE timestamp_ms < ?), count(*)
FROM (SELECT digest, timestamp_ms FROM nonces WHERE digest > ? ORDER BY digest LIMIT ?)
"""
_DELETE_EXPIRED = "DELETE FROM nonces WHERE digest > ? AND digest <= ? AND timestamp_ms < ?"
_DELETE_BODIES = "DELETE FROM bodies WHERE digest > ? AND digest <= ? AND timestamp_ms < ?"


class NonceStore(Protocol):
    """Records used nonces: `NonceFile` for one gateway, `SharedNonces` for several."""

    def check_timestamp(self, timestamp_ms: int) -> None:
        """Raises TimestampExpired unless `consume` would accept `timestamp_ms` now."""
        ...

    async def consume(self, wallet: Wallet, timestamp_ms: int, nonce: str) -> None:
        """Uses `nonce` (a lower-case UUID) of `wallet`: of several calls with it, one returns.

        Raises TimestampExpired, NonceReused, RateLimited if there are too many nonces to remember,
        and AuthUnavailable if they can't be recorded.
        """
        ...

    async def remember_body(
        self, wallet: Wallet, timestamp_ms: int, nonce: str, body_digest: str
    ) -> None:
        """Remembers, with a used nonce, the body of its request (SHA-256 in hex).

        Raises AuthUnavailable.
        """
        ...

    async def was_of_body(self, wallet: Wallet, nonce: str, body_digest: str) -> bool:
        """Whether that body is remembered with the nonce. Raises AuthUnavailable."""
        ...


class _Mark(msgspec.Struct):
    """A record forced to disk: no used nonce has a timestamp above `timestamp_ms`."""

    boot_id: str
    inode: int  # of the database
    timestamp_ms: int


class NonceFile:
    """A store in `directory`, which one process at a time can open.

    A nonce is a row of an SQLite database that is never forced to disk: it survives the end of the
    process, but not a restart of the machine. Only the mark is forced to disk, every few seconds
    under load and never when idle. After a restart of the machine the database is deleted, and the
    mark becomes the floor.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        capacity: int = CAPACITY,
        boot: str | None = None,
        sync: Callable[[int], None] = os.fdatasync,
        run: Callable[[Callable[[], None]], Awaitable[None]] = in_thread,
    ) -> None:
        """Opens the store; creates `directory` if missing. `boot` identifies the machine's boot.

        `sync` forces a descriptor's file to disk; `run` runs a function that waits for the disk.

        If the database is missing or a copy (a restored backup), nonces may be missing from it:
        then every timestamp that may have been signed until now is refused. Raises AlreadyRunning
        if another process has it open; OSError and sqlite3.Error if the disk fails.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clock = clock
        self._capacity = capacity
        self._boot = boot or boot_id()
        self._sync = sync
        self._run = run
        self._marking: asyncio.Task[bool] | None = None
        self._forgot_ms = _NEVER_MS
        self._looked_at = b""  # the last digest that `_forget` has looked at
        self._lock_fd = _lock(directory / LOCK)
        try:
            self._open(directory / "nonces.db")
        except BaseException:
            os.close(self._lock_fd)
            raise

    def _open(self, path: Path) -> None:
        now_ms = self._clock.now_ms()
        content = os.pread(self._lock_fd, 1024, 0)
        mark = _read_mark(content)
        inode = path.stat().st_ino if path.exists() else 0
        is_kept = mark is not None and (mark.boot_id, mark.inode) == (self._boot, inode)
        lost_ms = mark.timestamp_ms if mark else _NEVER_MS
        if content and (mark is None or mark.inode != inode):
            lost_ms = max(lost_ms, now_ms + WINDOW_MS)
        if not is_kept:
            for suffix in ("", "-wal", "-journal"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(
            _SETTINGS if is_kept else _SETTINGS + _SCHEMA.format(floor_ms=lost_ms)
        )
        self._db.executescript(_BODIES)
        self._floor_ms: int = self._db.execute("SELECT timestamp_ms FROM floor").fetchone()[0]
        self._count: int = self._db.execute("SELECT count(*) FROM nonces").fetchone()[0]
        self._inode = path.stat().st_ino
        self._mark_ms = max(lost_ms, now_ms + AHEAD_MS)
        self._write_mark(self._mark_ms)

    def __len__(self) -> int:
        """How many nonces are remembered."""
        return self._count

    def check_timestamp(self, timestamp_ms: int) -> None:
        """Raises TimestampExpired unless `consume` would accept `timestamp_ms` now."""
        check_timestamp(timestamp_ms, now_ms=self._clock.now_ms(), floor_ms=self._floor_ms)

    async def consume(self, wallet: Wallet, timestamp_ms: int, nonce: str) -> None:
        """Uses `nonce` like `NonceStore.consume`; a timestamp above the mark waits for the mark."""
        self.check_timestamp(timestamp_ms)
        await self._keep_marked(timestamp_ms)
        digest = nonce_digest(wallet, nonce)
        try:
            self._forget(self._clock.now_ms())
            self.check_timestamp(timestamp_ms)
            if self._count >= self._capacity:
                raise RateLimited(WINDOW_MS // 1000)
            inserted = self._db.execute(_INSERT, (digest, timestamp_ms)).rowcount
        except sqlite3.Error as error:
            raise AuthUnavailable from error
        if not inserted:
            raise NonceReused(header="X-Nonce")
        self._count += inserted

    async def remember_body(
        self, wallet: Wallet, timestamp_ms: int, nonce: str, body_digest: str
    ) -> None:
        """Remembers the body of a nonce like `NonceStore.remember_body`, as long as the nonce."""
        try:
            self._db.execute(_INSERT_BODY, (nonce_digest(wallet, nonce), timestamp_ms, body_digest))
        except sqlite3.Error as error:
            raise AuthUnavailable from error

    async def was_of_body(self, wallet: Wallet, nonce: str, body_digest: str) -> bool:
        """Whether that body is remembered with the nonce, like `NonceStore.was_of_body`."""
        try:
            found = self._db.execute(
                _OF_BODY, (nonce_digest(wallet, nonce), body_digest)
            ).fetchone()
        except sqlite3.Error as error:
            raise AuthUnavailable from error
        return found is not None

    async def close(self) -> None:
        """Closes the store, so that another process can open it; does nothing the second time."""
        if self._marking is not None:
            await asyncio.wait([self._marking])
        self._db.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._lock_fd = -1

    def _forget(self, now_ms: int) -> None:
        """Deletes some nonces out of the window and their bodies, after raising the floor above.

        Looks at the next part of the table, in the order of its key. An index by timestamp would
        find them at once, but double what each insert writes.
        """
        is_due = abs(now_ms - self._forgot_ms) >= _FORGET_EVERY_MS
        if not is_due and self._count < self._capacity:
            return
        after, oldest_ms = self._looked_at, now_ms - WINDOW_MS
        looked = self._db.execute(_NEXT, (oldest_ms, after, _LOOKED_AT_ONCE)).fetchone()
        last, expired_ms, count = looked
        if expired_ms is not None:
            floor_ms = max(self._floor_ms, expired_ms)
            self._db.execute("UPDATE floor SET timestamp_ms = ?", (floor_ms,))
            self._floor_ms = floor_ms
            self._db.execute(_DELETE_BODIES, (after, last, oldest_ms))
            self._count -= self._db.execute(_DELETE_EXPIRED, (after, last, oldest_ms)).rowcount
        self._looked_at = last if count == _LOOKED_AT_ONCE else b""
        self._forgot_ms = now_ms

    async def _keep_marked(self, timestamp_ms: int) -> None:
        """Raises the mark before timestamps reach it; waits while `timestamp_ms` is above it."""
        while timestamp_ms + AHEAD_MS // 2 > self._mark_ms:
            if self._marking is None or self._marking.done():
                mark_ms = max(timestamp_ms, self._clock.now_ms()) + AHEAD_MS
                self._marking = asyncio.create_task(self._mark(mark_ms), name="nonces-mark")
            if timestamp_ms <= self._mark_ms:
                return
            if not await asyncio.shield(self._marking):
                raise AuthUnavailable

    async def _mark(self, mark_ms: int) -> bool:
        try:
            await self._run(partial(self._write_mark, mark_ms))
        except OSError:
            return False
        self._mark_ms = max(self._mark_ms, mark_ms)
        return True

    def _write_mark(self, mark_ms: int) -> None:
        content = msgspec.json.encode(_Mark(self._boot, self._inode, mark_ms))
        os.pwrite(self._lock_fd, content.ljust(256), 0)
        self._sync(self._lock_fd)


class SharedNonces:
    """A `NonceStore` that several gateways share in PostgreSQL's tables.

    The tables lose the nonces and the floor together in a crash of the server; then the mark
    becomes the floor.
    """

    def __init__(self, tables: SharedTables, *, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._floor_ms = _NEVER_MS
        self._mark_ms = _NEVER_MS

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
            await self._tables.remember_body(nonce_digest(wallet, nonce).hex(), body_digest)
        except DatabaseUnavailable as error:
            raise AuthUnavailable from error

    async def was_of_body(self, wallet: Wallet, nonce: str, body_digest: str) -> bool:
        """Whether that body is remembered with the nonce, like `NonceStore.was_of_body`."""
        try:
            return await self._tables.was_of_body(nonce_digest(wallet, nonce).hex(), body_digest)
        except DatabaseUnavailable as error:
            raise AuthUnavailable from error

    async def forget(self) -> None:
        """Forgets the nonces that are long out of the window. Raises DatabaseUnavailable."""
        await self._tables.forget(self._clock.now_ms() - _SHARED_KEPT_MS)

    async def _use(self, digest: str, timestamp_ms: int) -> tuple[bool, int]:
        """Records a nonce, under a mark above it; returns whether it is new, and the floor."""
        for _ in range(_MAX_LOSSES):
            if timestamp_ms + AHEAD_MS // 2 > self._mark_ms:
                ahead_ms = max(timestamp_ms, self._clock.now_ms()) + AHEAD_MS
                self._mark_ms = await self._tables.raise_mark(ahead_ms)
            used = await self._tables.use(digest, timestamp_ms)
            if used is not None:
                return used
            await self._tables.restore_floor()
        raise AuthUnavailable


def check_timestamp(timestamp_ms: int, *, now_ms: int, floor_ms: int) -> None:
    """Raises TimestampExpired for a timestamp out of the window, or not above the floor."""
    if abs(timestamp_ms - now_ms) > WINDOW_MS:
        raise TimestampExpired(
            f"{TimestampExpired.__doc__} That clock says {now_ms}.", header="X-Timestamp"
        )
    if timestamp_ms <= floor_ms:
        seconds = max(1, -(-(floor_ms + 1 - now_ms) // 1000))
        raise TimestampExpired(
            "The gateway restarted and can't tell whether this request was made before. "
            f"Sign again with a fresh timestamp in {seconds} s.",
            header="X-Timestamp",
        )


def nonce_digest(wallet: Wallet, nonce: str) -> bytes:
    """Returns the key under which a wallet's nonce is remembered."""
    return blake2b(f"{wallet}:{nonce}".encode(), digest_size=16).digest()


def give_up_mark(directory: Path) -> None:
    """Has the next `NonceFile` in `directory` refuse what other stores may have let pass."""
    (directory / LOCK).write_bytes(_SHARED.ljust(256))


def marked_ms(directory: Path, *, now_ms: int) -> int:
    """Returns the mark of the `NonceFile` in `directory`, below which nonces may have been used.

    Returns -1 if there is none, or a shared store followed it; where a backup was restored, what
    may have been signed until now.
    """
    try:
        content = (directory / LOCK).read_bytes().rstrip(b"\0 ")
    except FileNotFoundError:
        return _NEVER_MS
    mark = _read_mark(content)
    if mark is not None:
        return mark.timestamp_ms
    return _NEVER_MS if content in (b"", _SHARED) else now_ms + WINDOW_MS


def _read_mark(content: bytes) -> _Mark | None:
    try:
        return msgspec.json.decode(content, type=_Mark)
    except msgspec.DecodeError:
        return None


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyRunning from None
    return fd

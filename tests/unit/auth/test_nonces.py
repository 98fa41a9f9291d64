import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from moorage.auth.nonces import NonceStore
from moorage.auth.wallet import Wallet
from moorage.errors import (
    AlreadyRunning,
    AuthUnavailable,
    NonceReused,
    RateLimited,
    TimestampExpired,
)

A, B = Wallet("0x" + "a" * 40), Wallet("0x" + "b" * 40)
START_MS = 1_775_556_000_000


class MovableClock:
    def __init__(self) -> None:
        self.ms = START_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic_seconds(self) -> float:
        raise AssertionError("timestamps are wall time")


class ImmediateExecutor(Executor):
    """Runs what it is given at once: the tests decide what happens when."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except OSError as error:
            future.set_exception(error)
        return future


class Gateway:
    """Starts and ends stores on one directory, as the processes of a gateway would."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = MovableClock()
        self.boot_id = "boot 1"
        self.syncs = 0
        self.sync_error: OSError | None = None
        self.store: NonceStore

    def start(self, **options: Any) -> NonceStore:
        self.store = NonceStore.open(
            self.directory,
            clock=self.clock,
            boot_id=self.boot_id,
            sync=self._sync,
            executor=ImmediateExecutor(),
            **options,
        )
        return self.store

    def crash(self) -> None:
        """What the end of a process does to the store: descriptors close, nothing is written."""
        self.store._journal.close()
        os.close(self.store._lock_fd)

    def restart(self, **options: Any) -> NonceStore:
        self.crash()
        return self.start(**options)

    def reboot(self) -> NonceStore:
        self.boot_id += "'"
        return self.restart()

    async def use(self, number: int, *, offset_ms: int = 0, wallet: Wallet = A) -> None:
        await self.store.consume(wallet, self.clock.ms + offset_ms, uuid_text(number))

    def segments(self) -> list[Path]:
        return sorted(self.directory.glob("*.log"))

    def _sync(self, fd: int) -> None:
        self.syncs += 1
        if self.sync_error is not None:
            raise self.sync_error


def uuid_text(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    gateway = Gateway(tmp_path / "nonces")
    gateway.start()
    return gateway


async def test_nonce_passes_once(gateway: Gateway) -> None:
    await gateway.use(1)
    with pytest.raises(NonceReused):
        await gateway.use(1)


async def test_nonce_signed_again_with_another_timestamp_is_reused(gateway: Gateway) -> None:
    await gateway.use(1)
    with pytest.raises(NonceReused):
        await gateway.use(1, offset_ms=1)


async def test_wallets_do_not_share_nonces(gateway: Gateway) -> None:
    await gateway.use(1, wallet=A)
    await gateway.use(1, wallet=B)


@pytest.mark.parametrize("offset_ms", [-60_000, -1, 0, 1, 5_001, 60_000])
async def test_timestamp_within_sixty_seconds_either_side_passes(
    gateway: Gateway, offset_ms: int
) -> None:
    gateway.store.check_timestamp(gateway.clock.ms + offset_ms)
    await gateway.use(1, offset_ms=offset_ms)


@pytest.mark.parametrize("offset_ms", [-60_001, 60_001, -START_MS, 10**14])
async def test_timestamp_further_away_is_expired(gateway: Gateway, offset_ms: int) -> None:
    with pytest.raises(TimestampExpired):
        gateway.store.check_timestamp(gateway.clock.ms + offset_ms)
    with pytest.raises(TimestampExpired):
        await gateway.use(1, offset_ms=offset_ms)


@pytest.mark.parametrize("offset_ms", [0, -60_000, 4_000, 60_000])
async def test_one_of_concurrent_requests_passes(gateway: Gateway, offset_ms: int) -> None:
    results = await asyncio.gather(
        *(gateway.use(1, offset_ms=offset_ms) for _ in range(40)), return_exceptions=True
    )
    assert [type(result) for result in results if result is not None] == [NonceReused] * 39


async def test_expired_nonces_free_their_memory(gateway: Gateway) -> None:
    for number in range(100):
        await gateway.use(number, offset_ms=number * 10)
    gateway.clock.ms += 62_000
    await gateway.use(1000)
    assert len(gateway.store) == 1


async def test_full_memory_refuses_and_forgets_nothing(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.start(capacity=3)
    for number in range(3):
        await gateway.use(number)
    gateway.clock.ms += 10_000
    with pytest.raises(RateLimited) as refused:
        await gateway.use(3)
    for number in range(3):
        with pytest.raises(NonceReused):
            await gateway.use(number)

    gateway.clock.ms += refused.value.retry_after_seconds * 1000
    await gateway.use(3)


@pytest.mark.parametrize("offset_ms", [0, -50_000, 3_000, 59_000])
async def test_restarted_process_refuses_what_was_used_and_nothing_else(
    gateway: Gateway, offset_ms: int
) -> None:
    await gateway.use(1, offset_ms=offset_ms)
    gateway.restart()

    with pytest.raises(NonceReused):
        await gateway.use(1, offset_ms=offset_ms)
    await gateway.use(2, offset_ms=offset_ms)


async def test_nonce_stays_used_over_many_restarts(gateway: Gateway) -> None:
    await gateway.use(1, offset_ms=60_000)
    for _ in range(5):
        gateway.restart()
        await gateway.use(100 + _)
    with pytest.raises(NonceReused):
        await gateway.use(1, offset_ms=60_000)


async def test_nonce_signed_again_after_expiry_stays_used_over_a_restart(gateway: Gateway) -> None:
    await gateway.use(1)
    gateway.clock.ms += 70_000
    await gateway.use(1)
    gateway.restart()
    gateway.clock.ms += 30_000
    await gateway.use(2)
    with pytest.raises(NonceReused):
        await gateway.use(1, offset_ms=-30_000)


async def test_clean_stop_and_start_refuses_nobody_new(gateway: Gateway) -> None:
    await gateway.use(1)
    await gateway.store.close()
    gateway.start()
    with pytest.raises(NonceReused):
        await gateway.use(1)
    await gateway.use(2)


async def test_rebooted_machine_refuses_for_five_seconds_at_most(gateway: Gateway) -> None:
    await gateway.use(1)
    gateway.reboot()
    with pytest.raises(TimestampExpired, match=r"Sign again with a fresh timestamp in \d+ s"):
        await gateway.use(2)
    gateway.clock.ms += 5_001
    await gateway.use(2)


async def test_machine_that_took_longer_to_boot_refuses_nobody_fresh(gateway: Gateway) -> None:
    await gateway.use(1)
    gateway.clock.ms += 20_000
    gateway.reboot()
    await gateway.use(2)


async def test_rebooted_machine_remembers_what_the_disk_kept_above_the_floor(
    gateway: Gateway,
) -> None:
    await gateway.use(1, offset_ms=50_000)
    gateway.clock.ms += 20_000
    gateway.reboot()
    with pytest.raises(NonceReused):
        await gateway.use(1, offset_ms=30_000)


async def test_missing_journal_is_not_taken_for_a_first_start(gateway: Gateway) -> None:
    await gateway.use(1, offset_ms=60_000)
    for segment in gateway.segments():
        segment.unlink()
    gateway.restart()
    with pytest.raises(TimestampExpired):
        await gateway.use(1, offset_ms=60_000)
    gateway.clock.ms += 60_001
    await gateway.use(2)


async def test_restored_copy_of_the_journal_is_not_trusted(gateway: Gateway) -> None:
    backup = {path: path.read_bytes() for path in gateway.segments()}
    await gateway.use(1, offset_ms=60_000)
    for path, content in backup.items():
        path.rename(path.with_suffix(".old"))  # keeps the inode taken
        path.write_bytes(content)
    gateway.restart()
    with pytest.raises(TimestampExpired):
        await gateway.use(1, offset_ms=60_000)


async def test_clock_set_back_over_a_restart_lets_no_expired_nonce_through(
    gateway: Gateway,
) -> None:
    await gateway.use(1)
    for number in range(2, 6):  # long enough for its segment to be deleted
        gateway.clock.ms += 61_000
        await gateway.use(number)
    assert len(gateway.segments()) < 5
    gateway.restart()
    gateway.clock.ms = START_MS
    with pytest.raises(TimestampExpired):
        await gateway.use(1)


async def test_clock_wrong_for_a_while_locks_nobody_out(gateway: Gateway) -> None:
    await gateway.use(1)
    gateway.clock.ms += 86_400_000
    await gateway.use(2, offset_ms=30_000)
    gateway.clock.ms -= 86_400_000 - 1_000
    await gateway.use(3)
    with pytest.raises(TimestampExpired):
        await gateway.use(1, offset_ms=-1_000)
    gateway.restart()
    await gateway.use(4)


async def test_journal_stays_small(gateway: Gateway) -> None:
    for number in range(300):
        gateway.clock.ms += 10_000
        await gateway.use(number)
    assert len(gateway.segments()) <= 5
    assert sum(path.stat().st_size for path in gateway.segments()) < 5_000


async def test_idle_store_never_touches_the_disk_and_a_busy_one_seldom(gateway: Gateway) -> None:
    before = gateway.syncs
    for number in range(1000):
        gateway.clock.ms += 10
        await gateway.use(number)
    assert 1 <= gateway.syncs - before <= 5  # ten seconds


async def test_timestamp_beyond_the_mark_passes_only_once_on_disk(gateway: Gateway) -> None:
    gateway.sync_error = OSError(errno.EIO, "failed")
    with pytest.raises(AuthUnavailable):
        await gateway.use(1, offset_ms=30_000)


async def test_failing_disk_refuses_until_it_works_again(gateway: Gateway) -> None:
    await gateway.use(1)
    gateway.sync_error = OSError(errno.EIO, "failed")
    with pytest.raises(AuthUnavailable):
        await gateway.use(2, offset_ms=30_000)
    for number in range(3, 6):
        with pytest.raises(AuthUnavailable):
            await gateway.use(number)

    gateway.sync_error = None
    with pytest.raises(AuthUnavailable):
        await gateway.use(6)  # starts the repair
    await settled(gateway.store)
    await gateway.use(7)
    with pytest.raises(NonceReused):
        await gateway.use(1)


async def test_restart_after_a_failed_sync_is_taken_for_a_reboot(gateway: Gateway) -> None:
    """The system may have dropped the pages that it could not write."""
    await test_failing_disk_refuses_until_it_works_again(gateway)
    gateway.restart()
    with pytest.raises(TimestampExpired):
        await gateway.use(8)


async def test_full_disk_refuses_and_passes_again_once_there_is_room(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:7]))
    for number in (1, 2):
        with pytest.raises(AuthUnavailable):
            await gateway.use(number)
    await settled(gateway.store)
    monkeypatch.setattr(os, "write", real_write)
    with pytest.raises(AuthUnavailable):
        await gateway.use(3)
    await settled(gateway.store)

    await gateway.use(4)
    gateway.restart()
    gateway.clock.ms += 6_000
    with pytest.raises(NonceReused):
        await gateway.use(4)


async def test_second_process_is_refused(gateway: Gateway) -> None:
    with pytest.raises(AlreadyRunning):
        Gateway(gateway.directory).start()
    await gateway.store.close()
    Gateway(gateway.directory).start()


async def test_closed_store_passes_nothing(gateway: Gateway) -> None:
    await gateway.store.close()
    for number in (1, 2):
        with pytest.raises(AuthUnavailable):
            await gateway.use(number)


async def settled(store: NonceStore) -> None:
    if store._flush is not None:
        await asyncio.wait([store._flush])

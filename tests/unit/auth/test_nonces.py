import asyncio
import errno
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nonce_machine import START_MS, NonceMachine

from moorage.auth.nonces import WINDOW_MS, give_up_mark, marked_ms
from moorage.auth.wallet import Wallet
from moorage.errors import (
    AlreadyRunning,
    AuthUnavailable,
    NonceReused,
    RateLimited,
    TimestampExpired,
)

A, B = Wallet("0x" + "a" * 40), Wallet("0x" + "b" * 40)


class Gateway(NonceMachine):
    async def restart(self) -> None:
        await self.crash()
        self.start()

    async def reboot(self) -> None:
        await self.cut_power()
        self.start()

    async def use(self, number: int, *, offset_ms: int = 0, wallet: Wallet = A) -> None:
        nonce = f"00000000-0000-4000-8000-{number:012x}"
        await self.store.consume(wallet, self.clock_ms + offset_ms, nonce)

    def size(self) -> int:
        return sum(path.stat().st_size for path in self.directory.iterdir())


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    gateway = Gateway(tmp_path / "nonces")
    gateway.start()
    yield gateway
    await gateway.stop()


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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
    gateway.store.check_timestamp(gateway.clock_ms + offset_ms)
    await gateway.use(1, offset_ms=offset_ms)


@pytest.mark.parametrize("offset_ms", [-60_001, 60_001, -START_MS, 10**14])
async def test_timestamp_further_away_is_expired(gateway: Gateway, offset_ms: int) -> None:
    with pytest.raises(TimestampExpired):
        gateway.store.check_timestamp(gateway.clock_ms + offset_ms)
    with pytest.raises(TimestampExpired):
        await gateway.use(1, offset_ms=offset_ms)


@pytest.mark.parametrize("offset_ms", [0, -60_000, 4_000, 60_000])
async def test_one_of_concurrent_requests_passes(gateway: Gateway, offset_ms: int) -> None:
    results = await asyncio.gather(
        *(gateway.use(1, offset_ms=offset_ms) for _ in range(40)), return_exceptions=True
    )
    assert [type(result) for result in results if result is not None] == [NonceReused] * 39


async def test_expired_nonces_are_forgotten(gateway: Gateway) -> None:
    for number in range(100):
        await gateway.use(number, offset_ms=number * 10)
    gateway.clock_ms += 62_000
    await gateway.use(1000)
    assert len(gateway.store) == 1


async def test_many_expired_nonces_are_forgotten_bit_by_bit(gateway: Gateway) -> None:
    for number in range(2_500):
        await gateway.use(number)
    gateway.clock_ms += 62_000
    for number in range(4):
        await gateway.use(10_000 + number)
        gateway.clock_ms += 100
    assert len(gateway.store) == 4


async def test_a_full_store_refuses_and_forgets_nothing(gateway: Gateway) -> None:
    await gateway.stop()
    gateway.start(capacity=3)
    for number in range(3):
        await gateway.use(number)
    gateway.clock_ms += 10_000
    for number in range(4):
        with pytest.raises(RateLimited) as refused:
            await gateway.use(number)

    gateway.clock_ms += refused.value.retry_after_seconds * 1000
    await gateway.use(3)


@pytest.mark.parametrize("offset_ms", [0, -50_000, 3_000, 59_000])
async def test_restarted_process_refuses_what_was_used_and_nothing_else(
    gateway: Gateway, offset_ms: int
) -> None:
    await gateway.use(1, offset_ms=offset_ms)
    await gateway.restart()

    with pytest.raises(NonceReused):
        await gateway.use(1, offset_ms=offset_ms)
    await gateway.use(2, offset_ms=offset_ms)


async def test_nonce_stays_used_over_many_restarts(gateway: Gateway) -> None:
    await gateway.use(1, offset_ms=60_000)
    for number in range(100, 105):
        await gateway.restart()
        await gateway.use(number)
    with pytest.raises(NonceReused):
        await gateway.use(1, offset_ms=60_000)


async def test_nonce_signed_again_after_expiry_stays_used_over_a_restart(gateway: Gateway) -> None:
    await gateway.use(1)
    gateway.clock_ms += 70_000
    await gateway.use(1)
    await gateway.restart()
    gateway.clock_ms += 30_000
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
    await gateway.reboot()
    with pytest.raises(TimestampExpired, match=r"Sign again with a fresh timestamp in \d+ s"):
        await gateway.use(2)
    gateway.clock_ms += 5_001
    await gateway.use(2)


async def test_machine_that_took_longer_to_boot_refuses_nobody_fresh(gateway: Gateway) -> None:
    await gateway.use(1)
    gateway.clock_ms += 20_000
    await gateway.reboot()
    await gateway.use(2)


async def test_rebooted_machine_refuses_a_timestamp_ahead_that_was_used(gateway: Gateway) -> None:
    await gateway.use(1, offset_ms=60_000)
    await gateway.reboot()
    with pytest.raises(TimestampExpired):
        await gateway.use(1, offset_ms=60_000)
    gateway.clock_ms += 65_001
    await gateway.use(2)


async def test_lost_database_is_not_taken_for_a_first_start(gateway: Gateway) -> None:
    await gateway.use(1, offset_ms=54_000)
    await gateway.crash()
    for path in gateway.directory.glob("nonces.db*"):
        path.unlink()
    gateway.start()
    with pytest.raises(TimestampExpired):
        await gateway.use(1, offset_ms=54_000)
    gateway.clock_ms += 60_001
    await gateway.use(2)


async def test_restored_copy_of_the_files_is_not_trusted(gateway: Gateway) -> None:
    await gateway.crash()
    backup = {path: path.read_bytes() for path in gateway.directory.iterdir()}
    gateway.start()
    await gateway.use(1, offset_ms=60_000)
    await gateway.crash()
    for path, content in backup.items():
        path.rename(path.with_name(f"{path.name}.old"))  # keeps the inode taken
        path.write_bytes(content)
    gateway.start()
    with pytest.raises(TimestampExpired):
        await gateway.use(1, offset_ms=60_000)


async def test_clock_set_back_over_a_restart_lets_no_expired_nonce_through(
    gateway: Gateway,
) -> None:
    await gateway.use(1)
    gateway.clock_ms += 61_001
    await gateway.use(2)
    assert len(gateway.store) == 1
    await gateway.restart()
    gateway.clock_ms = START_MS
    with pytest.raises(TimestampExpired):
        await gateway.use(1)


async def test_clock_wrong_for_a_while_locks_nobody_out(gateway: Gateway) -> None:
    await gateway.use(1)
    gateway.clock_ms += 86_400_000
    await gateway.use(2, offset_ms=30_000)
    gateway.clock_ms -= 86_400_000 - 1_000
    await gateway.use(3)
    with pytest.raises(TimestampExpired):
        await gateway.use(1, offset_ms=-1_000)
    await gateway.restart()
    await gateway.use(4)


async def test_files_stay_small_under_a_flood(gateway: Gateway) -> None:
    await gateway.stop()
    gateway.start(capacity=2_000)
    sizes = []
    for burst in range(6):
        for number in range(2_000):
            await gateway.use(burst * 2_000 + number)
        with pytest.raises(RateLimited):
            await gateway.use(-1 - burst)
        sizes.append(gateway.size())
        gateway.clock_ms += 61_000
    assert len(gateway.store) <= 2_000
    assert max(sizes) < 8 * 1024 * 1024
    assert sizes[-1] < sizes[1] * 1.5


async def test_idle_store_never_touches_the_disk_and_a_busy_one_seldom(gateway: Gateway) -> None:
    before = gateway.syncs
    for number in range(1000):
        gateway.clock_ms += 10
        await gateway.use(number)
    assert 1 <= gateway.syncs - before <= 5  # ten seconds


async def test_clients_whose_clock_is_right_never_wait_for_the_disk(gateway: Gateway) -> None:
    gateway.is_slow = True
    for number in range(30):
        gateway.clock_ms += 200
        await asyncio.wait_for(gateway.use(number), 60)
        await asyncio.sleep(0)  # a request comes with a turn of the loop
        if number % 10 == 9:
            gateway.disk_works()
            await asyncio.sleep(0)


async def test_timestamp_above_the_mark_passes_only_once_that_is_on_disk(gateway: Gateway) -> None:
    gateway.sync_error = OSError(errno.EIO, "failed")
    with pytest.raises(AuthUnavailable):
        await gateway.use(1, offset_ms=30_000)
    gateway.sync_error = None
    await gateway.use(1, offset_ms=30_000)


async def test_full_disk_refuses_and_passes_again_once_there_is_room(gateway: Gateway) -> None:
    await gateway.use(1)
    with full_disk():
        for number in (2, 3):
            with pytest.raises(AuthUnavailable):
                await gateway.use(number)
    await gateway.use(2)
    await gateway.restart()
    for number in (1, 2):
        with pytest.raises(NonceReused):
            await gateway.use(number)


async def test_second_process_is_refused(gateway: Gateway) -> None:
    with pytest.raises(AlreadyRunning):
        Gateway(gateway.directory).start()
    await gateway.store.close()
    gateway.start()


@pytest.mark.parametrize("offset_ms", [0, 60_000])
async def test_closed_store_passes_nothing(gateway: Gateway, offset_ms: int) -> None:
    await gateway.store.close()
    for number in (1, 2):
        with pytest.raises(AuthUnavailable):
            await gateway.use(number, offset_ms=offset_ms)


# The bodies of used nonces

NUMBER_1 = "00000000-0000-4000-8000-000000000001"
BODY, OTHER = "ab" * 32, "cd" * 32


async def test_body_of_a_used_nonce_is_remembered_for_its_wallet_also_after_a_restart(
    gateway: Gateway,
) -> None:
    await gateway.use(1)
    await gateway.store.remember_body(A, gateway.clock_ms, NUMBER_1, BODY)
    await gateway.restart()

    assert await gateway.store.was_of_body(A, NUMBER_1, BODY)
    assert not await gateway.store.was_of_body(A, NUMBER_1, OTHER)
    assert not await gateway.store.was_of_body(B, NUMBER_1, BODY)


async def test_first_body_of_a_nonce_is_its_body(gateway: Gateway) -> None:
    for body in (BODY, OTHER):
        await gateway.store.remember_body(A, gateway.clock_ms, NUMBER_1, body)
    assert await gateway.store.was_of_body(A, NUMBER_1, BODY)
    assert not await gateway.store.was_of_body(A, NUMBER_1, OTHER)


async def test_bodies_are_forgotten_with_their_nonces(gateway: Gateway) -> None:
    await gateway.use(1)
    await gateway.store.remember_body(A, gateway.clock_ms, NUMBER_1, BODY)
    gateway.clock_ms += 60_001
    await gateway.use(2)
    assert not await gateway.store.was_of_body(A, NUMBER_1, BODY)


async def test_power_cut_loses_no_more_than_the_bodies(gateway: Gateway) -> None:
    await gateway.store.remember_body(A, gateway.clock_ms, NUMBER_1, BODY)
    await gateway.reboot()
    assert not await gateway.store.was_of_body(A, NUMBER_1, BODY)


async def test_store_that_follows_knows_what_may_have_been_used(tmp_path: Path) -> None:
    directory = tmp_path / "nonces"

    def marked() -> int:
        return marked_ms(directory, now_ms=START_MS)

    assert marked() == -1
    gateway = Gateway(directory)
    gateway.start()
    await gateway.use(1, offset_ms=WINDOW_MS - 1)
    await gateway.crash()
    assert START_MS + WINDOW_MS <= marked() < START_MS + 2 * WINDOW_MS
    give_up_mark(directory)
    assert marked() == -1  # it has been told

    (directory / "lock").write_text("restored\n")  # by `moorage operator restore`
    assert marked() == START_MS + WINDOW_MS

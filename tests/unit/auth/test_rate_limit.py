import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.auth.rate_limit import MemoryRateLimiter, RateLimiter
from moorage.errors import RateLimited


class MovableClock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now_ms(self) -> int:
        raise AssertionError("rates are measured on the monotonic clock")

    def monotonic_seconds(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


async def passed(limiter: RateLimiter, key: str, times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            await limiter.check(key)
        except RateLimited:
            continue
        count += 1
    return count


async def test_exactly_thirty_of_a_burst_pass(clock: MovableClock) -> None:
    assert await passed(MemoryRateLimiter(clock=clock), "wallet", 31) == 30


async def test_thirty_first_within_the_minute_is_refused_however_spread(
    clock: MovableClock,
) -> None:
    limiter = MemoryRateLimiter(clock=clock)
    assert await passed(limiter, "wallet", 1) == 1
    clock.seconds += 59
    assert await passed(limiter, "wallet", 30) == 29
    clock.seconds += 0.999
    assert await passed(limiter, "wallet", 1) == 0
    clock.seconds += 0.001
    assert await passed(limiter, "wallet", 2) == 1


async def test_retry_after_is_the_first_whole_second_that_passes(clock: MovableClock) -> None:
    limiter = MemoryRateLimiter(clock=clock, limit=2)
    await limiter.check("wallet")
    clock.seconds += 10.25
    await limiter.check("wallet")
    clock.seconds += 0.5

    with pytest.raises(RateLimited) as refused:
        await limiter.check("wallet")

    assert refused.value.retry_after_seconds == 50  # 60 - 10.75 = 49.25
    clock.seconds += 49
    with pytest.raises(RateLimited) as again:
        await limiter.check("wallet")
    assert again.value.retry_after_seconds == 1
    clock.seconds += 1
    await limiter.check("wallet")


async def test_keys_do_not_share_a_window(clock: MovableClock) -> None:
    limiter = MemoryRateLimiter(clock=clock, limit=3)
    assert [await passed(limiter, key, 4) for key in ("a", "b", "c")] == [3, 3, 3]


async def test_refused_requests_do_not_prolong_the_wait(clock: MovableClock) -> None:
    limiter = MemoryRateLimiter(clock=clock, limit=1)
    await limiter.check("wallet")
    for _ in range(59):
        clock.seconds += 1
        assert await passed(limiter, "wallet", 5) == 0
    clock.seconds += 1
    assert await passed(limiter, "wallet", 5) == 1


async def test_quiet_keys_are_forgotten(clock: MovableClock) -> None:
    limiter = MemoryRateLimiter(clock=clock)
    for number in range(1000):
        await limiter.check(f"address-{number}")
    for _ in range(3):
        clock.seconds += 60
        await limiter.check("still here")
    assert len(limiter) == 1


async def test_remembered_keys_stay_within_the_capacity(clock: MovableClock) -> None:
    limiter = MemoryRateLimiter(clock=clock, capacity=100)
    for number in range(1000):
        await limiter.check(f"address-{number}")
        assert len(limiter) <= 100


async def test_flood_of_keys_refuses_no_newcomer(clock: MovableClock) -> None:
    limiter = MemoryRateLimiter(clock=clock, limit=1, capacity=10)
    assert [await passed(limiter, f"address-{number}", 1) for number in range(1000)] == [1] * 1000


async def test_busy_key_stays_limited_through_a_flood_it_keeps_up_with(clock: MovableClock) -> None:
    limiter = MemoryRateLimiter(clock=clock, limit=1, capacity=100)
    await limiter.check("busy")
    for number in range(1000):
        await limiter.check(f"address-{number}")
        assert await passed(limiter, "busy", 1) == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.one_of(st.integers(0, 400), st.integers(0, 200_000)).map(float)
    ),
    max_size=120,
)


@given(STEPS, st.integers(1, 5))
def test_any_history_passes_what_the_definition_passes(
    steps: list[tuple[str, float]], limit: int
) -> None:
    """The definition: a request passes when fewer than `limit` passed in the minute before it."""
    asyncio.run(pass_history(steps, limit))


async def pass_history(steps: list[tuple[str, float]], limit: int) -> None:
    clock = MovableClock()
    limiter = MemoryRateLimiter(clock=clock, limit=limit)
    history: dict[str, list[int]] = {"a": [], "b": []}
    now_ms = 1_000_000
    for key, pause_ms in steps:
        now_ms += int(pause_ms)
        clock.seconds = now_ms / 1000
        recent = [moment for moment in history[key] if now_ms - moment < 60_000]
        if len(recent) < limit:
            await limiter.check(key)
            history[key].append(now_ms)
        else:
            with pytest.raises(RateLimited) as refused:
                await limiter.check(key)
            expected = math.ceil((recent[-limit] + 60_000 - now_ms) / 1000)
            assert refused.value.retry_after_seconds == expected >= 1

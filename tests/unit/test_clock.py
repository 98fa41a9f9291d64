import time

from hypothesis import given
from hypothesis import strategies as st

from moorage.clock import SystemClock, iso_utc
from support.gateway.clock import START_MS, MovableClock


def test_times_are_written_as_in_the_contract() -> None:
    assert iso_utc(START_MS) == "2026-04-07T10:00:00.000Z"
    assert iso_utc(START_MS + 7) == "2026-04-07T10:00:00.007Z"
    assert iso_utc(0) == "1970-01-01T00:00:00.000Z"
    assert iso_utc(951_782_400_000) == "2000-02-29T00:00:00.000Z"


@given(st.integers(0, 4_102_444_800_000), st.integers(0, 4_102_444_800_000))
def test_written_times_sort_as_the_times_do(one: int, other: int) -> None:
    assert (iso_utc(one) < iso_utc(other)) == (one < other)


def test_system_clock_is_the_machines() -> None:
    clock = SystemClock()
    before = time.time() * 1000
    now_ms = clock.now_ms()
    assert before - 1 <= now_ms <= time.time() * 1000 + 1
    assert clock.monotonic_seconds() <= clock.monotonic_seconds()


def test_movable_clock_steps_wall_time_alone() -> None:
    clock = MovableClock()
    monotonic = clock.monotonic_seconds()
    clock.step(-5_000)
    assert (clock.now_ms(), clock.monotonic_seconds()) == (START_MS - 5_000, monotonic)
    clock.advance(2_000)
    assert (clock.now_ms(), clock.monotonic_seconds()) == (START_MS - 3_000, monotonic + 2)

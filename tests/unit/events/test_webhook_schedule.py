"""When attempts are made, of a delivery whose receiver never answers."""

from moorage.events.delivery import next_attempt_ms
from support.gateway.clock import HOUR_MS, START_MS

HOURS = 3600


def attempts_after(created_ms: int, first_ms: int) -> list[int]:
    """Seconds between the attempts of a delivery whose first attempt is at `first_ms`."""
    at_ms, attempts = first_ms, 0
    pauses: list[int] = []
    while True:
        attempts += 1
        again_ms = next_attempt_ms(attempts=attempts, created_at_ms=created_ms, now_ms=at_ms)
        if again_ms is None:
            return pauses
        pauses.append((again_ms - at_ms) // 1000)
        at_ms = again_ms


def test_pauses_grow_from_seconds_to_half_a_day_over_three_days() -> None:
    assert attempts_after(START_MS, START_MS) == [
        *(10, 60, 5 * 60, 30 * 60, 2 * HOURS, 6 * HOURS),
        *(12 * HOURS,) * 5,  # until 68 h 36 min 10 s: another would be beyond 72 h
    ]


def test_delivery_that_waited_its_time_for_its_turn_has_one_attempt() -> None:
    assert attempts_after(START_MS, START_MS + 72 * HOUR_MS) == []


def test_delivery_that_waited_most_of_its_time_has_fewer_attempts() -> None:
    assert attempts_after(START_MS, START_MS + 71 * HOUR_MS) == [10, 60, 5 * 60, 30 * 60]

"""When a delivery that failed is tried again, and when it is given up."""

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS

PAUSES_MS = (
    10 * SECOND_MS,
    1 * MINUTE_MS,
    5 * MINUTE_MS,
    30 * MINUTE_MS,
    2 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,  # and so on
)
LONGEST_TRIED_MS = 72 * HOUR_MS
"""A delivery this old is given up, but each has its one attempt."""


def next_attempt_ms(*, attempts: int, created_at_ms: int, now_ms: int) -> int | None:
    """When to try again after the `attempts`-th attempt failed now; None: give it up."""
    at_ms = now_ms + PAUSES_MS[min(attempts, len(PAUSES_MS)) - 1]
    return at_ms if at_ms <= created_at_ms + LONGEST_TRIED_MS else None

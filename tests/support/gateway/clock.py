"""A clock that stands still until a test moves it."""

START_MS = 1_775_556_000_000  # 2026-04-07T10:00:00Z
MINUTE_MS = 60_000
HOUR_MS = 3_600_000


class MovableClock:
    """Wall time and monotonic time; `step` moves the first alone, as an operator or NTP does."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms
        self._monotonic_seconds = 1_000.0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_seconds(self) -> float:
        return self._monotonic_seconds

    def advance(self, milliseconds: int) -> None:
        """Let time pass."""
        assert milliseconds >= 0
        self._now_ms += milliseconds
        self._monotonic_seconds += milliseconds / 1000

    def reboot(self, down_ms: int) -> None:
        """The machine is off for a while; monotonic time begins anew."""
        self._now_ms += down_ms
        self._monotonic_seconds = 5.0

    def step(self, milliseconds: int) -> None:
        """Set the wall clock forward or back."""
        self._now_ms += milliseconds

"""How much to ask a node for at once: less after a refusal, more after an answer."""


class Pace:
    """A batch size from 1 to `max_`, found by trying, as nodes do not state their limits."""

    def __init__(self, *, first: int, max_: int) -> None:
        self.size = first
        self._max = max_

    def refused(self, asked: int) -> None:
        """Halves the size, as `asked` was too much."""
        self.size = max(1, asked // 2)

    def answered(self, asked: int) -> None:
        """Raises the size by a quarter, if as many as that were `asked` for and answered."""
        if asked >= self.size:
            self.size = min(self._max, self.size + max(1, self.size // 4))

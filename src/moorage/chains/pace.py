"""How much to ask a node for at once: less after a refusal, more after an answer."""


class Pace:
    """A size from 1 to `max_`, found by trying: nodes do not tell their limits."""

    def __init__(self, *, first: int, max_: int) -> None:
        self.size = first
        self._max = max_

    def refused(self, asked: int) -> None:
        """`asked` was too much: half of it next."""
        self.size = max(1, asked // 2)

    def answered(self, asked: int) -> None:
        """`asked` was answered: a little more next time, if `asked` was the present size."""
        if asked >= self.size:
            self.size = min(self._max, self.size + max(1, self.size // 4))

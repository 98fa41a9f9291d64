"""What the builds under way have written, so that a full disk ends the one that wrote most."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Writing:
    """The bytes that each build's processes have written, as far as they were seen.

    A process that lives for less than a second may not be seen: what fills a disk lives longer.
    """

    def __init__(self) -> None:
        self._written: dict[str, dict[int, int]] = {}  # by build, then by process

    @contextmanager
    def of(self, build: str) -> Iterator[None]:
        """Counts for a build, until what it leaves is removed."""
        self._written[build] = {}
        try:
            yield
        finally:
            del self._written[build]

    def note(self, build: str, written: Mapping[int, int]) -> None:
        """Notes what its processes have written since they began; those that ended keep theirs."""
        self._written[build].update(written)

    def is_most(self, build: str) -> bool:
        """Returns whether no other build has written more."""
        own = self._total(build)
        return all(self._total(other) <= own for other in self._written)

    def _total(self, build: str) -> int:
        return sum(self._written[build].values())

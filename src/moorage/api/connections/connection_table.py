"""The open connections by client address, and which to close when there are too many.

The address with the most connections loses one to a newcomer, so that nobody can keep others out by
opening many.
"""

import heapq
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

_SHARES = 64
"""This part of the limit is closed at once, so that a flood is not searched for each newcomer."""


class Waiting(Protocol):
    """A connection, as the table sees it."""

    @property
    def is_waiting(self) -> bool:
        """Whether there is no request to answer, so that it may be closed."""
        ...

    @property
    def waiting_since(self) -> float:
        """Since when it waits, in the event loop's seconds."""
        ...


C = TypeVar("C", bound=Waiting)


class ConnectionTable(Generic[C]):
    """At most `limit` connections, and `limit_by_address` of each address.

    A connection without an address (None) is a trusted proxy's and carries requests of many
    clients: it counts only for `limit`, and is closed last.
    """

    def __init__(self, *, limit: int, limit_by_address: int) -> None:
        self._limit = limit
        self._limit_by_address = limit_by_address
        self._by_address: dict[str | None, set[C]] = {}
        self._count = 0

    def enter(self, connection: C, address: str | None) -> list[C]:
        """Adds a connection; removes and returns those to close, which may include the new one.

        These wait for a request, the longest first. They are of the same address if it has too
        many, else of the addresses with the most.
        """
        own = self._by_address.setdefault(address, set())
        own.add(connection)
        self._count += 1
        going: list[tuple[str | None, C]] = []
        if address is not None and len(own) > self._limit_by_address:
            count = max(1, self._limit_by_address // _SHARES)
            going = [(address, each) for each in _longest_waiting(own)[-count:]]
        elif self._count > self._limit:
            going = list(self._of_the_largest(max(1, self._limit // _SHARES)))
        for its_address, each in going:
            self.leave(each, its_address)
        return [each for _, each in going]

    def leave(self, connection: C, address: str | None) -> None:
        """Removes a connection that is closed."""
        own = self._by_address.get(address, set())
        if connection in own:
            own.remove(connection)
            self._count -= 1
            if not own:
                del self._by_address[address]

    def _of_the_largest(self, count: int) -> Iterator[tuple[str | None, C]]:
        """Yields `count` times the longest waiting of the address with the most; proxies' last."""
        crowds = list(self._by_address.items())
        largest = [(address is None, -len(own), at) for at, (address, own) in enumerate(crowds)]
        heapq.heapify(largest)
        waiting: dict[int, list[C]] = {}
        while largest and count:
            is_proxys, size, at = heapq.heappop(largest)
            address, own = crowds[at]
            if at not in waiting:
                waiting[at] = _longest_waiting(own)
            if waiting[at]:
                yield address, waiting[at].pop()
                count -= 1
                heapq.heappush(largest, (is_proxys, size + 1, at))


def _longest_waiting(connections: set[C]) -> list[C]:
    """Returns those that wait for a request; the longest waiting is the last."""
    waiting = [connection for connection in connections if connection.is_waiting]
    return sorted(waiting, key=lambda connection: connection.waiting_since, reverse=True)

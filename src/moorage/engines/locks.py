"""A lock for each deployment, so that calls for the same one run one after the other."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")


class Locks:
    """Locks by name; one that nobody holds or waits for takes no memory."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """Holds the lock."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            yield

    def is_held(self, name: str) -> bool:
        """Returns whether anybody holds the lock."""
        lock = self._locks.get(name)
        return lock is not None and lock.locked()

    def held(self) -> set[str]:
        """Returns the names whose lock somebody holds."""
        return {name for name, lock in self._locks.items() if lock.locked()}


def checked(name: str) -> str:
    """Returns an id if it is safe as a part of paths and names. Raises ValueError."""
    if not _ID.match(name):
        raise ValueError(f"{name!r} can't name a deployment or a volume")
    return name

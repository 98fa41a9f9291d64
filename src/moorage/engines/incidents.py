"""Incidents: what the runtime's threads found, for who waits in the event loop."""

import asyncio

from moorage.engines.engine import Incident


class Incidents:
    """A queue that any thread may add to, once the loop that reads it has begun."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Incident] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Begin: what is added from now on is told in the running loop."""
        self._loop = asyncio.get_running_loop()

    def add(self, incident: Incident) -> None:
        """Have it told; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, incident)

    async def next(self) -> Incident:
        """Wait for the next one."""
        return await self._queue.get()

"""Hands incidents from the engine's threads to the event loop."""

import asyncio

from moorage.engines.engine import Incident


class Incidents:
    """A queue that any thread may add to, after `open`; what is added before is lost."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Incident] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Starts to deliver incidents to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def add(self, incident: Incident) -> None:
        """Adds an incident; may be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, incident)

    async def next(self) -> Incident:
        """Waits for the next incident."""
        return await self._queue.get()

"""Watches: a stream of what happens to the objects that a client asked for."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from support.engines.fake_kubernetes.faults import Faults, Refusal
from support.engines.fake_kubernetes.resources import Manifest, Resource
from support.engines.fake_kubernetes.selection import Condition
from support.engines.fake_kubernetes.store import Event, Store


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What one client follows."""

    resource: Resource
    namespace: str
    condition: Condition
    since: int | None  # None: begins with what is there
    bookmarks: bool
    timeout_seconds: float
    bookmark_seconds: float

    async def lines(self, store: Store, faults: Faults) -> AsyncGenerator[Manifest]:
        """The events as the client reads them; ends when its time is up or it is cut."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        with store.listening(queue):
            try:
                first = self._first(store)
            except Refusal as refusal:
                yield {"type": "ERROR", "object": refusal.status}
                return
            for line in first:
                yield line
            async with aclosing(self._following(queue, store, faults)) as following:
                async for line in following:
                    yield line

    def _first(self, store: Store) -> list[Manifest]:
        if self.since is None:
            found = store.all(self.resource, self.namespace)
            return [_line("ADDED", thing) for thing in found if self.condition(thing)]
        return [line for event in store.since(self.since) if (line := self._told(event))]

    async def _following(
        self, queue: asyncio.Queue[Event], store: Store, faults: Faults
    ) -> AsyncGenerator[Manifest]:
        deadline = time.monotonic() + self.timeout_seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left, self.bookmark_seconds)):
                    event = await queue.get()
            except TimeoutError:
                if self.bookmarks and not faults.frozen:
                    yield self._bookmark(store)
                continue
            if faults.frozen:  # it stays open, and tells nothing ever again
                await asyncio.Event().wait()
            if line := self._told(event):
                yield line

    def _told(self, event: Event) -> Manifest | None:
        """The line for an event; an object that is selected no more is told as deleted."""
        if event.resource is not self.resource:
            return None
        if self.namespace not in {"", event.object["metadata"].get("namespace", "")}:
            return None
        now = event.kind != "DELETED" and self.condition(event.object)
        before = event.before is not None and self.condition(event.before)
        if now:
            return _line("MODIFIED" if before else "ADDED", event.object)
        return _line("DELETED", event.object) if before else None

    def _bookmark(self, store: Store) -> Manifest:
        version = {"resourceVersion": str(store.version), "creationTimestamp": None}
        return _line(
            "BOOKMARK",
            {
                "kind": self.resource.kind,
                "apiVersion": self.resource.api_version,
                "metadata": version,
            },
        )


def _line(kind: str, thing: Manifest) -> Manifest:
    return {"type": kind, "object": thing}

"""What containers print, as the API of pods' logs gives it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One line, without its line feed."""

    at_ns: int
    text: bytes


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """What a client asks of a log."""

    container: str | None
    follow: bool
    timestamps: bool
    previous: bool
    since_ns: int
    tail: int | None

    @classmethod
    def parsed(cls, query: Mapping[str, str]) -> "LogQuery":
        """Of a request; the kubelet is told the time in whole seconds, so more is returned."""
        since = 0
        if text := query.get("sinceTime"):
            since = int(datetime.fromisoformat(text[:19]).replace(tzinfo=UTC).timestamp())
        elif seconds := query.get("sinceSeconds"):
            since = int(time.time()) - int(seconds)
        return cls(
            container=query.get("container"),
            follow=query.get("follow") in {"true", "1"},
            timestamps=query.get("timestamps") in {"true", "1"},
            previous=query.get("previous") in {"true", "1"},
            since_ns=since * 10**9,
            tail=int(query["tailLines"]) if "tailLines" in query else None,
        )


@dataclass
class ContainerLog:
    """The log of one run of a container."""

    entries: list[Entry] = field(default_factory=list)
    ended: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def collect(self, *streams: asyncio.StreamReader) -> None:
        """Reads what it prints until it closes its outputs."""
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(self._collect(stream))

    def end(self) -> None:
        self.ended = True
        self._news.set()

    async def _collect(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.entries.append(Entry(time.time_ns(), line.removesuffix(b"\n")))
            self._news.set()

    async def lines(self, query: LogQuery) -> AsyncIterator[bytes]:
        """The lines that are asked for, as the client reads them."""
        at = 0
        if query.tail is not None:
            at = max(len(self.entries) - query.tail, 0)
        while True:
            self._news.clear()
            while at < len(self.entries):
                entry, at = self.entries[at], at + 1
                if entry.at_ns >= query.since_ns:
                    yield _written(entry, timestamps=query.timestamps)
            if self.ended or not query.follow:
                return
            await self._news.wait()


def _written(entry: Entry, *, timestamps: bool) -> bytes:
    if not timestamps:
        return entry.text + b"\n"
    seconds, nanoseconds = divmod(entry.at_ns, 10**9)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanoseconds:09}Z ".encode() + entry.text + b"\n"

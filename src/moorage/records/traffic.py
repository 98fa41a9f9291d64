"""Traffic: visitors' requests to apps, counted from the proxy's log."""

from math import ceil

import msgspec

from moorage.records.latency import BUCKETS, bucket_of

HOUR_MS = 3_600_000


class Position(msgspec.Struct, frozen=True):
    """How far a log has been read: `head` says it of each file, `offset` is their sum."""

    head: str
    offset: int


class Traffic(msgspec.Struct):
    """The requests to one host in five minutes; bytes are those of heads, bodies and WebSockets."""

    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    status_1xx: int = 0
    status_2xx: int = 0
    status_3xx: int = 0
    status_4xx: int = 0
    status_5xx: int = 0
    last_at_ms: int = 0  # when the last request was answered
    held: int = 0  # that waited until the app was started
    held_ms: int = 0
    slowest_ms: int = 0
    latency: list[int] = msgspec.field(default_factory=lambda: [0] * len(BUCKETS))

    def count(self, *, status: int, bytes_in: int, bytes_out: int, at_ms: int) -> None:
        """Adds a request."""
        self.requests += 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.last_at_ms = max(self.last_at_ms, at_ms)
        status_class = f"status_{status // 100}xx"
        if status_class in self.__struct_fields__:
            setattr(self, status_class, getattr(self, status_class) + 1)

    def count_latency(self, latency_ms: float) -> None:
        """Adds how long the app took until it began to answer one of the requests."""
        self.latency[bucket_of(latency_ms)] += 1
        self.slowest_ms = max(self.slowest_ms, ceil(latency_ms))

    def count_held(self, held_ms: float) -> None:
        """Adds that one of the requests waited before the app got it."""
        self.held += 1
        self.held_ms += round(held_ms)


class Batch(msgspec.Struct):
    """The result of reading a log: traffic by host and five minutes, and where to continue."""

    position: Position
    traffic: dict[tuple[str, int], Traffic]
    tried: frozenset[str]  # hosts whose app got a request, whether or not it answered

"""Traffic: visitors' requests to apps, counted from the proxy's log."""

import msgspec

HOUR_MS = 3_600_000


class Position(msgspec.Struct, frozen=True):
    """How far a log has been read: `head`, the file's beginning, tells which file it is."""

    head: str
    offset: int


class Traffic(msgspec.Struct):
    """The requests to one host in five minutes; bytes are those of bodies and WebSockets."""

    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    status_1xx: int = 0
    status_2xx: int = 0
    status_3xx: int = 0
    status_4xx: int = 0
    status_5xx: int = 0
    last_at_ms: int = 0  # when the last request was answered

    def count(self, *, status: int, bytes_in: int, bytes_out: int, at_ms: int) -> None:
        """Adds a request."""
        self.requests += 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.last_at_ms = max(self.last_at_ms, at_ms)
        status_class = f"status_{status // 100}xx"
        if status_class in self.__struct_fields__:
            setattr(self, status_class, getattr(self, status_class) + 1)


class Batch(msgspec.Struct):
    """The result of reading a log: traffic by host and five minutes, and where to continue."""

    position: Position
    traffic: dict[tuple[str, int], Traffic]
    tried: frozenset[str]  # hosts whose app got a request, whether or not it answered

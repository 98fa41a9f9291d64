"""HTTP spelled out byte by byte, for what no well-behaved client library would send."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Headers = Iterable[tuple[str | bytes, str | bytes]]
LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True)
class RawAnswer:
    """One answer as it came; header names are lower-case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, which must be a JSON object and say that it is JSON."""
        assert self.header("content-type") == "application/json", self
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document

    def header(self, name: str) -> str | None:
        """The one value of a header; a repeated one is an AssertionError."""
        values = [value for known, value in self.headers if known == name]
        assert len(values) < 2, values
        return values[0] if values else None


class _Reader(asyncio.StreamReader):
    """What came before a connection was cut is still to be had; the cut itself is an end."""

    def set_exception(self, exc: Exception) -> None:
        if isinstance(exc, ConnectionError):
            self.feed_eof()
        else:
            super().set_exception(exc)


class RawConnection:
    """One TCP connection; every wait ends after `within_seconds`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        within_seconds: float,
    ) -> None:
        self._reader = reader
        self.writer = writer
        self._within_seconds = within_seconds

    async def send(self, *pieces: bytes) -> None:
        """Send bytes as they are; one that the other side has closed takes no more."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(b"".join(pieces))
            await self.writer.drain()

    async def answer(self, *, to: str = "GET") -> RawAnswer:
        """The next answer; one to HEAD has no body. Interim answers are passed over."""
        async with asyncio.timeout(self._within_seconds):
            status = 100
            while status == 100:
                head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head[:-4].split("\r\n")
                status = int(first.split(" ")[1])
            headers = [
                (name.lower(), value.strip())
                for name, _, value in (line.partition(":") for line in lines)
            ]
            length = int(dict(headers).get("content-length", 0))
            body = b"" if to == "HEAD" else await self._reader.readexactly(length)
        return RawAnswer(status, headers, body)

    async def interim(self) -> int:
        """The status of an interim answer, such as 100."""
        async with asyncio.timeout(self._within_seconds):
            head = await self._reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ")[1])

    async def first_bytes(self) -> bytes:
        """Whatever comes next."""
        async with asyncio.timeout(self._within_seconds):
            return await self._reader.read(1000)

    async def until_reset(self) -> None:
        """Wait until the other side has cut the connection, without reading what it said."""
        async with asyncio.timeout(self._within_seconds):
            with contextlib.suppress(ConnectionError):
                while True:
                    self.writer.write(b"\0")
                    await self.writer.drain()
                    await asyncio.sleep(0.01)

    async def closed(self) -> bytes:
        """What still comes before the other side closes."""
        rest = b""
        async with asyncio.timeout(self._within_seconds):
            with contextlib.suppress(ConnectionError):
                while piece := await self._reader.read(65_536):
                    rest += piece
        return rest


@contextlib.asynccontextmanager
async def connected(
    url: str, *, source: str | None = None, within_seconds: float = 60
) -> AsyncIterator[RawConnection]:
    """A connection to the server of `url`, from the address `source` where one is given."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    reader = _Reader(limit=LIMIT_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(
        lambda: protocol,
        str(parts.hostname),
        parts.port or 80,
        local_addr=None if source is None else (source, 0),
    )
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        yield RawConnection(reader, writer, within_seconds=within_seconds)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def request(
    method: str,
    path: str | bytes,
    headers: Headers = (),
    body: bytes | None = None,
    *,
    version: str = "1.1",
) -> bytes:
    """A request's bytes; Host and Content-Length are added where nothing is said about them."""
    lines = [b"%s %s HTTP/%s" % (method.encode(), _bytes(path), version.encode())]
    given = [(_bytes(name), _bytes(value)) for name, value in headers]
    known = {name.lower() for name, _ in given}
    if b"host" not in known:
        given.insert(0, (b"Host", b"gateway.test"))
    if body is not None and not known & {b"content-length", b"transfer-encoding"}:
        given.append((b"Content-Length", b"%d" % len(body)))
    lines += [name + b": " + value for name, value in given]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def chunked(body: bytes, *, size: int = 1000) -> bytes:
    """`body` in chunks, with the last one."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text

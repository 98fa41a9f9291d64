"""A program: floods a proxy in one way, from some addresses, for some seconds.

floods.py FLOOD PLAIN_PORT TLS_PORT HOST ADDRESSES CONNECTIONS SECONDS

Each of so many connections is opened again when the proxy ends or refuses it. Prints how many were
opened and how many failed.
"""

import asyncio
import json
import os
import socket
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count

from hpack import Encoder

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = (8).to_bytes(4, "big")
SMALL_BYTES = 4096  # of what somebody takes who does not read
OPENING = 50  # connections at once: more would all be opened late
PAUSE_SECONDS = 0.05  # before a connection that was ended is opened again

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame of HTTP/2 (RFC 9113, 4.1)."""
    length = len(payload).to_bytes(3, "big")
    return length + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def begin(window_bytes: int = 65_535) -> bytes:
    """What a client of HTTP/2 says first; each answer may have so many bytes before it is asked."""
    window = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window_bytes.to_bytes(4, "big")
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, window)


def trusting(alpn: str) -> ssl.SSLContext:
    """Speaks this protocol with whatever it meets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    return context


@dataclass
class Target:
    """The proxy and the host that is asked for."""

    plain_port: int
    tls_port: int
    host: str
    opened: int = 0
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(OPENING))

    @asynccontextmanager
    async def connected(self, address: str, alpn: str = "") -> AsyncIterator[Stream]:
        """A connection from this address: over TLS if `alpn` says what is spoken, else plain."""
        async with self.turns:
            reader, writer = await self._connect(address, alpn)
        self.opened += 1
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _connect(self, address: str, alpn: str) -> Stream:
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
        try:
            made.bind((address, 0))
            port = self.tls_port if alpn else self.plain_port
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
            return await asyncio.open_connection(
                sock=made,
                limit=SMALL_BYTES,
                ssl=trusting(alpn) if alpn else None,
                server_hostname=self.host if alpn else None,
            )
        except BaseException:
            made.close()
            raise

    def fields(self, path: str, method: str = "GET") -> bytes:
        """A request of HTTP/2, compressed so that it refers to no other."""
        names = {":method": method, ":scheme": "https", ":authority": self.host, ":path": path}
        return Encoder().encode([(name, value, True) for name, value in names.items()])

    def head(self, path: str, method: str = "GET", more: str = "\r\n") -> bytes:
        """The head of a request of HTTP/1.1."""
        return f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n{more}".encode()


async def read_all(reader: asyncio.StreamReader) -> None:
    """Reads until the proxy hangs up."""
    while await reader.read(1 << 20):
        pass


async def send(stream: Stream, data: Callable[[int], bytes], pause_seconds: float = 0) -> None:
    """Sends until the proxy hangs up; `data` is given how often it was asked."""
    for number in count():
        stream[1].write(data(number))
        await stream[1].drain()
        await asyncio.sleep(pause_seconds)


async def open_streams(to: Target, address: str) -> None:
    """250 requests at once, which the app does not answer."""
    fields = to.fields("/never")
    asked = [frame(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, fields) for at in range(250)]
    async with to.connected(address, "h2") as (reader, writer):
        writer.write(begin() + b"".join(asked))
        await read_all(reader)


async def resets(to: Target, address: str) -> None:
    """Requests that are taken back at once (CVE-2023-44487)."""
    fields = to.fields("/never")

    def fifty(number: int) -> bytes:
        return b"".join(
            frame(HEADERS, END_STREAM | END_HEADERS, at, fields) + frame(RST_STREAM, 0, at, CANCEL)
            for at in range(100 * number + 1, 100 * number + 101, 2)
        )

    async with to.connected(address, "h2") as (reader, writer), asyncio.TaskGroup() as tasks:
        writer.write(begin())
        tasks.create_task(read_all(reader))
        await send((reader, writer), fifty)


async def continuations(to: Target, address: str) -> None:
    """A head of which there is always more (CVE-2024-27316)."""
    more = frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 3000)
    async with to.connected(address, "h2") as stream:
        stream[1].write(begin() + frame(HEADERS, END_STREAM, 1, to.fields("/")))
        await send(stream, lambda _: more)


def unread(frames: bytes) -> "Flooding":
    """Frames that are to be answered, from somebody who reads no answer (CVE-2019-9512, -9515)."""

    async def flood(to: Target, address: str) -> None:
        async with to.connected(address, "h2") as stream:
            stream[1].write(begin())
            await send(stream, lambda _: frames)

    return flood


async def slow_heads(to: Target, address: str) -> None:
    """A byte of a request's head each second."""
    async with to.connected(address, "http/1.1") as stream:
        stream[1].write(to.head("/", more="X-Slow: "))
        await send(stream, lambda _: b"x", 1)


async def slow_bodies(to: Target, address: str) -> None:
    """A byte of a request's body each second."""
    async with to.connected(address, "http/1.1") as stream:
        stream[1].write(to.head("/", "POST", "Content-Length: 1000000\r\n\r\n"))
        await send(stream, lambda _: b"x", 1)


async def slow_reads(to: Target, address: str) -> None:
    """A large answer, of which nothing is read."""
    async with to.connected(address, "http/1.1") as (_, writer):
        writer.write(to.head("/forever"))
        await asyncio.Event().wait()


async def small_windows(to: Target, address: str) -> None:
    """Large answers to a hundred streams, a byte each second for all of them."""
    asked = [
        frame(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, to.fields("/forever"))
        for at in range(100)
    ]
    async with to.connected(address, "h2") as stream:
        stream[1].write(begin(window_bytes=1) + b"".join(asked))
        one_more = frame(WINDOW_UPDATE, 0, 0, (1).to_bytes(4, "big"))
        await send(stream, lambda _: one_more, 1)


async def idle(to: Target, address: str) -> None:
    """A connection to the port of TLS that says nothing."""
    silent = replace(to, plain_port=to.tls_port)
    async with silent.connected(address) as (reader, _):
        to.opened += 1
        await read_all(reader)


async def idle_tls(to: Target, address: str) -> None:
    """A connection of HTTP/2 that asks for nothing."""
    async with to.connected(address, "h2") as (reader, writer):
        writer.write(begin())
        await read_all(reader)


def asking(path: str) -> "Flooding":
    """Asks for this path, and reads whatever comes."""

    async def flood(to: Target, address: str) -> None:
        async with to.connected(address, "http/1.1") as (reader, writer):
            writer.write(to.head(path))
            await read_all(reader)

    return flood


async def unread_bodies(to: Target, address: str) -> None:
    """A body without an end, for an app that reads none."""
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    async with to.connected(address, "http/1.1") as stream:
        head = to.head("/unread", "POST", "Transfer-Encoding: chunked\r\n\r\n")
        stream[1].write(head)
        await send(stream, lambda _: chunk)


Flooding = Callable[[Target, str], Awaitable[None]]
FLOODS: dict[str, Flooding] = {
    "streams": open_streams,
    "resets": resets,
    "continuations": continuations,
    "settings": unread(frame(SETTINGS, 0, 0) * 1000),
    "pings": unread(frame(PING, 0, 0, b"12345678") * 1000),
    "slow-heads": slow_heads,
    "slow-bodies": slow_bodies,
    "slow-reads": slow_reads,
    "small-windows": small_windows,
    "idle": idle,
    "idle-tls": idle_tls,
    "hints": asking("/hints"),
    "never": asking("/never"),
    "forever": asking("/forever"),
    "unread-bodies": unread_bodies,
}


async def again(flood: Flooding, to: Target, address: str, failures: Counter[str]) -> None:
    """Keeps one connection in the flood."""
    while True:
        try:
            await flood(to, address)
        except* (OSError, asyncio.IncompleteReadError) as failed:
            failures[type(failed.exceptions[0]).__name__] += 1
        await asyncio.sleep(PAUSE_SECONDS)


async def main(flood: str, plain: str, tls: str, host: str, *sizes: str) -> None:
    """Floods for the time that was asked for, and hangs up everything at once."""
    addresses, connections, seconds = map(int, sizes)
    to, failures = Target(int(plain), int(tls), host), Counter[str]()
    flooding = [
        asyncio.create_task(again(FLOODS[flood], to, f"127.0.2.{at % addresses + 1}", failures))
        for at in range(connections)
    ]
    ended, _ = await asyncio.wait(flooding, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()
    print(json.dumps({"opened": to.opened, "failed": failures}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

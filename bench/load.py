"""A load generator: requests as ready bytes, over a few connections, each answer checked."""

import asyncio
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import uvloop

from measure import LOAD_CPU, cpu_seconds, on_cpu
from moorage.address import Address

CONNECTIONS = 32
_LONGEST_SECONDS = 120.0


@dataclass(frozen=True)
class Load:
    """What a server did with a number of requests."""

    requests: int
    seconds: float
    server_cpu_seconds: float

    @property
    def per_cpu_second(self) -> float:
        """Requests for each second of the server's processor time."""
        return self.requests / self.server_cpu_seconds


def request_bytes(
    method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, host: str = "bench"
) -> bytes:
    """One HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept: application/json"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def drive(
    port: int,
    pid: int,
    requests: Sequence[bytes],
    *,
    expect: int,
    connections: int = CONNECTIONS,
) -> Load:
    """Send all of `requests` to a server of this machine; each must be answered `expect`."""
    with on_cpu(LOAD_CPU):
        return uvloop.run(_drive(port, pid, requests, expect, connections))


async def _drive(
    port: int, pid: int, requests: Sequence[bytes], expect: int, connections: int
) -> Load:
    loop = asyncio.get_running_loop()
    waiting = iter(requests)
    status_line = b"HTTP/1.1 %d " % expect
    opened = [
        await loop.create_connection(lambda: _Connection(waiting, status_line), "127.0.0.1", port)
        for _ in range(connections)
    ]
    cpu, started = cpu_seconds(pid), time.perf_counter()
    async with asyncio.timeout(_LONGEST_SECONDS):
        for _, connection in opened:
            connection.send_next()
        await asyncio.gather(*(connection.done for _, connection in opened))
    seconds, used = time.perf_counter() - started, cpu_seconds(pid) - cpu
    for transport, _ in opened:
        transport.close()
    return Load(len(requests), seconds, used)


class _Connection(asyncio.Protocol):
    """Sends the next request when the last is answered."""

    def __init__(self, waiting: Iterator[bytes], status_line: bytes) -> None:
        self._waiting = waiting
        self._status_line = status_line
        self._received = b""
        self._missing = 0  # bytes of the answer under way
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass

    def send_next(self) -> None:
        """Send one more, or be done."""
        request = next(self._waiting, None)
        if request is None:
            self.done.set_result(None)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(self._status_line):
            self._fail(f"answered {self._received[:2000]!r}")
        elif len(body) >= content_length(head):
            self._received = b""
            self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended: {exc}")

    def _fail(self, problem: str) -> None:
        if not self.done.done():
            self.done.set_exception(AssertionError(problem))


def content_length(head: bytes) -> int:
    """What an answer's head says of its body."""
    name = b"\r\ncontent-length:"
    return int(head.lower().partition(name)[2].partition(b"\r\n")[0])


class Caller:
    """One kept-alive connection, used by one thread, one request at a time."""

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int] | str) -> None:
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(_LONGEST_SECONDS)
        self._socket.connect(address)
        self._file = self._socket.makefile("rb")

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer."""
        self._socket.sendall(request)
        return self.answer()

    def answer(self) -> tuple[int, bytes, bytes]:
        """The next answer. Raises ConnectionError when the server hangs up first."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            if not line:
                raise ConnectionError("the server hung up")
            head += line
        body = self._file.read(content_length(head)) if _has_length(head) else self._chunks()
        return int(head.split(maxsplit=2)[1]), head, body

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._file.readline().partition(b";")[0], 16):
            body += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return body


def _has_length(head: bytes) -> bool:
    return b"\r\ncontent-length:" in head.lower()


def app_at(address: Address | None) -> Caller:
    """A connection to an app's own address."""
    assert address is not None
    if address.path is not None:
        return Caller(socket.AF_UNIX, str(address.path))
    host, _, port = address.text.rpartition(":")
    return Caller(socket.AF_INET, (host, int(port)))


def tcp(port: int) -> Caller:
    """A connection to a port of this machine."""
    return Caller(socket.AF_INET, ("127.0.0.1", port))

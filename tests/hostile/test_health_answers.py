"""A health check asks an app, which may answer anything, for ever, or something and then die."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from moorage.address import Address
from moorage.errors import DeployFailed, FailureCause
from moorage.hosting.work.switch import wait_until_healthy

HEAD = b"HTTP/1.1 200 OK\r\n"
LIMIT_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
MIB = 1 << 20


def endless_headers(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(b"X-Filler: " + b"x" * 4096 + b"\r\n")


def one_endless_header(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"X-Filler: ")
    while True:
        connection.sendall(b"x" * 65_536)


def a_byte_a_time(connection: socket.socket) -> None:
    """Each byte in time, the answer never."""
    for byte in HEAD + b"X-Filler: " + b"x" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def endless_status_line(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 ")
    while True:
        connection.sendall(b"O" * 65_536)


def endless_interim_answers(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def no_http(connection: socket.socket) -> None:
    connection.sendall(os.urandom(65_536))


def nothing(connection: socket.socket) -> None:
    """Hangs up."""


UNHEALTHY = (
    endless_headers,
    one_endless_header,
    a_byte_a_time,
    endless_status_line,
    endless_interim_answers,
    no_http,
    nothing,
)


def gigabyte_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 1073741824\r\n\r\n")
    for _ in range(1024):
        connection.sendall(bytes(MIB))


def endless_chunks(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + bytes(65_536) + b"\r\n")


def compressed_bomb(connection: socket.socket) -> None:
    """Ten bytes of gzip's header, and zeros that never end."""
    connection.sendall(HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08" + bytes(7))
    while True:
        connection.sendall(bytes(65_536))


def answers_and_dies(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 100\r\n\r\nhalf")


HEALTHY = (gigabyte_body, endless_chunks, compressed_bomb, answers_and_dies)


class App:
    """Answers each request in its own manner, on a unix socket."""

    def __init__(self, path: Path, manner: Callable[[socket.socket], None]) -> None:
        self.asked: list[bytes] = []
        self._manner = manner
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection, suppress(OSError):
                    self.asked.append(connection.recv(65_536))
                    self._manner(connection)

    def close(self) -> None:
        """Answer no more."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(PATIENCE_SECONDS)


@contextmanager
def app(directory: Path, manner: Callable[[socket.socket], None]) -> Iterator[tuple[Path, App]]:
    path = directory / "app.sock"
    it = App(path, manner)
    try:
        yield path, it
    finally:
        it.close()


async def check(path: Path, *, within_seconds: float) -> None:
    async def lives() -> bool:
        return False

    healthy = wait_until_healthy(
        Address.unix(path),
        host="app.example",
        path="/",
        timeout_seconds=within_seconds,
        has_ended=lives,
    )
    await asyncio.wait_for(healthy, PATIENCE_SECONDS)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("manner", UNHEALTHY, ids=lambda it: it.__name__)
async def test_answer_that_is_none_fails_in_time_and_takes_no_memory(
    tmp_path: Path, manner: Callable[[socket.socket], None]
) -> None:
    before = resident_bytes()
    with app(tmp_path, manner) as (path, _), pytest.raises(DeployFailed) as failed:
        await check(path, within_seconds=LIMIT_SECONDS)
    assert failed.value.cause is FailureCause.UNHEALTHY
    assert len(failed.value.reason) < 1000
    assert resident_bytes() - before < 64 * MIB


@pytest.mark.parametrize("manner", HEALTHY, ids=lambda it: it.__name__)
async def test_body_is_neither_waited_for_nor_read(
    tmp_path: Path, manner: Callable[[socket.socket], None]
) -> None:
    before = resident_bytes()
    with app(tmp_path, manner) as (path, _):
        await check(path, within_seconds=PATIENCE_SECONDS / 2)
    assert resident_bytes() - before < 64 * MIB


@pytest.mark.parametrize("where", ["/again", "http://169.254.169.254/", "file:///etc/passwd"])
async def test_redirect_is_an_answer_and_is_not_followed(tmp_path: Path, where: str) -> None:
    def redirect(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {where}\r\n\r\n".encode())

    with app(tmp_path, redirect) as (path, it):
        await check(path, within_seconds=PATIENCE_SECONDS / 2)
    assert len(it.asked) == 1


async def test_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    """Whatever an app sends, others are served; measured is work, as waiting is the machine's."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.005)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    with app(tmp_path, endless_interim_answers) as (path, _), suppress(DeployFailed):
        await check(path, within_seconds=LIMIT_SECONDS)
    watching.cancel()
    assert 0 < longest < 0.5

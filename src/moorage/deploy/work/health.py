"""The health check: whether an app answers HTTP at its own address, before it gets traffic."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import httptools

from moorage.address import Address
from moorage.errors import DeployFailed, FailureCause

_FIRST_PAUSE_SECONDS = 0.005
_MAX_PAUSE_SECONDS = 0.5
_REQUEST_SECONDS = 10.0
_HEAD_BYTES = 64 * 1024  # of an answer, with the interim answers before it


class Healthy(Protocol):
    """The signature of `wait_until_healthy`."""

    async def __call__(
        self,
        address: Address,
        /,
        *,
        host: str,
        path: str,
        timeout_seconds: float,
        has_ended: Callable[[], Awaitable[bool]],
    ) -> None:
        """Returns when `GET path` of the host is answered with less than 500.

        Raises DeployFailed otherwise.
        """
        ...


async def wait_until_healthy(
    address: Address,
    *,
    host: str,
    path: str,
    timeout_seconds: float,
    has_ended: Callable[[], Awaitable[bool]],
) -> None:
    """Returns when `GET path` of the host, the app's own, is answered with less than 500.

    Raises DeployFailed(UNHEALTHY) when that does not happen in time, or when there is no answer
    and the app `has_ended`; its reason tells the last answer.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        seen = await _ask(address, host, path, min(_REQUEST_SECONDS, timeout_seconds))
        if isinstance(seen, int) and seen < 500:
            return
        late = loop.time() + pause > deadline
        if late or (isinstance(seen, str) and await has_ended()):
            raise _unhealthy(seen, path, timeout_seconds)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _MAX_PAUSE_SECONDS)


async def _ask(address: Address, host: str, path: str, timeout_seconds: float) -> int | str:
    """Returns the status of one answer, or a sentence on what went wrong."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _status(address, host, path)
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return f"no valid HTTP answer ({type(error).__name__})"


async def _status(address: Address, host: str, path: str) -> int | str:
    """Asks once. Reads no more than the head: the app's answer may have no end."""
    reader, writer = await address.connect(limit=_HEAD_BYTES)
    head = _Head()
    try:
        # HTTP/1.1 with the headers that clients send, as some apps need them.
        headers = f"Host: {host}\r\nAccept: */*\r\nConnection: close\r\n"
        request = f"GET {path} HTTP/1.1\r\n{headers}\r\n"
        writer.write(request.encode())
        read = 0
        while head.status is None and read < _HEAD_BYTES:
            piece = await reader.read(_HEAD_BYTES - read)
            if not piece:
                return "no valid HTTP answer (it hung up)"
            read += len(piece)
            head.take(piece)
    except httptools.HttpParserError as error:
        if head.status is None:
            return f"no valid HTTP answer ({type(error).__name__})"
    finally:
        writer.transport.abort()
    return head.status or "no valid HTTP answer (its head has no end)"


class _Head:
    """Parses an answer's head; `status` is set when the head is complete."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._parser = httptools.HttpResponseParser(self)

    def take(self, piece: bytes) -> None:
        """Parses the next bytes of the answer. Raises HttpParserError."""
        self._parser.feed_data(piece)

    def on_headers_complete(self) -> None:
        """Called by the parser, also for interim answers (1xx)."""
        status = self._parser.get_status_code()
        if status >= 200 and self.status is None:
            self.status = status


def _unhealthy(seen: int | str, path: str, timeout_seconds: float) -> DeployFailed:
    saw = f"it answered {seen}" if isinstance(seen, int) else seen
    return DeployFailed(
        FailureCause.UNHEALTHY,
        f"The app listens but GET {path} was not answered with a status below 500 within "
        f"{timeout_seconds:.0f} s: {saw}. Make GET {path} answer, or set another healthPath, then "
        "deploy again.",
    )

"""Whether an app answers HTTP: at its own address, before any traffic is sent there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import httptools

from moorage.address import Address
from moorage.errors import DeployFailed, FailureCause

_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.5
_REQUEST_SECONDS = 10.0
_HEAD_BYTES = 64 * 1024  # of an answer, and of interim ones before it


class Healthy(Protocol):
    """Returns when an app is well, else raises DeployFailed; as `wait_until_healthy`."""

    async def __call__(
        self,
        address: Address,
        /,
        *,
        path: str,
        timeout_seconds: float,
        has_ended: Callable[[], Awaitable[bool]],
    ) -> None:
        """Wait until `GET path` is answered well at the address."""
        ...


async def wait_until_healthy(
    address: Address, *, path: str, timeout_seconds: float, has_ended: Callable[[], Awaitable[bool]]
) -> None:
    """Return when `GET path` is answered with less than 500.

    Raises DeployFailed(UNHEALTHY) when that does not happen in time, or when there is no answer
    and the app `has_ended`; it says what came instead.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        seen = await _ask(address, path, min(_REQUEST_SECONDS, timeout_seconds))
        if isinstance(seen, int) and seen < 500:
            return
        late = loop.time() + pause > deadline
        if late or (isinstance(seen, str) and await has_ended()):
            raise _unhealthy(seen, path, timeout_seconds)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


async def _ask(address: Address, path: str, timeout_seconds: float) -> int | str:
    """The status of one answer, or what went wrong, in words."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _status(address, path)
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return f"no valid HTTP answer ({type(error).__name__})"


async def _status(address: Address, path: str) -> int | str:
    """Ask once. No more is read than a head may have: the app's answer may have no end."""
    reader, writer = await address.connect(limit=_HEAD_BYTES)
    head = _Head()
    try:
        # As HTTP/1.1, which apps know best; with Host, Accept and Connection as clients send them.
        request = f"GET {path} HTTP/1.1\r\nHost: app\r\nAccept: */*\r\nConnection: close\r\n\r\n"
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
    """The status of an answer, once all of its head is there."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._parser = httptools.HttpResponseParser(self)

    def take(self, piece: bytes) -> None:
        """More of the answer. Raises HttpParserError."""
        self._parser.feed_data(piece)

    def on_headers_complete(self) -> None:
        """Called by the parser, for interim answers too."""
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

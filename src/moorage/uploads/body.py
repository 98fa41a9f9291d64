"""Reads a request's body in small pieces, within the limits of size."""

import asyncio
from collections.abc import AsyncIterator, Callable

from moorage.errors import BodyTooLarge, InvalidRequest

_GATHERED = 16 * 1024  # smaller chunks are joined, so that no byte is scanned often
_PIECE = 16 * 1024  # bytes that are processed before other requests get their turn

Take = Callable[[bytes], None]


async def read_body(
    stream: AsyncIterator[bytes], take: Take, *, content_length: int | None, max_bytes: int
) -> None:
    """Passes the body that `stream` yields to `take`, piece by piece.

    `content_length` is what the client declared, if it did. Raises BodyTooLarge, before anything is
    read if too many bytes are declared; InvalidRequest when more or fewer than `content_length`
    bytes arrive; what `stream` and `take` raise.
    """
    _check_declared(content_length, max_bytes)
    received = 0
    chunks: list[bytes] = []
    gathered = 0
    async for chunk in stream:
        received += len(chunk)
        _check_received(received, content_length, max_bytes)
        chunks.append(chunk)
        gathered += len(chunk)
        if gathered >= _GATHERED:
            await in_pieces(b"".join(chunks), take)
            chunks.clear()
            gathered = 0
    if content_length is not None and received < content_length:
        raise InvalidRequest(
            f"The body ended after {received} of the {content_length} bytes of its "
            "Content-Length. Send it again."
        )
    if gathered:
        take(b"".join(chunks))


async def in_pieces(data: bytes, take: Take) -> None:
    """Passes `data` to `take` in pieces, and lets other requests run after each."""
    for start in range(0, len(data), _PIECE):
        take(data[start : start + _PIECE])
        await asyncio.sleep(0)


def _check_declared(content_length: int | None, max_bytes: int) -> None:
    if content_length is None:
        return
    if content_length < 0:
        raise InvalidRequest("Content-Length must not be negative.")
    if content_length > max_bytes:
        raise _too_large(max_bytes)


def _check_received(received: int, content_length: int | None, max_bytes: int) -> None:
    if received > max_bytes:
        raise _too_large(max_bytes)
    if content_length is not None and received > content_length:
        raise InvalidRequest(
            f"The body is longer than the {content_length} bytes of its Content-Length."
        )


def _too_large(max_bytes: int) -> BodyTooLarge:
    error = BodyTooLarge(
        f"The request body is too large: this gateway accepts at most {max_bytes} bytes."
    )
    error.of_upload = True
    return error

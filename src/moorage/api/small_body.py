"""Small bodies: JSON that is read whole, some kilobytes unless said otherwise."""

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import Request

from moorage.errors import BodyStalled, BodyTooLarge, InvalidField

MOST_BYTES = 16 * 1024
SECONDS = 10.0

_Body = TypeVar("_Body")


async def read_small(request: Request, *, most_bytes: int = MOST_BYTES) -> bytes:
    """The request's body. Raises BodyTooLarge, and BodyStalled after 10 seconds."""
    received = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for piece in request.stream():
                received += piece
                if len(received) > most_bytes:
                    raise BodyTooLarge
    except TimeoutError:
        raise BodyStalled from None
    return bytes(received)


def parse_small(body: bytes, kind: type[_Body]) -> _Body:
    """What its JSON says. Raises InvalidField."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidField("body", str(error)) from error

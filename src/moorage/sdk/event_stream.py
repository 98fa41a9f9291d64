"""Server-sent events, read from the bytes of an answer (HTML standard, 9.2.6)."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import NamedTuple

from moorage.sdk.errors import AnswerUnreadable

_LONGEST_LINE_BYTES = 1024 * 1024


class ServerEvent(NamedTuple):
    """One event; `id` is the last one that was sent, here or before."""

    kind: str
    data: str
    id: str


async def read_events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[ServerEvent, None]:
    """The events as they come. One without its blank line is dropped. Raises AnswerUnreadable."""
    fields: dict[str, str] = {}
    last_id = ""
    async for line in _lines(chunks):
        if not line:
            if "data" in fields:
                yield ServerEvent(fields.get("event", "message"), fields["data"], last_id)
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            last_id = value
        elif name == "data" and "data" in fields:
            fields["data"] += "\n" + value
        else:
            fields[name] = value


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """Without their ends: a line feed, after a carriage return or not."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE_BYTES:
            raise AnswerUnreadable("the stream has a line without an end")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")

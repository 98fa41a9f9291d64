"""Server-sent events from any chunks."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.sdk.errors import AnswerUnreadable
from moorage.sdk.transport import ServerEvent, read_events

STREAM = (
    b": hello\n\nid: 7\nevent: line\ndata: one\n\n"
    b"data:two\r\ndata\r\n\r\nid\nevent: end\ndata:  three\n\nevent: nothing\n\ndata: cut off"
)
EVENTS = [
    ServerEvent("line", "one", "7"),
    ServerEvent("message", "two\n", "7"),
    ServerEvent("end", " three", ""),
]


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@given(st.lists(st.integers(0, len(STREAM))))
async def test_events_are_the_same_in_any_chunks(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(places)]
    assert [event async for event in read_events(chunks(*pieces))] == EVENTS


async def test_line_without_end_is_refused() -> None:
    with pytest.raises(AnswerUnreadable):
        _ = [event async for event in read_events(chunks(*[b"x" * 65_536] * 17))]

"""Answers that go on for long end with the session that asked for them."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Message, Scope

from moorage.errors import DatabaseUnavailable
from moorage.pages.wallet.site import SessionStream

SCOPE: Scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}


class Browser:
    """Keeps what it was sent, and stays."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError("it never leaves")

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def content(self) -> bytes:
        return b"".join(each.get("body", b"") for each in self.messages)

    @property
    def is_done(self) -> bool:
        return self.messages[-1].get("more_body") is False


async def answer(lasting: SessionStream) -> Browser:
    browser = Browser()
    async with asyncio.timeout(10):
        await lasting(SCOPE, browser.receive, browser.send)
    return browser


async def endless(closed: asyncio.Event) -> AsyncIterator[bytes]:
    try:
        yield b"a line\n"
        await asyncio.Event().wait()
    finally:
        closed.set()


async def test_stream_ends_whole_once_its_session_has_ended() -> None:
    closed, answers = asyncio.Event(), [True, True, False]

    async def lasts() -> bool:
        return answers.pop(0)

    browser = await answer(
        SessionStream(StreamingResponse(endless(closed)), lasts, ask_seconds=0.001)
    )
    assert (browser.content, browser.is_done, answers) == (b"a line\n", True, [])
    assert closed.is_set()


async def test_stream_goes_on_while_it_is_not_known_whether_its_session_lasts() -> None:
    asked = 0

    async def lasts() -> bool:
        nonlocal asked
        asked += 1
        if asked < 5:
            raise DatabaseUnavailable("away")
        return False

    stream = StreamingResponse(endless(asyncio.Event()))
    assert (await answer(SessionStream(stream, lasts, ask_seconds=0.001))).is_done
    assert asked == 5


async def test_answer_that_ends_by_itself_is_sent_as_it_is() -> None:
    async def lines() -> AsyncIterator[bytes]:
        yield b"one\n"
        yield b"two\n"

    async def lasts() -> bool:
        raise AssertionError("it was over before anybody asked")

    browser = await answer(SessionStream(StreamingResponse(lines()), lasts, ask_seconds=60))
    assert (browser.content, browser.is_done) == (b"one\ntwo\n", True)

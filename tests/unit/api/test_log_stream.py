"""A log as a stream: whole, alive, bounded, and over when the log is."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from moorage.api import logs
from moorage.api.logs import Followers, LogStreamResponse, streamed
from moorage.engines.engine import Cursor, LogLine, LogPage
from moorage.errors import ClusterUnavailable, ContentUnavailable, TooManyStreams
from moorage.records.deployment import LogStream
from support.gateway.waiting import until

WALLET = "0xa"


class Log:
    """Lines that come while the test runs; cursors count them."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.over = False
        self.is_allowed = True
        self.endless = ""  # a line that is written as fast as it is read

    async def read(self, cursor: Cursor | None, limit: int) -> LogPage:
        begin = cursor or 0
        self.texts += [self.endless] if self.endless else []
        lines = tuple(
            LogLine(0, LogStream.OUT, text, number)
            for number, text in enumerate(self.texts[begin : begin + limit], begin + 1)
        )
        return LogPage(lines=lines, next=begin + len(lines))

    async def is_over(self) -> bool:
        return self.over

    async def lasts(self) -> bool:
        return self.is_allowed


class Client:
    """Reads a stream until it ends, or until it leaves."""

    def __init__(self, followers: Followers, log: Log) -> None:
        self.received = b""
        self.left = asyncio.Event()
        self._asked = False
        read = streamed(log.read)
        response = LogStreamResponse(
            followers, WALLET, read=read, is_over=log.is_over, lasts=log.lasts, kept=True
        )
        self.serving = asyncio.create_task(response({"type": "http"}, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.received += message.get("body", b"")

    async def leave(self) -> None:
        self.left.set()
        await self.serving


def line(number: int, text: str) -> bytes:
    data = b'{"time":null,"stream":"out","text":"%b"}' % text.encode()
    return b"id: %d\nevent: line\ndata: %b\n\n" % (number, data)


def whole(texts: Sequence[str]) -> bytes:
    return b"".join(line(number, text) for number, text in enumerate(texts, 1))


async def test_lines_come_as_they_are_written_and_end_with_the_log() -> None:
    log = Log("one", "two")
    client = Client(Followers(), log)
    await until(lambda: client.received == whole(["one", "two"]))
    log.texts.append("three")
    await until(lambda: client.received == whole(["one", "two", "three"]))
    log.texts.append("last")
    log.over = True
    await asyncio.wait_for(client.serving, 10)
    end = b'id: 4\nevent: end\ndata: {"next":"4","kept":true}\n\n'
    assert client.received == whole(["one", "two", "three", "last"]) + end


async def test_log_that_is_away_for_a_while_is_read_on_afterwards() -> None:
    log, away = Log("one"), [ContentUnavailable(), ClusterUnavailable()]

    async def read(cursor: Cursor | None, limit: int) -> LogPage:
        if cursor and away:
            raise away.pop()
        return await log.read(cursor, limit)

    async def receive() -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    received: list[bytes] = []

    async def send(message: Any) -> None:
        received.append(message.get("body", b""))
        log.over = True

    log.texts.append("two")
    response = LogStreamResponse(
        Followers(), WALLET, read=streamed(read), is_over=log.is_over, lasts=log.lasts, kept=True
    )
    async with asyncio.timeout(60):
        await response({"type": "http"}, receive, send)
    assert b"".join(received).startswith(whole(["one", "two"]))
    assert b"event: end" in b"".join(received)
    assert not away


async def test_quiet_stream_says_that_it_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "KEEP_ALIVE_SECONDS", 0.1)
    client = Client(Followers(), Log("one"))
    await until(lambda: client.received.count(b": keep-alive\n\n") >= 2)
    assert client.received.startswith(whole(["one"]))
    await client.leave()


async def test_gateway_that_stops_ends_all_streams_without_an_end_of_the_log() -> None:
    followers = Followers()
    clients = [Client(followers, Log("one")) for _ in range(3)]
    await until(lambda: all(client.received for client in clients))
    followers.end_all()
    async with asyncio.timeout(60):
        await asyncio.gather(*(client.serving for client in clients))
    assert not any(b"event: end" in client.received for client in clients)


async def test_one_wallet_has_so_many_streams_and_each_that_ends_frees_one() -> None:
    followers = Followers(limit_by_wallet=2)
    clients = [Client(followers, Log()) for _ in range(2)]
    with pytest.raises(TooManyStreams, match="Your wallet follows 2"):
        Client(followers, Log())
    followers.enter("0xb")
    await clients[0].leave()
    third = Client(followers, Log())
    for client in (clients[1], third):
        await client.leave()


async def test_all_wallets_together_have_so_many_streams() -> None:
    followers = Followers(limit=2)
    first = followers.enter("0xb")
    followers.enter("0xc")
    with pytest.raises(TooManyStreams):
        followers.enter("0xd")
    assert not first.is_set()
    followers.leave("0xb", first)
    followers.enter("0xd")


async def test_wallet_that_follows_most_makes_room_for_one_that_follows_fewer() -> None:
    followers = Followers(limit=4)
    greedy = [Client(followers, Log("one")) for _ in range(4)]
    await until(lambda: all(client.received for client in greedy))
    for newcomer in ("0xb", "0xc"):
        followers.enter(newcomer)
    await greedy[0].serving
    await greedy[1].serving
    assert not any(client.serving.done() for client in greedy[2:])
    with pytest.raises(TooManyStreams):
        followers.enter("0xb")  # as many as whoever has most
    for client in greedy[2:]:
        await client.leave()


async def test_slow_reader_is_waited_for_and_nothing_is_kept_for_it() -> None:
    log = Log("one")
    read = asyncio.Event()
    asked: list[int | None] = []

    async def counted(cursor: Cursor | None, limit: int) -> LogPage:
        asked.append(cursor)
        return await log.read(cursor, limit)

    async def send(_message: object) -> None:
        await read.wait()

    async def receive() -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    response = LogStreamResponse(
        Followers(),
        WALLET,
        read=streamed(counted),
        is_over=log.is_over,
        lasts=log.lasts,
        kept=True,
    )
    serving = asyncio.create_task(response({"type": "http"}, receive, send))
    await asyncio.sleep(0.5)
    assert len(asked) <= 1
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("endless", ["", "and on"], ids=["quiet", "busy"])
async def test_stream_is_cut_off_once_its_reader_may_read_no_more(endless: str) -> None:
    """Its project went to another wallet, or what its reader spoke by was ended."""
    log = Log("one")
    log.endless, log.is_allowed = endless, False
    client = Client(Followers(), log)
    await asyncio.wait_for(client.serving, 10)
    assert client.received.startswith(whole(["one"]))
    assert b"event: end" not in client.received

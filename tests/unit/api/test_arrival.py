"""Bodies on their way in, over a loop whose time a test moves: who is too slow, who goes."""

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Message, Receive, Scope, Send

from moorage.api.http.connections import (
    ARRIVAL,
    GRACE_SECONDS,
    MIN_BYTES_PER_SECOND,
    Arrival,
    Arrivals,
    PlaceLimits,
)
from moorage.api.http.request_context import HAS_PAID, WALLET
from moorage.api.operations import HttpApi, Pages, http_app
from moorage.auth.rate_limit import TrustedProxies
from moorage.errors import BodyStalled, MoorageError, UploadDisplaced
from moorage.uploads.room import Uploader

PROXY, PAYING = "10.0.0.1", "0xpaid"
SECOND = b"x" * MIN_BYTES_PER_SECOND
"""What has to come in a second."""


class MovableLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still until a test moves it."""

    seconds = 1_000.0

    def time(self) -> float:
        return self.seconds


def movable(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The test, over a `MovableLoop`."""

    def run() -> None:
        with asyncio.Runner(loop_factory=MovableLoop) as runner:
            runner.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def turns() -> None:
    """Let everything happen that is due."""
    for _ in range(20):
        await asyncio.sleep(0)


async def passes(seconds: float) -> None:
    """Time passes."""
    cast("MovableLoop", asyncio.get_running_loop()).seconds += seconds
    await turns()


def arrivals(limits: PlaceLimits | None = None) -> Arrivals:
    return Arrivals(TrustedProxies([PROXY]), limits)


class Client:
    """A client that sends a body, and the server that reads it."""

    def __init__(
        self, all_bodies: Arrivals, address: str = "192.0.2.1", *, wallet: str | None = None
    ) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        scope: Scope = {"headers": [], "client": (address, 1)}
        if wallet is not None:
            scope.update({WALLET: wallet, HAS_PAID: wallet == PAYING})
        self.arrival = all_bodies.begin(scope, self.messages.get)
        assert scope[ARRIVAL] is self.arrival
        self.received = 0

    def send(self, piece: bytes, *, more: bool = True) -> None:
        self.messages.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    async def read(self) -> int:
        """Reads to the end; how many bytes came."""
        while True:
            message = await self.arrival.receive()
            self.received += len(message["body"])
            if not message["more_body"]:
                return self.received

    async def reading(self) -> "asyncio.Task[int]":
        task = asyncio.create_task(self.read())
        await turns()
        return task


@movable
async def test_body_slower_than_that_ends_when_the_grace_is_used_up() -> None:
    client = Client(arrivals())
    reading = await client.reading()
    for _ in range(4):
        await passes(5)
        client.send(SECOND * 2)  # 3 s too little each time: of 15, 3 are left
        await turns()
    await passes(2.9)
    assert not reading.done()
    await passes(0.2)
    with pytest.raises(BodyStalled):
        await reading


@movable
async def test_time_that_the_server_takes_does_not_count() -> None:
    client = Client(arrivals())
    for _ in range(10):
        client.send(b"x")
        await client.arrival.receive()
        await passes(3600)  # the server works on it
    assert client.arrival.seconds_left == GRACE_SECONDS


@movable
async def test_bytes_that_wait_for_a_busy_server_are_not_late() -> None:
    client = Client(arrivals())
    reading = await client.reading()
    loop = asyncio.get_running_loop()
    # Both are due when the loop has its turn again, first the end of the grace.
    loop.call_at(loop.time() + GRACE_SECONDS + 0.1, client.send, b"all")
    await passes(GRACE_SECONDS + 2)
    assert not reading.done()
    client.send(b"", more=False)
    assert await reading == 3


@movable
async def test_body_that_is_there_needs_no_place() -> None:
    bodies = arrivals(PlaceLimits(strangers=1, one_uploader=1))
    slow = Client(bodies)
    reading = await slow.reading()
    await passes(GRACE_SECONDS - 1)
    for number in range(5):
        small = Client(bodies, f"192.0.2.{number + 2}")
        small.send(b"small", more=False)
        assert await small.read() == 5
        await turns()
    assert not reading.done()
    slow.send(b"done", more=False)
    assert await reading == 4


@movable
async def test_newcomer_takes_the_place_of_the_slowest() -> None:
    bodies = arrivals(PlaceLimits(strangers=2))
    slow, fast = Client(bodies, "192.0.2.1"), Client(bodies, "192.0.2.2")
    readings = [await slow.reading(), await fast.reading()]
    await passes(5)
    fast.send(SECOND * 5)
    await turns()

    newcomer = Client(bodies, "192.0.2.3")
    reading = await newcomer.reading()
    with pytest.raises(UploadDisplaced):
        await readings[0]
    for client, task in ((fast, readings[1]), (newcomer, reading)):
        client.send(b"", more=False)
        await task


@movable
async def test_place_is_free_once_the_body_is_there_or_refused() -> None:
    bodies = arrivals(PlaceLimits(strangers=1))
    first = Client(bodies)
    reading = await first.reading()
    first.send(b"", more=False)
    await reading
    second = Client(bodies, "192.0.2.2")
    waiting = await second.reading()
    second.arrival.end()  # it was refused
    await Client(bodies, "192.0.2.3").reading()
    assert not waiting.done()
    waiting.cancel()


@movable
async def test_one_that_gives_way_on_disk_ends_from_whatever_thread() -> None:
    client = Client(arrivals())
    reading = await client.reading()
    await asyncio.to_thread(client.arrival.displace)
    with pytest.raises(UploadDisplaced):
        await reading


def uploader(peer: str, forwarded: str | None = None, wallet: str | None = None) -> Uploader:
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    scope: Scope = {"headers": headers, "client": (peer, 1)}
    if wallet is not None:
        scope.update({WALLET: wallet, HAS_PAID: wallet == PAYING})
    return Arrival(arrivals(), scope, asyncio.Queue[Message]().get).identify()


async def test_body_is_its_wallets_if_that_paid_and_else_its_addresses() -> None:
    assert uploader(PROXY, "192.0.2.7") == Uploader("192.0.2.7", has_paid=False)
    assert uploader("192.0.2.8", "192.0.2.7") == Uploader("192.0.2.8", has_paid=False)
    assert uploader("192.0.2.8", wallet="0xnew") == Uploader("192.0.2.8", has_paid=False)
    assert uploader("2001:db8::1") == Uploader("2001:db8::/64", has_paid=False)
    assert uploader("192.0.2.8", wallet=PAYING) == Uploader(PAYING, has_paid=True)


@movable
async def test_forms_of_pages_keep_the_rate_of_other_bodies() -> None:
    ended: list[type[BaseException]] = []

    async def reads(_scope: Scope, receive: Receive, _send: Send) -> None:
        try:
            while (await receive())["more_body"]:
                pass
        except MoorageError as error:
            ended.append(type(error))

    api = SimpleNamespace(
        arrivals=arrivals(),
        documents=SimpleNamespace(apps=dict),
        exports=reads,
        room=lambda _kind: None,
    )
    app = http_app(cast("HttpApi", api), mcp=reads, pages=Pages(app=reads, prefixes=("/sign-in",)))
    messages: asyncio.Queue[Message] = asyncio.Queue()
    scope: Scope = {"path": "/sign-in", "headers": [], "client": ("192.0.2.1", 1)}
    asked = asyncio.ensure_future(app(scope, messages.get, cast("Send", None)))
    await turns()
    await passes(GRACE_SECONDS + 0.1)
    await asked
    assert ended == [BodyStalled]

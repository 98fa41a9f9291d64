"""Which questions of the proxy are held, and for how long."""

import asyncio
from collections import Counter

from starlette.requests import Request
from starlette.types import Message

from moorage.routing.waking import MOST_HELD, MOST_HELD_PER_HOST, Waking


class Visitor:
    """A client of the proxy that may hang up."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def _receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def ask(self, waking: Waking, host: str) -> int:
        request = Request({"type": "http", "method": "GET", "headers": []}, self._receive)
        return (await waking.answer(request, host)).status_code


class Dock:
    """Apps that wake when the test says."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.held: Counter[str] = Counter()

    async def wake(self, host: str) -> bool:
        self.held[host] += 1
        try:
            await self.ready.wait()
        finally:
            self.held[host] -= 1
        return host != "broken.localhost"


async def asked(waking: Waking, host: str, times: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(Visitor().ask(waking, host)) for _ in range(times)]
    for _ in range(3):  # each is a task that makes two more
        await asyncio.sleep(0)
    return tasks


async def test_question_is_answered_by_how_the_waking_ends() -> None:
    dock = Dock()
    waking = Waking(dock.wake)
    well = await asked(waking, "app.localhost", 1)
    broken = await asked(waking, "broken.localhost", 1)
    assert not well[0].done()
    dock.ready.set()
    assert (await well[0], await broken[0]) == (204, 404)


async def test_no_host_holds_more_than_its_share() -> None:
    dock = Dock()
    waking = Waking(dock.wake)
    held = await asked(waking, "app.localhost", MOST_HELD_PER_HOST)
    (refused,) = await asked(waking, "app.localhost", 1)
    assert refused.done()
    assert refused.result() == 404
    (other,) = await asked(waking, "other.localhost", 1)
    assert not other.done()
    dock.ready.set()
    assert {await task for task in [*held, other]} == {204}
    assert await Visitor().ask(waking, "app.localhost") == 204  # the places are free again


async def test_all_hosts_together_hold_no_more_than_the_most() -> None:
    dock = Dock()
    waking = Waking(dock.wake)
    tasks = []
    for number in range(MOST_HELD // MOST_HELD_PER_HOST):
        tasks += await asked(waking, f"app{number}.localhost", MOST_HELD_PER_HOST)
    (refused,) = await asked(waking, "one-more.localhost", 1)
    assert refused.done()
    assert refused.result() == 404
    dock.ready.set()
    assert {await task for task in tasks} == {204}


async def test_visitor_that_leaves_frees_its_place() -> None:
    dock, visitor = Dock(), Visitor()
    waking = Waking(dock.wake)
    leaving = asyncio.create_task(visitor.ask(waking, "app.localhost"))
    others = await asked(waking, "app.localhost", MOST_HELD_PER_HOST - 1)
    visitor.left.set()
    assert await leaving == 404
    await asyncio.sleep(0)
    assert dock.held["app.localhost"] == MOST_HELD_PER_HOST - 1
    (next_one,) = await asked(waking, "app.localhost", 1)
    assert not next_one.done()
    dock.ready.set()
    assert {await task for task in [*others, next_one]} == {204}

"""Which questions of the proxy are held, and for how long."""

import asyncio
from collections import Counter

import pytest

from moorage.routing import waking as module
from moorage.routing.waking import Question, Waking

NAMES = ("MAX_HELD", "MAX_HELD_PER_HOST", "MAX_HELD_PER_OWNER", "MAX_HELD_PER_VISITOR")
MAX_HELD, MAX_HELD_PER_HOST, MAX_HELD_PER_OWNER, MAX_HELD_PER_VISITOR = SMALL = tuple(
    getattr(module, name) // 16 for name in NAMES
)


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixteenth of each: thousands of waiting tasks show no more, and take seconds."""
    for name, places in zip(NAMES, SMALL, strict=True):
        monkeypatch.setattr(module, name, places)


class Visitor:
    """A client of the proxy that may hang up."""

    def __init__(self, address: str = "") -> None:
        self.left = asyncio.Event()
        self._address = address

    async def ask(self, waking: Waking, host: str) -> bool:
        return await waking.answer(Question(host, self._address), gone=self.left.wait)


class Dock:
    """Apps that wake when the test says: `<owner>-<name>.localhost`."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.held: Counter[str] = Counter()
        self.waking = Waking(self.wake, owner=self.owner, visitor=self.visitor)

    async def owner(self, host: str) -> str | None:
        return None if host.startswith("nobody") else host.partition("-")[0]

    def visitor(self, address: str) -> str | None:
        return address or None

    async def wake(self, host: str) -> bool:
        self.held[host] += 1
        try:
            await self.ready.wait()
        finally:
            self.held[host] -= 1
        return "broken" not in host


async def asked(
    waking: Waking, host: str, times: int = 1, *, address: str = ""
) -> list[asyncio.Task[bool]]:
    tasks = [asyncio.create_task(Visitor(address).ask(waking, host)) for _ in range(times)]
    for _ in range(4):  # each is a task that makes three more
        await asyncio.sleep(0)
    return tasks


async def fill(dock: Dock) -> list[asyncio.Task[bool]]:
    """All places, taken by as few owners as can."""
    tasks = []
    for owner in range(MAX_HELD // MAX_HELD_PER_OWNER):
        for app in range(MAX_HELD_PER_OWNER // MAX_HELD_PER_HOST):
            host = f"owner{owner}-app{app}.localhost"
            tasks += await asked(dock.waking, host, MAX_HELD_PER_HOST)
    assert not any(task.done() for task in tasks)
    return tasks


async def test_question_is_answered_by_how_the_waking_ends() -> None:
    dock = Dock()
    (well,) = await asked(dock.waking, "some-app.localhost")
    (broken,) = await asked(dock.waking, "some-broken.localhost")
    assert not well.done()
    assert dock.held["some-app.localhost"] == 1
    dock.ready.set()
    assert (await well, await broken) == (True, False)


async def test_host_of_nobody_is_answered_at_once_and_asked_of_nobody() -> None:
    dock = Dock()
    assert await Visitor().ask(dock.waking, "nobody.localhost") is False
    assert dock.held == {}


async def test_no_host_holds_more_than_its_share() -> None:
    dock = Dock()
    held = await asked(dock.waking, "some-app.localhost", MAX_HELD_PER_HOST)
    (refused,) = await asked(dock.waking, "some-app.localhost")
    assert refused.result() is False
    (other,) = await asked(dock.waking, "some-other.localhost")
    assert not other.done()
    dock.ready.set()
    assert {await task for task in [*held, other]} == {True}
    assert await Visitor().ask(dock.waking, "some-app.localhost") is True  # free again


async def test_apps_of_one_owner_hold_no_more_than_its_share() -> None:
    dock = Dock()
    held = []
    for app in range(MAX_HELD_PER_OWNER // 8):
        held += await asked(dock.waking, f"one-app{app}.localhost", 8)
    (refused,) = await asked(dock.waking, "one-more.localhost")
    (other,) = await asked(dock.waking, "two-app.localhost")
    assert refused.result() is False
    assert not other.done()
    dock.ready.set()
    assert {await task for task in [*held, other]} == {True}


async def test_one_address_holds_no_more_than_its_share_and_an_unknown_one_any() -> None:
    dock = Dock()
    held = await asked(
        dock.waking, "one-app.localhost", MAX_HELD_PER_VISITOR, address="203.0.113.1"
    )
    (refused,) = await asked(dock.waking, "two-app.localhost", address="203.0.113.1")
    assert refused.result() is False
    held += await asked(dock.waking, "two-app.localhost", address="203.0.113.2")
    held += await asked(dock.waking, "two-app.localhost", MAX_HELD_PER_VISITOR + 1)
    assert not any(task.done() for task in held)
    dock.ready.set()
    assert {await task for task in held} == {True}


async def test_newcomer_gets_a_place_of_the_owner_who_has_most() -> None:
    dock = Dock()
    tasks = await fill(dock)
    newcomers = await asked(dock.waking, "neighbour-app.localhost", 10)
    assert not any(task.done() for task in newcomers)
    displaced = [task for task in tasks if task.done()]
    assert [task.result() for task in displaced] == [False] * 10
    dock.ready.set()
    assert {await task for task in newcomers} == {True}


async def test_who_has_as_many_as_anybody_takes_nobodys_place() -> None:
    dock = Dock()
    tasks = await fill(dock)
    share = MAX_HELD // (MAX_HELD // MAX_HELD_PER_OWNER + 1)
    newcomers = []
    for app in range(2):
        newcomers += await asked(dock.waking, f"new-app{app}.localhost", MAX_HELD_PER_HOST)
    held = [task for task in newcomers if not task.done()]
    assert share - 1 <= len(held) <= share
    assert sum(not task.done() for task in [*tasks, *newcomers]) == MAX_HELD
    dock.ready.set()
    assert {await task for task in held} == {True}


async def test_app_is_woken_for_who_is_not_held() -> None:
    dock = Dock()
    address = "203.0.113.1"
    held = await asked(dock.waking, "one-app.localhost", MAX_HELD_PER_VISITOR, address=address)
    refused = await asked(dock.waking, "two-app.localhost", 3, address=address)
    assert [task.result() for task in refused] == [False] * 3
    assert dock.held["two-app.localhost"] == 1  # once, however many ask
    dock.ready.set()
    await asyncio.gather(*held)


async def test_visitor_that_leaves_frees_its_place() -> None:
    dock, visitor = Dock(), Visitor()
    leaving = asyncio.create_task(visitor.ask(dock.waking, "some-app.localhost"))
    others = await asked(dock.waking, "some-app.localhost", MAX_HELD_PER_HOST - 1)
    visitor.left.set()
    assert await leaving is False
    await asyncio.sleep(0)
    assert dock.held["some-app.localhost"] == MAX_HELD_PER_HOST - 1
    (next_one,) = await asked(dock.waking, "some-app.localhost")
    assert not next_one.done()
    dock.ready.set()
    assert {await task for task in [*others, next_one]} == {True}

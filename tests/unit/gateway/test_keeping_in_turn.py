"""The turn to keep the apps: who cannot keep them leaves them to others, and serves on."""

import asyncio
from pathlib import Path

import pytest

from moorage.errors import IsolationMissing
from moorage.gateway.several.turns import FIRST_PAUSE_SECONDS, FileLock, done_before, take_turns


class Gateway:
    """A gateway that tells what it does; its turns, pauses and failures are the test's."""

    def __init__(self, lock: FileLock) -> None:
        self.lock = lock
        self.did: list[str] = []
        self.failures: list[Exception] = []
        self.pauses: list[float] = []
        self.stop = asyncio.Event()
        self.serves = asyncio.Event()
        self.lost = asyncio.Event()

    async def take(self) -> bool:
        return await self.lock.take()

    @property
    def holds(self) -> bool:
        return not self.lost.is_set()

    async def until_lost(self) -> None:
        await self.lost.wait()

    async def give_back(self) -> None:
        self.did.append("gives back")
        await self.lock.give_back()

    async def beside(self, over: asyncio.Event) -> None:
        await self._serve("beside", over)

    async def keep(self, over: asyncio.Event) -> None:
        if self.failures:
            raise self.failures.pop()
        await self._serve("keeps", over)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def run(self) -> None:
        await take_turns(self, beside=self.beside, keep=self.keep, stop=self.stop, pause=self.pause)

    async def until(self, what: str) -> None:
        while not self.did or self.did[-1] != what:
            self.serves.clear()
            await self.serves.wait()

    async def _serve(self, what: str, over: asyncio.Event) -> None:
        self.did.append(what)
        self.serves.set()
        await over.wait()


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(FileLock(tmp_path / "lock"))


@pytest.fixture
def another(tmp_path: Path) -> FileLock:
    return FileLock(tmp_path / "lock")


async def test_gateway_serves_beside_until_the_turn_is_free(
    gateway: Gateway, another: FileLock
) -> None:
    assert await another.take()
    running = asyncio.create_task(gateway.run())
    await gateway.until("beside")
    another.close()
    await gateway.until("keeps")
    gateway.stop.set()
    await running
    assert gateway.did == ["beside", "keeps"]


async def test_gateway_that_cannot_keep_the_apps_gives_the_turn_back_and_serves_on(
    gateway: Gateway, another: FileLock
) -> None:
    gateway.failures = [IsolationMissing(("bwrap",)), OSError("full"), IsolationMissing(("nft",))]
    running = asyncio.create_task(gateway.run())
    await gateway.until("keeps")
    assert gateway.did == ["gives back", "beside"] * 3 + ["keeps"]
    assert gateway.pauses == [FIRST_PAUSE_SECONDS * factor for factor in (1, 2, 4)]
    assert not await another.take()
    gateway.stop.set()
    await running


async def test_another_may_keep_the_apps_while_one_that_cannot_waits(
    gateway: Gateway, another: FileLock
) -> None:
    waits = asyncio.Event()

    async def pause(_: float) -> None:
        waits.set()
        await asyncio.Event().wait()

    gateway.failures = [IsolationMissing(("bwrap",))]
    running = asyncio.create_task(
        take_turns(
            gateway, beside=gateway.beside, keep=gateway.keep, stop=gateway.stop, pause=pause
        )
    )
    await waits.wait()
    assert await another.take()
    gateway.stop.set()
    await running
    assert gateway.did == ["gives back", "beside"]


async def test_gateway_that_loses_the_turn_serves_beside_the_next(
    gateway: Gateway, another: FileLock
) -> None:
    running = asyncio.create_task(gateway.run())
    await gateway.until("keeps")
    await gateway.lock.give_back()
    assert await another.take()
    gateway.lost.set()
    await gateway.until("beside")
    gateway.stop.set()
    await running
    assert gateway.did == ["keeps", "beside"]


async def test_what_fails_while_the_apps_are_kept_ends_the_gateway(gateway: Gateway) -> None:
    """Its processes are as they were: only a new start knows more."""
    gateway.failures = [ExceptionGroup("running", [ValueError("broken")])]
    with pytest.raises(ExceptionGroup):
        await gateway.run()


async def test_what_is_done_before_serving_ends_when_the_gateway_is_to_stop() -> None:
    stop, begun, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def without_end() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    working = asyncio.create_task(done_before(stop, without_end()))
    await begun.wait()
    stop.set()
    assert not await working
    assert ended.is_set()


async def test_what_is_done_before_serving_is_waited_for_and_raises_what_it_raises() -> None:
    async def fail() -> None:
        raise IsolationMissing(("it",))

    assert await done_before(asyncio.Event(), asyncio.sleep(0))
    with pytest.raises(IsolationMissing):
        await done_before(asyncio.Event(), fail())

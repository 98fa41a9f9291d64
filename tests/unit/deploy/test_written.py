"""Asking what apps have written: seldom, briefly, and never in a request's way."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from moorage.deploy.entrance.written import Written
from moorage.engines.engine import WrittenFiles
from support.gateway.clock import MovableClock
from support.gateway.fakes import FakeRuntime
from support.gateway.waiting import until

TWO = WrittenFiles(files=2, size_bytes=10, complete=True)
ONE = WrittenFiles(files=1, size_bytes=10, complete=True)


class Slow(FakeRuntime):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()

    async def written(self, deployment_id: str) -> WrittenFiles | None:
        self.asked.append(deployment_id)
        await self.may_answer.wait()
        return self.wrote[deployment_id]


@pytest.fixture
async def engine() -> AsyncIterator[Slow]:
    slow = Slow()
    slow.wrote = {"first": TWO}
    yield slow
    slow.may_answer.set()


async def test_many_ask_and_the_engine_is_asked_once_in_ten_seconds(
    engine: Slow, clock: MovableClock
) -> None:
    written = Written(engine, clock, wait_seconds=60)
    engine.may_answer.set()
    assert await asyncio.gather(*(written.by("first") for _ in range(20))) == [TWO] * 20
    engine.wrote = {"first": ONE}
    assert await written.by("first") == TWO
    assert engine.asked == ["first"]
    clock.advance(10_000)
    assert await written.by("first") == ONE
    assert engine.asked == ["first", "first"]


async def test_deploy_that_may_lose_files_is_told_what_there_is_at_that_moment(
    engine: Slow, clock: MovableClock
) -> None:
    written = Written(engine, clock, wait_seconds=60)
    engine.may_answer.set()
    assert await written.by("first") == TWO
    engine.wrote = {"first": ONE}
    assert await written.by("first") == TWO
    assert await written.by("first", freshly=True) == ONE
    assert await written.by("first") == ONE


async def test_engine_that_takes_long_is_not_waited_for_nor_asked_again(
    engine: Slow, clock: MovableClock
) -> None:
    written = Written(engine, clock, wait_seconds=0)
    assert await written.by("first") is None
    clock.advance(60_000)
    assert await written.by("first") is None
    assert engine.asked == ["first"]


async def test_costly_look_is_kept_two_hundred_times_as_long_as_it_took(
    engine: Slow, clock: MovableClock
) -> None:
    written = Written(engine, clock, wait_seconds=60)
    asking = asyncio.create_task(written.by("first"))
    await until(lambda: bool(engine.asked))
    clock.advance(250)
    engine.may_answer.set()
    assert await asking == TWO
    clock.advance(49_999)
    await written.by("first")
    assert engine.asked == ["first"]
    clock.advance(1)
    await written.by("first")
    assert engine.asked == ["first", "first"]


async def test_few_are_looked_at_at_once(engine: Slow, clock: MovableClock) -> None:
    written = Written(engine, clock, wait_seconds=0)
    for each in range(20):
        assert await written.by(str(each)) is None
    assert len(engine.asked) == 2
    engine.wrote = {str(each): ONE for each in range(20)}


async def test_what_cannot_be_told_is_unknown(clock: MovableClock) -> None:
    class Broken(FakeRuntime):
        async def written(self, deployment_id: str) -> WrittenFiles | None:
            raise OSError(deployment_id)

    assert await Written(Broken(), clock, wait_seconds=60).by("first") is None
    assert await Written(FakeRuntime(), clock).by(None) is None

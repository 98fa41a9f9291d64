"""A copy of the cluster's objects is as old as its last whole list, and not believed for long."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from moorage.engines.kubernetes.cluster.client import PODS, Change, Gone, Listed, Resource, batches
from moorage.engines.kubernetes.cluster.mirror import Mirror
from moorage.engines.kubernetes.objects.pod import Manifest
from moorage.errors import ClusterUnavailable
from support.gateway.clock import MovableClock
from support.gateway.waiting import until


async def given(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def lines(*chunks: bytes, max_bytes: int = 8) -> list[bytes]:
    found = [batch async for batch in batches(given(*chunks), max_bytes=max_bytes)]
    return [line for batch in found for line in batch]


async def test_lines_are_whole_however_they_come() -> None:
    assert await lines(b"on", b"e\ntwo\n\nth", b"ree") == [b"one", b"two", b"", b"three"]


async def test_line_is_read_up_to_a_bound_in_however_many_pieces_it_comes() -> None:
    for pieces in ((b"123456789abc\nnext\n",), (b"12345678", b"9ab", b"c\nnext\n")):
        assert await lines(*pieces) == [b"12345678", b"next"]


async def test_line_that_never_ends_is_not_kept() -> None:
    assert await lines(*[b"endless "] * 1000, max_bytes=20) == [b"endless endless endl"]


def pod(name: str, version: int, *, colour: str = "red") -> Manifest:
    return {
        "metadata": {"namespace": "ns", "name": name, "resourceVersion": str(version)},
        "colour": colour,
    }


class Scripted:
    """A cluster of which a test says what it answers."""

    def __init__(self) -> None:
        self.items: list[Manifest] = []
        self.version = 10
        self.fault: Exception | None = None
        self.lists = 0
        self.watches: list[str] = []
        self.asked: list[Mapping[str, str] | None] = []
        self.events: asyncio.Queue[Change | Exception | None] = asyncio.Queue()

    async def list(
        self, resource: Resource, *, namespace: str = "", labels: Mapping[str, str] | None = None
    ) -> Listed:
        self.lists += 1
        self.asked.append(labels)
        if self.fault is not None:
            raise self.fault
        return Listed(items=list(self.items), version=str(self.version))

    async def watch(
        self,
        resource: Resource,
        *,
        labels: Mapping[str, str],
        version: str,
        seconds: int,
        silence_seconds: float,
    ) -> AsyncGenerator[Change, None]:
        self.watches.append(version)
        while (event := await self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    def tell(self, kind: str, manifest: Manifest) -> None:
        self.events.put_nowait(Change(type=kind, object=manifest))


class Seen:
    """A mirror, and what it has told."""

    def __init__(self, **times: float) -> None:
        self.source, self.clock = Scripted(), MovableClock()
        self.told: list[tuple[Any, Any]] = []
        self.mirror: Mirror[str] = Mirror(
            self.source,
            PODS,
            labels={"app": "x"},
            parse=lambda manifest: f"{manifest['metadata']['name']} {manifest['colour']}",
            changed=lambda before, after: self.told.append((before, after)),
            clock=self.clock,
            **times,
        )

    def held(self) -> set[str]:
        return set(self.mirror)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.mirror.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def seen() -> Seen:
    return Seen()


async def becomes(seen: Seen, *expected: str) -> None:
    await until(lambda: seen.held() == set(expected))


async def test_copy_that_was_never_listed_answers_nothing(seen: Seen) -> None:
    with pytest.raises(ClusterUnavailable):
        seen.held()


async def test_changes_of_a_watch_are_taken_in(seen: Seen) -> None:
    seen.source.items = [pod("one", 1), pod("two", 2)]
    async with seen.running():
        await until(lambda: bool(seen.source.watches))
        seen.source.tell("MODIFIED", pod("one", 11, colour="blue"))
        seen.source.tell("ADDED", pod("three", 12))
        seen.source.tell("DELETED", pod("two", 13))
        await becomes(seen, "one blue", "three red")
    assert seen.told == [
        (None, "one red"),
        (None, "two red"),
        ("one red", "one blue"),
        (None, "three red"),
        ("two red", None),
    ]
    assert seen.source.watches == ["10"]


async def test_older_state_never_replaces_a_newer_one(seen: Seen) -> None:
    seen.source.items = [pod("one", 7)]
    await seen.mirror.relist()
    seen.mirror.put(pod("one", 12, colour="blue"))
    seen.mirror.put(pod("one", 9, colour="green"))
    await seen.mirror.relist()  # begun before what was put
    assert seen.held() == {"one blue"}


async def test_object_made_after_a_list_outlives_that_list(seen: Seen) -> None:
    await seen.mirror.relist()
    seen.mirror.put(pod("own", 11))
    await seen.mirror.relist()  # of version 10: it can't have the object yet
    assert seen.held() == {"own red"}
    seen.source.version = 12
    await seen.mirror.relist()
    assert seen.held() == set()


async def test_end_of_an_object_takes_out_none_that_was_made_anew_since(seen: Seen) -> None:
    seen.source.items = [pod("one", 1)]
    async with seen.running():
        await until(lambda: bool(seen.source.watches))
        seen.mirror.put(pod("one", 13, colour="new"))
        seen.source.tell("DELETED", pod("one", 12))
        seen.source.tell("ADDED", pod("last", 14))
        await becomes(seen, "one new", "last red")
    assert ("one new", None) not in seen.told


async def test_watch_goes_on_where_the_last_one_was_cut(seen: Seen) -> None:
    async with seen.running():
        await until(lambda: bool(seen.source.watches))
        seen.source.tell("ADDED", pod("one", 11))
        seen.source.events.put_nowait(ClusterUnavailable())
        await until(lambda: len(seen.source.watches) == 2)
        seen.source.tell("BOOKMARK", pod("", 20))
        seen.source.events.put_nowait(None)
        await until(lambda: len(seen.source.watches) == 3)
    assert seen.source.watches == ["10", "11", "20"]
    assert seen.source.lists == 1


async def test_forgotten_version_makes_a_new_list(seen: Seen) -> None:
    async with seen.running():
        await until(lambda: bool(seen.source.watches))
        seen.source.version, seen.source.items = 50, [pod("new", 40)]
        seen.source.events.put_nowait(Gone("too old", reason="Expired"))
        await becomes(seen, "new red")
        await until(lambda: len(seen.source.watches) == 2)
    assert seen.source.watches == ["10", "50"]


async def test_frozen_watch_is_found_out_by_the_next_list() -> None:
    seen = Seen(relist_seconds=0.0)
    seen.source.items = [pod("one", 1)]
    async with seen.running():
        await until(lambda: bool(seen.source.watches))
        seen.source.items, seen.source.version = [pod("two", 30)], 31  # and the watch says nothing
        await becomes(seen, "two red")


async def test_copy_is_not_believed_beyond_its_age(seen: Seen) -> None:
    seen.source.items = [pod("one", 1)]
    await seen.mirror.relist()
    seen.clock.advance(90_000)
    assert seen.held() == {"one red"}
    seen.mirror.put(pod("one", 99))  # news of one object say nothing of the others
    seen.clock.advance(1)
    for ask in (seen.held, lambda: seen.mirror.get(("ns", "one"))):
        with pytest.raises(ClusterUnavailable):
            ask()


async def test_age_counts_from_before_the_list_was_asked_for(seen: Seen) -> None:
    listing = seen.source.list

    async def slowly(*args: Any, **named: Any) -> Listed:
        listed = await listing(*args, **named)
        seen.clock.advance(60_000)
        return listed

    seen.source.list = slowly  # type: ignore[method-assign]
    await seen.mirror.relist()
    seen.clock.advance(30_001)
    with pytest.raises(ClusterUnavailable):
        seen.held()


async def test_failed_lists_end_in_not_known_and_the_next_one_mends_it() -> None:
    seen = Seen(relist_seconds=0.0)
    seen.source.items = [pod("one", 1)]
    await seen.mirror.relist()
    seen.source.fault = ClusterUnavailable()
    async with seen.running():
        lists = seen.source.lists
        await until(lambda: seen.source.lists > lists + 1)
        assert seen.held() == {"one red"}
        seen.clock.advance(91_000)
        with pytest.raises(ClusterUnavailable):
            seen.held()
        seen.source.fault = None
        await until(known(seen))
        assert seen.held() == {"one red"}


def known(seen: Seen) -> Callable[[], bool]:
    def holds() -> bool:
        try:
            seen.mirror.require_fresh()
        except ClusterUnavailable:
            return False
        return True

    return holds


async def test_object_that_cannot_be_read_does_not_end_the_following(seen: Seen) -> None:
    async with seen.running():
        await until(lambda: bool(seen.source.watches))
        seen.source.items = [pod("one", 30)]
        seen.source.version = 31
        seen.source.tell("ADDED", {"metadata": {}})
        await becomes(seen, "one red")


async def test_look_asks_for_some_alone_and_takes_out_what_is_gone(seen: Seen) -> None:
    seen.source.items = [pod("one", 1), pod("two", 2), pod("three", 3)]
    await seen.mirror.relist()
    seen.source.items, seen.source.version = [pod("one", 30, colour="blue")], 31
    await seen.mirror.refresh(
        namespace="ns", labels={"of": "y"}, known=[("ns", "one"), ("ns", "two")]
    )
    assert seen.held() == {"one blue", "three red"}
    assert seen.source.asked[-1] == {"app": "x", "of": "y"}

"""Which apps' ends the kernel has yet to report, so that nobody needs to look for them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorage.engines.host.processes import ExitWatcher


@pytest.fixture
def ended() -> "asyncio.Queue[str]":
    return asyncio.Queue()


@pytest.fixture
async def watcher(ended: "asyncio.Queue[str]") -> AsyncIterator[ExitWatcher]:
    opened = ExitWatcher(ended.put_nowait)
    opened.open()
    yield opened
    opened.close()


async def test_end_is_awaited_until_whoever_writes_the_status_is_gone(
    watcher: ExitWatcher, ended: "asyncio.Queue[str]", tmp_path: Path
) -> None:
    status = tmp_path / "status"
    with status.open("w"):
        watcher.watch("app", status)
        assert watcher.awaits("app")
    async with asyncio.timeout(60):
        assert await ended.get() == "app"
    assert not watcher.awaits("app")


async def test_app_whose_end_was_reported_is_awaited_again_once_it_is_started(
    watcher: ExitWatcher, ended: "asyncio.Queue[str]", tmp_path: Path
) -> None:
    status = tmp_path / "status"
    for _ in range(2):
        with status.open("w"):
            watcher.watch("app", status)
            assert watcher.awaits("app")
        async with asyncio.timeout(60):
            await ended.get()
        assert not watcher.awaits("app")


async def test_app_that_is_not_watched_must_be_looked_at(
    watcher: ExitWatcher, tmp_path: Path
) -> None:
    watcher.watch("app", tmp_path / "removed meanwhile")
    assert not watcher.awaits("app")
    assert not watcher.awaits("another")

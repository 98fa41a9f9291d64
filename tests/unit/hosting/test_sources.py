"""Files of deployments: kept before they are promised, found by every gateway, swept."""

import os
import time
from pathlib import Path

import pytest

from moorage.content.store import DirectoryStore
from moorage.errors import ContentUnavailable
from moorage.hosting.sources import Sources
from moorage.uploads.reader import Upload
from moorage.uploads.room import Content, Spool

ID = "6d3c9d52-2f47-4a07-9cdb-6a34e5e8a001"


class StoreAway(DirectoryStore):
    """A store that cannot be reached while `is_away`."""

    is_away = False

    async def put(self, key: str, source: Path) -> None:
        self._fail()
        await super().put(key, source)

    async def get(self, key: str, target: Path) -> None:
        self._fail()
        await super().get(key, target)

    async def delete(self, key: str) -> None:
        self._fail()
        await super().delete(key)

    def _fail(self) -> None:
        if self.is_away:
            raise ContentUnavailable


@pytest.fixture
def store(tmp_path: Path) -> StoreAway:
    (tmp_path / "store").mkdir()
    return StoreAway(tmp_path / "store")


def of_gateway(tmp_path: Path, name: str, store: DirectoryStore | None) -> Sources:
    directory = tmp_path / name
    directory.mkdir()
    return Sources(directory, store)


def upload(tmp_path: Path) -> Upload:
    contents = {
        "index.js": Content(5, b"hello"),
        "bin/run": Content(9, b"#!/bin/sh", executable=True),
    }
    return Upload(contents, Spool(tmp_path / "spool", memory_bytes=1 << 20))


def laid_down(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(directory).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in directory.rglob("*")
        if path.is_file()
    }


async def test_another_gateway_fetches_what_one_has_admitted(
    tmp_path: Path, store: StoreAway
) -> None:
    first, second = (of_gateway(tmp_path, name, store) for name in ("first", "second"))
    await first.keep(ID, upload(tmp_path))
    assert await second.exists(ID)
    assert await second.fetch(ID)

    assert laid_down(second.path(ID)) == {
        "index.js": (b"hello", 0o644),
        "bin/run": (b"#!/bin/sh", 0o755),
    }
    assert second.path(ID).stat().st_mode & 0o777 == 0o700
    assert second.here() == [ID]

    await second.drop(ID)
    assert not await first.exists(ID)
    assert not await second.fetch(ID)


async def test_gateway_alone_keeps_files_in_its_directory_only(tmp_path: Path) -> None:
    alone = of_gateway(tmp_path, "alone", None)
    assert not await alone.fetch(ID)
    await alone.keep(ID, upload(tmp_path))
    assert await alone.fetch(ID)
    assert [path.name for path in (tmp_path / "alone").iterdir()] == [ID]
    await alone.drop(ID)
    assert list((tmp_path / "alone").iterdir()) == []


async def test_store_that_is_away_is_not_taken_for_one_without_the_files(
    tmp_path: Path, store: StoreAway
) -> None:
    first, second = (of_gateway(tmp_path, name, store) for name in ("first", "second"))
    await first.keep(ID, upload(tmp_path))
    store.is_away = True
    with pytest.raises(ContentUnavailable):
        await second.fetch(ID)
    await second.drop(ID)  # tries, and leaves it to the sweep
    store.is_away = False
    assert await second.fetch(ID)


async def test_nothing_is_promised_when_the_store_did_not_take_the_files(
    tmp_path: Path, store: StoreAway
) -> None:
    sources = of_gateway(tmp_path, "one", store)
    store.is_away = True
    with pytest.raises(ContentUnavailable):
        await sources.keep(ID, upload(tmp_path))
    await sources.drop(ID)
    assert list((tmp_path / "one").iterdir()) == []


async def test_old_files_are_told_wherever_they_lie(tmp_path: Path, store: StoreAway) -> None:
    first, second = (of_gateway(tmp_path, name, store) for name in ("first", "second"))
    await first.keep(ID, upload(tmp_path))
    left = tmp_path / "second" / "crashed.draft.tar"
    left.touch()
    assert await second.older(min_age_seconds=3600) == []

    past = time.time() - 7200
    for path in (left, tmp_path / "store" / "sources" / ID):
        os.utime(path, (past, past))
    assert await second.older(min_age_seconds=3600) == [ID, "crashed.draft.tar"]
    for name in await second.older(min_age_seconds=3600):
        await second.drop(name)
    assert not left.exists()
    assert not await first.exists(ID)

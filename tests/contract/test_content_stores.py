"""What every content store does, in a directory and in S3."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from moorage.content.s3 import S3Store
from moorage.content.store import ContentStore, DirectoryStore, Reader, Writer
from moorage.errors import BackupFailed, BackupInvalid, ContentUnavailable
from support.gateway.content_fixture import KEYS, S3Server, answering

LARGE = 11 * 1024 * 1024  # goes to S3 in parts


@pytest.fixture(params=["directory", "s3", "s3_prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path, s3_server: S3Server) -> ContentStore:
    if request.param == "directory":
        (tmp_path / "store").mkdir()
        return DirectoryStore(tmp_path / "store")
    return s3_server.store(prefix="some/where" if request.param == "s3_prefix" else "")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    return path


async def content(store: ContentStore, key: str, directory: Path) -> bytes:
    target = directory / "got"
    await store.get(key, target)
    return target.read_bytes()


async def test_what_is_put_is_got_until_it_is_replaced_or_deleted(
    store: ContentStore, file: Path, tmp_path: Path
) -> None:
    assert not await store.exists("sources/a")
    await store.put("sources/a", file)
    assert await store.exists("sources/a")
    assert await content(store, "sources/a", tmp_path) == b"one"

    file.write_bytes(b"another")
    await store.put("sources/a", file)
    assert await content(store, "sources/a", tmp_path) == b"another"

    await store.delete("sources/a")
    await store.delete("sources/a")
    assert not await store.exists("sources/a")
    with pytest.raises(FileNotFoundError):
        await store.get("sources/a", tmp_path / "none")
    assert not (tmp_path / "none").exists()


async def test_large_files_come_back_whole(store: ContentStore, file: Path, tmp_path: Path) -> None:
    large = os.urandom(LARGE)
    file.write_bytes(large)
    await store.put("large", file)
    assert await content(store, "large", tmp_path) == large


@pytest.mark.parametrize("size", [0, 3, 75 * 1024 * 1024], ids=["empty", "small", "in_parts"])
async def test_stream_that_is_written_to_its_end_is_stored_and_no_other(
    store: ContentStore, size: int
) -> None:
    piece = os.urandom(1024 * 1024)
    pieces = [piece] * (size // len(piece)) + [b"end"[: size % len(piece)]]

    def write(target: Writer) -> None:
        for each in pieces:
            target.write(each)

    def fail(target: Writer) -> None:
        write(target)
        raise BackupFailed("on purpose")

    def digest(source: Reader) -> str:
        found = hashlib.sha256()
        while read := source.read(65536):
            found.update(read)
        return found.hexdigest()

    with pytest.raises(BackupFailed):
        await store.put_stream("streams/a", fail)
    assert await store.items("streams") == []
    await store.put_stream("streams/a", write)
    assert [item.size for item in await store.items("streams")] == [size]
    expected = hashlib.sha256(b"".join(pieces)).hexdigest()
    assert await store.get_stream("streams/a", digest) == expected
    with pytest.raises(FileNotFoundError):
        await store.get_stream("streams/b", digest)


async def test_items_are_those_below_a_prefix_with_their_sizes(
    store: ContentStore, file: Path
) -> None:
    for key in ("logs/b/2", "logs/b/1", "logs/bc/1", "other"):
        await store.put(key, file)
    found = await store.items("logs/b")
    assert [(item.key, item.size) for item in found] == [("logs/b/1", 3), ("logs/b/2", 3)]
    assert await store.items("nothing") == []
    assert found[0].changed_at_ms > 1_700_000_000_000


async def test_readers_of_a_key_that_is_replaced_find_one_or_the_other(
    store: ContentStore, file: Path, tmp_path: Path
) -> None:
    pieces = [bytes([letter]) * 100_000 for letter in b"ab"]
    written = [tmp_path / str(number) for number in range(2)]
    for path, piece in zip(written, pieces, strict=True):
        path.write_bytes(piece)
    await store.put("key", written[0])

    async def replace() -> None:
        for number in range(20):
            await store.put("key", written[number % 2])

    replacing = asyncio.create_task(replace())
    while not replacing.done():
        assert await content(store, "key", tmp_path) in pieces
    await replacing


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a/.b", "A", "a b", "a" * 200]
)
async def test_other_keys_are_refused(store: ContentStore, file: Path, key: str) -> None:
    for refused in (store.put(key, file), store.get(key, file), store.delete(key)):
        with pytest.raises(ValueError, match="key"):
            await refused


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        b"",
    ],
    ids=["503", "403", "nothing"],
)
async def test_store_that_fails_is_unavailable_and_never_empty(
    answer: bytes, file: Path, tmp_path: Path
) -> None:
    async with answering(answer) as store:
        for asked in (
            store.put("key", file),
            store.get("key", tmp_path / "got"),
            store.put_stream("key", lambda target: target.write(b"piece")),
            store.get_stream("key", lambda source: source.read(1)),
            store.exists("key"),
            store.items("key"),
            store.delete("key"),
        ):
            with pytest.raises(ContentUnavailable):
                await asked
    assert not (tmp_path / "got").exists()


async def test_answer_that_is_cut_off_is_not_taken_for_the_file(tmp_path: Path) -> None:
    cut = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: e\r\n"
        b"Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n\r\nfive!"
    )
    async with answering(cut) as store:
        with pytest.raises(ContentUnavailable):
            await store.get("key", tmp_path / "got")
        with pytest.raises(ContentUnavailable):
            await store.get_stream("key", read_whole)
    assert [path.name for path in tmp_path.iterdir()] == []


def read_whole(source: Reader) -> bytes:
    """As a library would that says of each error that the file is no good."""
    try:
        return source.read(10)
    except Exception as error:
        raise BackupInvalid("no good") from error


async def test_directory_that_cannot_be_written_is_unavailable(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ContentUnavailable):
        await DirectoryStore(file).put("key", file)


async def test_draft_of_a_process_that_was_killed_goes_after_a_day(
    file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "store/sources"
    folder.mkdir(parents=True)
    names = {".0123456789abcdef": 2, ".fedcba9876543210": 0, ".snapshot": 2, "old": 2}
    for name, days in names.items():
        (folder / name).touch()
        at = (folder / name).stat().st_mtime - days * 86_400
        os.utime(folder / name, (at, at))
    await DirectoryStore(tmp_path / "store").put("sources/a", file)
    left = {path.name for path in folder.iterdir()}
    assert left == {"a", ".fedcba9876543210", ".snapshot", "old"}


async def test_directory_that_is_not_mounted_is_unavailable_and_not_made(
    file: Path, tmp_path: Path
) -> None:
    """Else what another machine stored would be gone, and what is stored here found nowhere."""
    store = DirectoryStore(tmp_path / "shared" / "moorage")
    for asked in (
        store.put("key", file),
        store.get("key", tmp_path / "got"),
        store.exists("key"),
        store.items("key"),
        store.delete("key"),
    ):
        with pytest.raises(ContentUnavailable):
            await asked
    assert not (tmp_path / "shared").exists()


async def test_bucket_that_is_not_there_takes_nothing(s3_server: S3Server, file: Path) -> None:
    store = S3Store("no-such-bucket", endpoint=s3_server.url, credentials=KEYS)
    with pytest.raises(ContentUnavailable):
        await store.put("key", file)
    with pytest.raises(ContentUnavailable):
        await store.put_stream("key", lambda target: target.write(b"piece"))

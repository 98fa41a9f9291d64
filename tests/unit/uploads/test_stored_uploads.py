"""Uploads stored by their digest: who finds them, for how long, and what they take of the disk."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from moorage.errors import (
    BodyTooLarge,
    InvalidField,
    InvalidRequest,
    NoCapacity,
    TooManyUploads,
    UploadNotFound,
)
from moorage.uploads.reader import ReceivedBody, read_upload
from moorage.uploads.room import RoomLimits, SpoolRoom, Uploader, UploadLimits, sweep_spool
from moorage.uploads.stored import Stored, StoredUploads
from support.clients.parsing_in_place import InPlace
from support.clients.upload_bodies import contents, document, receive, stream
from support.gateway.clock import HOUR_MS, START_MS, MovableClock

MIB = 1024 * 1024
FILES = {"index.js": b"listen()", "a/b.bin": bytes(range(256)) * 2, "empty": b""}
LIMITS = RoomLimits(
    strangers_bytes=5 * MIB, stranger_bytes=3 * MIB, paid_bytes=9 * MIB, wallet_bytes=2 * MIB
)
HOME = Uploader("192.0.2.1", has_paid=False)
ELSEWHERE = Uploader("192.0.2.2", has_paid=False)


class Body:
    """A body as it arrives."""

    is_over = False
    seconds_left = 15.0

    def displace(self) -> None:
        raise AssertionError("nobody gives way")


class Store:
    """Stored uploads, and requests that name them."""

    def __init__(self, directory: Path, *, reserve_bytes: int = 0) -> None:
        self.directory = directory
        self.clock = MovableClock()
        room = SpoolRoom(directory, limits=LIMITS, reserve_bytes=reserve_bytes)
        self.uploads = StoredUploads(directory, room=room, max_bytes=2 * MIB, clock=self.clock)

    async def put(
        self, wallet: str, body: bytes, *, uploader: Uploader = HOME, **changes: Any
    ) -> Stored:
        asked: dict[str, Any] = {
            "wallet": wallet,
            "sha256": digest(body),
            "content_length": len(body),
            "uploader": uploader,
            "arriving": Body(),
        }
        return await self.uploads.put(stream(body), **(asked | changes))

    def has(self, wallet: str, body: bytes) -> bool:
        try:
            with self.uploads.open(wallet, digest(body)) as file:
                assert file.read() == body
        except UploadNotFound:
            return False
        return True

    async def deploy(self, wallet: str, sha256: str, **changes: Any) -> ReceivedBody:
        sent = document({}) | {"displayName": "Hello"}
        body = json.dumps(sent | {"upload": {"type": "digest", "sha256": sha256}} | changes)

        async def opened(sha256: str) -> BinaryIO:
            return self.uploads.open(wallet, sha256)

        return await read_upload(
            stream(body.encode()),
            content_length=len(body),
            limits=UploadLimits(),
            spool_dir=self.directory,
            parser=InPlace(),
            open_stored=opened,
        )

    @property
    def files(self) -> int:
        return len(list(self.directory.iterdir()))


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def upload(files: dict[str, bytes]) -> bytes:
    return json.dumps(document(files)["upload"]).encode()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


async def test_stored_upload_is_read_as_if_it_had_come_along(store: Store, tmp_path: Path) -> None:
    stored = await store.put("0xa", upload(FILES))
    assert stored.size == len(upload(FILES))

    got = await store.deploy("0xa", stored.sha256.upper())

    inline = await receive(json.dumps(document(FILES)).encode(), tmp_path / "other")
    assert contents(got) == FILES
    assert got.tree_digest == inline.tree_digest  # so one plan is made for both
    assert got.request.display_name == "Hello"
    got.upload.close()
    assert store.files == 1


async def test_request_digest_is_of_the_body_that_came(store: Store) -> None:
    first, second = (
        await store.put("0xa", upload(FILES)),
        await store.put("0xa", upload({"b": b""})),
    )
    one = await store.deploy("0xa", first.sha256)
    again = await store.deploy("0xa", first.sha256)
    assert one.digest == again.digest
    titled = await store.deploy("0xa", first.sha256, displayName="Other")
    other = await store.deploy("0xa", second.sha256)
    assert len({one.digest, titled.digest, other.digest}) == 3


async def test_another_wallet_finds_nothing(store: Store) -> None:
    stored = await store.put("0xa", upload(FILES))
    with pytest.raises(UploadNotFound) as refused:
        await store.deploy("0xb", stored.sha256)
    assert refused.value.field == "upload.sha256"
    assert store.files == 1


async def test_it_is_kept_for_an_hour_from_the_last_put(store: Store) -> None:
    body = upload(FILES)
    assert (await store.put("0xa", body)).expires_at_ms == START_MS + HOUR_MS
    store.clock.advance(HOUR_MS // 2)
    assert (await store.put("0xa", body)).expires_at_ms == START_MS + HOUR_MS * 3 // 2
    assert store.files == 1

    store.clock.advance(HOUR_MS - 1)
    assert store.has("0xa", body)
    store.clock.advance(1)
    assert not store.has("0xa", body)
    assert store.files == 0


async def test_body_of_another_digest_is_refused_and_leaves_nothing(store: Store) -> None:
    with pytest.raises(InvalidField, match=digest(b"other")) as refused:
        await store.put("0xa", b"other", sha256=digest(b"this"))
    assert refused.value.field == "sha256"
    with pytest.raises(BodyTooLarge):
        await store.put("0xa", b"x" * (2 * MIB + 1), content_length=None)
    with pytest.raises(InvalidRequest, match="ended after"):
        await store.put("0xa", b"short", content_length=6)
    assert store.files == 0
    assert not store.has("0xa", b"this")


async def test_oldest_of_a_wallet_gives_way_to_its_newest_and_to_nobody_elses(store: Store) -> None:
    """One address has 3 MiB here, and whatever is stored takes 1 MiB at least."""
    for number in range(3):
        await store.put("0xa", b"%d" % number)
    with pytest.raises(TooManyUploads):
        await store.put("0xb", b"of another wallet")
    await store.put("0xb", b"from elsewhere", uploader=ELSEWHERE)

    await store.put("0xa", b"3")

    kept = [number for number in range(4) if store.has("0xa", b"%d" % number)]
    assert kept == [1, 2, 3]
    assert store.has("0xb", b"from elsewhere")


async def test_strangers_together_leave_room_to_wallets_that_paid(store: Store) -> None:
    for number in range(5):
        key = Uploader(f"192.0.2.{number}", has_paid=False)
        await store.put(f"0x{number}", b"", uploader=key)
    with pytest.raises(TooManyUploads):
        await store.put("0x6", b"", uploader=Uploader("192.0.2.6", has_paid=False))
    await store.put("0x7", b"", uploader=Uploader("0x7", has_paid=True))
    assert store.files == 6


async def test_nothing_is_stored_when_the_disk_is_nearly_full(tmp_path: Path) -> None:
    store = Store(tmp_path, reserve_bytes=10**18)
    with pytest.raises(NoCapacity, match="in the body of"):
        await store.put("0xa", upload(FILES))
    assert store.files == 0


async def test_upload_that_is_being_read_may_expire(store: Store) -> None:
    body = upload(FILES)
    stored = await store.put("0xa", body)
    with store.uploads.open("0xa", stored.sha256) as file:
        store.clock.advance(HOUR_MS)
        store.uploads.purge()
        assert store.files == 0
        assert file.read() == body


async def test_same_upload_put_twice_at_once_is_stored_once(store: Store) -> None:
    body = b"x" * 100_000
    halves = [asyncio.Event(), asyncio.Event()]

    async def halting(mine: int) -> AsyncIterator[bytes]:
        yield body[:50_000]
        halves[mine].set()
        await halves[1 - mine].wait()
        yield body[50_000:]

    await asyncio.gather(
        *(
            store.uploads.put(
                halting(each),
                wallet="0xa",
                sha256=digest(body),
                content_length=len(body),
                uploader=HOME,
                arriving=Body(),
            )
            for each in (0, 1)
        )
    )
    assert store.has("0xa", body)
    assert store.files == 1


async def test_start_of_the_gateway_forgets_them(store: Store, tmp_path: Path) -> None:
    await store.put("0xa", upload(FILES))
    assert sweep_spool(tmp_path) == 1
    assert store.files == 0


@pytest.mark.parametrize(
    ("stored", "field"),
    [
        (b"", "body"),
        (b"[", "body"),
        (b"[]", "upload"),
        (b'{"type": "zip"}', "upload.data"),
        (b'{"type": "digest", "sha256": "%s"}' % (b"0" * 64), "upload.type"),
        (b'{"type": "files", "files": []}, "uniqueName": "x"', "upload.files"),
    ],
)
async def test_wrong_upload_is_refused_where_it_is_named(
    store: Store, stored: bytes, field: str
) -> None:
    sha256 = (await store.put("0xa", stored)).sha256
    with pytest.raises(InvalidField) as refused:
        await store.deploy("0xa", sha256)
    assert refused.value.field == field
    assert store.files == 1


async def test_digest_must_be_one_and_comes_without_files(store: Store, tmp_path: Path) -> None:
    for named in (None, 1, "", "0x" + "0" * 62, "0" * 63, "g" * 64):
        with pytest.raises(InvalidField, match=r"^upload\.sha256"):
            await store.deploy("0xa", "", upload={"type": "digest", "sha256": named})
    both = document(FILES)["upload"] | {"type": "digest", "sha256": "0" * 64}
    with pytest.raises(InvalidField, match=r"^upload\.files"):
        await store.deploy("0xa", "", upload=both)
    without = {"uniqueName": "hello", "upload": {"type": "digest", "sha256": "0" * 64}}
    with pytest.raises(InvalidField, match=r"^upload\.type"):
        await receive(json.dumps(without).encode(), tmp_path / "other")

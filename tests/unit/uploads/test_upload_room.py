"""What uploads take of memory and disk before anybody paid, and who gives way to whom."""

import stat
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import NoCapacity, TooManyUploads, UploadDisplaced
from moorage.uploads.reader import read_upload
from moorage.uploads.room import (
    Allowance,
    RoomLimits,
    Spool,
    SpoolRoom,
    Uploader,
    UploadLimits,
    sweep_spool,
)
from support.clients.parsing_in_place import InPlace
from support.clients.upload_bodies import files_body, stream, zip_body, zipped

KIB = 1024


def put(spool: Spool, data: bytes, piece: int = 48 * KIB) -> None:
    for start in range(0, len(data), piece):
        spool.write(data[start : start + piece])


def test_small_contents_touch_no_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "never", memory_bytes=100)
    for size in (60, 40, 0):
        put(spool, b"x" * size)
        content = spool.finish()
        assert (content.size, content.read(1000), content.file) == (size, b"x" * size, None)
    assert not spool.on_disk
    spool.close()
    assert not (tmp_path / "never").exists()


def test_contents_beyond_memory_go_to_a_private_file(tmp_path: Path) -> None:
    parent = tmp_path / "spool"
    spool = Spool(parent, memory_bytes=100)
    small, large, larger = b"s" * 101, b"l" * (100 * KIB), b"m" * (64 * KIB + 1)
    found = []
    for data in (small, large, small, larger, b"tiny"):
        put(spool, data)
        found.append((spool.finish(), data))
    (file,) = parent.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(parent.stat().st_mode) == 0o700
    assert [content.read(1 << 20) for content, _ in found] == [data for _, data in found]
    assert [content.read(5) for content, _ in found] == [data[:5] for _, data in found]
    assert found[-1][0].file is None
    spool.close()
    spool.close()
    assert not list(parent.iterdir())


def test_closing_amid_a_content_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory_bytes=0)
    put(spool, b"x" * (200 * KIB))
    assert spool.on_disk
    spool.close()
    assert not list(tmp_path.iterdir())


def test_discarded_content_frees_what_it_took(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory_bytes=100)
    put(spool, b"x" * 100)
    spool.discard(spool.finish())
    put(spool, b"y" * 100)
    assert spool.finish().file is None
    put(spool, b"z" * (65 * KIB))
    content = spool.finish()
    assert content.file is not None
    assert content.file.path.stat().st_size == 65 * KIB
    spool.discard(content)
    assert content.file.path.stat().st_size == 0
    spool.close()


@given(st.lists(st.lists(st.binary(max_size=40), max_size=5), max_size=8), st.integers(0, 200))
def test_contents_come_back_whole(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[bytes]], memory_bytes: int
) -> None:
    spool = Spool(tmp_path_factory.getbasetemp() / "spool-of-pieces", memory_bytes=memory_bytes)
    found = []
    for pieces in contents:
        for piece in pieces:
            spool.write(piece)
        found.append(spool.finish())
    assert [content.read(1000) for content in found] == [b"".join(pieces) for pieces in contents]
    held = sum(content.size for content in found if content.file is None)
    assert held <= memory_bytes
    spool.close()


def test_sweeping_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    assert sweep_spool(tmp_path / "not there") == 0
    abandoned = Spool(tmp_path, memory_bytes=0)
    put(abandoned, b"x" * (100 * KIB))
    (tmp_path / "other").mkdir()
    assert sweep_spool(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    with pytest.raises(FileNotFoundError):
        abandoned.close()


LIMITS = RoomLimits(strangers_bytes=100, stranger_bytes=60, paid_bytes=300, wallet_bytes=200)


@dataclass(eq=False)
class Body:
    """A body as the room sees it: less time left is slower."""

    seconds_left: float = 15.0
    is_over: bool = False
    is_displaced: bool = False

    def displace(self) -> None:
        self.is_displaced = True


class Uploads:
    """Uploads into one room."""

    def __init__(self, directory: Path) -> None:
        self.room = SpoolRoom(directory, limits=LIMITS, reserve_bytes=0)
        self.bodies: dict[Allowance, Body] = {}

    def take(self, key: str, count: int, *, has_paid: bool = False, left: float = 15) -> Allowance:
        body = Body(left)
        allowance = self.room.allowance(Uploader(key, has_paid=has_paid), body)
        self.bodies[allowance] = body
        allowance.take(count)
        return allowance

    def displaced(self) -> set[Allowance]:
        return {allowance for allowance, body in self.bodies.items() if body.is_displaced}


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


def test_one_address_has_so_much_and_its_slowest_gives_way(uploads: Uploads) -> None:
    fast, slow = uploads.take("own", 30, left=9), uploads.take("own", 30, left=2)
    other = uploads.take("other", 30, left=1)

    uploads.take("own", 10)
    assert uploads.displaced() == {slow}
    with pytest.raises(UploadDisplaced):
        slow.take(1)
    fast.take(1)
    other.take(1)


def test_upload_larger_than_one_address_may_have_is_refused(uploads: Uploads) -> None:
    alone = uploads.take("own", 60)
    with pytest.raises(TooManyUploads):
        alone.take(1)
    alone.close()
    uploads.take("own", 60)


def test_newcomer_gets_room_from_whoever_has_most(uploads: Uploads) -> None:
    large = [uploads.take("large", 20, left=left) for left in (3, 2, 1)]
    small = uploads.take("small", 35, left=0.5)

    newcomer = uploads.take("newcomer", 20)
    assert uploads.displaced() == {large[2]}
    newcomer.take(10)  # large still has 40, small 35
    assert uploads.displaced() == set(large[1:])
    newcomer.take(25)  # now small has most
    assert uploads.displaced() == {*large[1:], small}


def test_whoever_has_most_takes_from_nobody_else(uploads: Uploads) -> None:
    uploads.take("a", 45)
    largest = uploads.take("b", 55)
    with pytest.raises(TooManyUploads):
        largest.take(1)
    assert uploads.displaced() == set()


def test_upload_that_is_all_there_does_not_give_way(uploads: Uploads) -> None:
    first, second = uploads.take("many", 30, left=1), uploads.take("many", 30, left=2)
    uploads.take("other", 40)
    uploads.bodies[first].is_over = True

    uploads.take("newcomer", 10)
    assert uploads.displaced() == {second}
    uploads.bodies[second].is_over = True


def test_wallets_that_paid_have_room_of_their_own(uploads: Uploads) -> None:
    paid = uploads.take("wallet", 200, has_paid=True, left=0.1)
    for number in range(20):
        uploads.take(f"address {number}", 20)
    assert uploads.displaced()
    assert paid not in uploads.displaced()
    with pytest.raises(TooManyUploads):
        paid.take(1)
    uploads.take("another wallet", 100, has_paid=True)
    uploads.take("a third", 100, has_paid=True)
    assert paid in uploads.displaced()


def test_what_is_given_back_is_there_again(uploads: Uploads) -> None:
    one = uploads.take("a", 60)
    one.give_back(20)
    one.take(20)
    one.close()
    one.close()
    for address in ("a", "b"):
        uploads.take(address, 50)
    assert uploads.displaced() == set()


def test_full_disk_refuses_before_more_is_written(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    room = SpoolRoom(tmp_path, limits=LIMITS, reserve_bytes=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1010))
    allowance = room.allowance(Uploader("a", has_paid=False), Body())
    allowance.take(10)
    with pytest.raises(NoCapacity):
        allowance.take(11)


async def test_upload_takes_what_it_writes_to_disk_and_gives_all_back(tmp_path: Path) -> None:
    limits = RoomLimits(strangers_bytes=300_000, stranger_bytes=300_000)
    room = SpoolRoom(tmp_path, limits=limits, reserve_bytes=0)
    address = Uploader("a", has_paid=False)

    async def upload(size: int, memory_bytes: int = 0, *, zips: bool = False) -> None:
        files = {"small": b"s" * 1000, "large": b"x" * size}
        got = await read_upload(
            stream(zip_body(zipped(files)) if zips else files_body(files)),
            content_length=None,
            limits=UploadLimits(memory_bytes=memory_bytes),
            spool_dir=tmp_path,
            parser=InPlace(),
            allowance=room.allowance(address, Body()),
        )
        got.upload.close()

    for _ in range(3):
        await upload(299_000)
        await upload(299_000, zips=True)
    await upload(400_000, memory_bytes=1_000_000)  # touches no disk
    for _ in range(3):
        with pytest.raises(TooManyUploads):
            await upload(299_001)
        with pytest.raises(TooManyUploads):
            await upload(299_001, zips=True)
    assert list(tmp_path.iterdir()) == []
    await upload(299_000)

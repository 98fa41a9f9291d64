"""Uploads that wallets name by their digest: found at every gateway, bounded over all of them."""

import hashlib
from pathlib import Path

import pytest

from moorage.content.store import DirectoryStore, Item
from moorage.errors import ContentUnavailable, TooManyUploads, UploadNotFound
from moorage.hosting.sources import SharedUploads
from moorage.uploads.room import RoomLimits, SpoolRoom, Uploader
from moorage.uploads.stored import StoredUploads
from support.clients.upload_bodies import stream
from support.gateway.clock import HOUR_MS, MovableClock

MIB = 1024 * 1024
LIMITS = RoomLimits(
    strangers_bytes=5 * MIB, stranger_bytes=3 * MIB, paid_bytes=9 * MIB, wallet_bytes=3 * MIB
)
PAID = Uploader("0xa", has_paid=True)


class Body:
    """A body as it arrives."""

    is_over = False
    seconds_left = 15.0

    def displace(self) -> None:
        raise AssertionError("nobody gives way")


class DatedStore(DirectoryStore):
    """Its files are as old as the clock says, in the order in which they were put."""

    def __init__(self, root: Path, clock: MovableClock) -> None:
        root.mkdir()
        super().__init__(root)
        self._clock = clock
        self._put_at_ms: dict[str, int] = {}

    async def put(self, key: str, source: Path) -> None:
        await super().put(key, source)
        self._clock.advance(1)
        self._put_at_ms[key] = self._clock.now_ms()

    async def items(self, prefix: str) -> list[Item]:
        found = await super().items(prefix)
        return [item._replace(changed_at_ms=self._put_at_ms[item.key]) for item in found]


class Gateways:
    """Three with disks of their own."""

    def __init__(self, directory: Path) -> None:
        self.clock = MovableClock()
        self.content = directory / "content"
        self.directory = directory
        self.store = DatedStore(self.content, self.clock)
        self.one, self.two, self.three = map(self._open, ("one", "two", "three"))

    def _open(self, name: str) -> SharedUploads:
        spool = self.directory / name
        spool.mkdir()
        room = SpoolRoom(spool, limits=LIMITS, reserve_bytes=0)
        own = StoredUploads(spool, room=room, max_bytes=4 * MIB, clock=self.clock)
        return SharedUploads(own, self.store, limits=LIMITS, clock=self.clock)

    def here(self, name: str) -> list[bytes]:
        return [path.read_bytes() for path in (self.directory / name).rglob("*") if path.is_file()]

    def stored(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.content.rglob("*") if path.is_file())


@pytest.fixture
def gateways(tmp_path: Path) -> Gateways:
    return Gateways(tmp_path)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def put(
    at: SharedUploads, body: bytes, *, wallet: str = "0xa", uploader: Uploader = PAID
) -> None:
    await at.put(
        stream(body),
        wallet=wallet,
        sha256=digest(body),
        content_length=len(body),
        uploader=uploader,
        arriving=Body(),
    )


async def got(
    at: SharedUploads, body: bytes, *, wallet: str = "0xa", uploader: Uploader = PAID
) -> bool:
    """Whether a gateway has it."""
    try:
        with await at.open(wallet, uploader, Body(), digest(body)) as file:
            assert file.read() == body
    except UploadNotFound:
        return False
    return True


async def test_upload_stored_at_one_gateway_is_found_at_every_other(gateways: Gateways) -> None:
    body = b"x" * 100_000
    await put(gateways.one, body)
    assert await got(gateways.two, body)
    assert gateways.here("two") == [body]  # and is not brought again
    gateways.content.rename(gateways.content.with_name("away"))
    assert await got(gateways.two, body)
    with pytest.raises(ContentUnavailable):
        await got(gateways.three, body)


async def test_another_wallet_finds_nothing_anywhere(gateways: Gateways) -> None:
    await put(gateways.one, b"mine")
    for gateway in (gateways.one, gateways.two):
        assert not await got(
            gateway, b"mine", wallet="0xb", uploader=Uploader("0xb", has_paid=True)
        )
    assert gateways.here("two") == []


async def test_wallet_that_pays_meanwhile_finds_what_it_stored_as_a_stranger(
    gateways: Gateways,
) -> None:
    await put(gateways.one, b"before", uploader=Uploader("192.0.2.1", has_paid=False))
    assert await got(gateways.two, b"before", uploader=PAID)


async def test_wallets_share_holds_over_all_gateways_and_its_oldest_goes_first(
    gateways: Gateways,
) -> None:
    bodies = [b"%d" % number for number in range(4)]  # each takes 1 MiB of three
    for gateway, body in zip((gateways.one, gateways.two) * 2, bodies, strict=True):
        await put(gateway, body)
    assert gateways.stored() == bodies[1:]
    assert not await got(gateways.three, bodies[0])
    assert await got(gateways.three, bodies[3])


async def test_strangers_share_holds_over_all_gateways_and_leaves_room_to_who_paid(
    gateways: Gateways,
) -> None:
    for number in range(5):
        gateway = (gateways.one, gateways.two, gateways.three)[number % 3]
        stranger = Uploader(f"192.0.2.{number}", has_paid=False)
        await put(gateway, b"%d" % number, wallet=f"0x{number}", uploader=stranger)
    sixth = Uploader("192.0.2.9", has_paid=False)
    for gateway in (gateways.one, gateways.two):
        with pytest.raises(TooManyUploads):
            await put(gateway, b"six", wallet="0x9", uploader=sixth)
    await put(gateways.one, b"paid")
    assert gateways.stored() == [b"0", b"1", b"2", b"3", b"4", b"paid"]


async def test_what_is_brought_takes_the_room_of_who_asks(gateways: Gateways) -> None:
    bodies = [bytes([number]) * MIB for number in range(2)]  # each takes two of three
    for body in bodies:
        await put(gateways.one, body[:1000])
        assert await got(gateways.two, body[:1000])
    await put(gateways.one, bodies[0])
    assert await got(gateways.two, bodies[0])
    assert len(gateways.here("two")) == 2  # the wallet's oldest gave way


async def test_damaged_copy_is_not_found_and_leaves_nothing(gateways: Gateways) -> None:
    await put(gateways.one, b"whole")
    (file,) = (path for path in gateways.content.rglob("*") if path.is_file())
    file.write_bytes(b"other")
    assert not await got(gateways.two, b"whole")
    assert gateways.here("two") == []


async def test_expired_ones_go_from_every_disk_and_the_store(gateways: Gateways) -> None:
    await put(gateways.one, b"old")
    assert await got(gateways.two, b"old")
    gateways.clock.advance(HOUR_MS)
    gateways.two.purge()
    assert gateways.here("two") == []
    await gateways.one.purge_store()
    assert gateways.stored() == [b"old"]  # the store's clock may be behind
    gateways.clock.advance(HOUR_MS)
    await put(gateways.two, b"new")
    await gateways.one.purge_store()
    assert gateways.stored() == [b"new"]

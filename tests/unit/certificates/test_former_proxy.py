"""An upgrade orders nothing again: what the earlier proxy had is taken over."""

from pathlib import Path

import pytest
from room import Room

from moorage.certificates.former_proxy import import_former
from moorage.certificates.pem import new_key
from moorage.storage.apps import certificates
from support.books.records_fixture import ALICE
from support.gateway.authority_in_memory import certificate
from support.gateway.clock import HOUR_MS, MovableClock

HOST = "shop.example"
DAY_MS = 24 * HOUR_MS
LETS_ENCRYPT = "acme-v02.api.letsencrypt.org-directory"


def kept(
    directory: Path,
    clock: MovableClock,
    host: str,
    *,
    authority: str = LETS_ENCRYPT,
    days: int = 90,
) -> None:
    """Writes a certificate as the earlier proxy did."""
    folder = directory / "certificates" / authority / host
    folder.mkdir(parents=True)
    key = new_key()
    (folder / f"{host}.key").write_text(key)
    (folder / f"{host}.crt").write_text(certificate(host, key, now_ms=clock.now_ms(), days=days))
    (folder / f"{host}.json").write_text("{}")


async def taken_over(room: Room, *directories: Path) -> None:
    done = directories[0] / "done"
    await import_former(room.db, room.vault, directories, done=done, clock=room.clock)


async def test_valid_certificates_are_served_and_none_is_ordered(
    room: Room, tmp_path: Path
) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    kept(own, room.clock, HOST)
    kept(own, room.clock, "expired.example", days=0)
    kept(own, room.clock, "inside.example", authority="local")
    kept(shared, room.clock, "other.example")
    (own / "certificates" / LETS_ENCRYPT / HOST / "cut.crt").write_text("cut")
    async with room.db.transaction(durable=True) as tx:  # as the earlier version counted it
        await certificates.add(tx, HOST, wallet=ALICE, now_ms=room.clock.now_ms())
    await taken_over(room, own, shared)
    await room.want(HOST, "other.example")
    await room.begin()
    assert room.authority.orders == []
    await room.installation.follow()
    assert set(room.proxy.pems) == {HOST, "other.example"}

    room.clock.advance(70 * DAY_MS)
    await room.want(HOST)
    await room.begin()
    assert room.authority.orders == [HOST]  # it is renewed as others are


async def test_later_starts_do_not_bring_back_what_has_been_replaced(
    room: Room, tmp_path: Path
) -> None:
    kept(tmp_path, room.clock, HOST)
    await taken_over(room, tmp_path)
    kept(tmp_path, room.clock, "later.example")
    await taken_over(room, tmp_path)
    assert await certificates.not_after_ms(room.db, "later.example") is None


@pytest.mark.parametrize("there", [True, False])
async def test_gateway_without_an_earlier_proxy_has_nothing_to_take_over(
    room: Room, tmp_path: Path, there: bool
) -> None:
    directory = tmp_path if there else tmp_path / "nowhere"
    await import_former(room.db, room.vault, [directory], done=tmp_path / "done", clock=room.clock)
    assert await certificates.mark(room.db) == (0, 0)

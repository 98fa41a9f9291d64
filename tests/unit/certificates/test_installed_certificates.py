"""The proxy has what is valid, as rows and the operator's files say, and nothing else."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from room import BASE, Room
from structlog.testing import capture_logs

from moorage.certificates.installation import WildcardFiles
from moorage.certificates.pem import CertificateInvalid, new_key, parse_certificate
from moorage.errors import ProxyFailed
from moorage.gateway.data_directory import missing_keys, seal_with_newest
from moorage.storage.apps import certificates
from moorage.storage.database import Database
from moorage.storage.vault import KEY_BYTES, Vault
from support.gateway.authority_in_memory import AuthorityInMemory, certificate
from support.gateway.clock import HOUR_MS, MINUTE_MS, MovableClock

HOST, OTHER = "shop.example", "other.example"
APP = f"app.{BASE}"
DAY_MS = 24 * HOUR_MS


async def test_every_gateway_installs_what_one_has_got(db: Database, clock: MovableClock) -> None:
    authority = AuthorityInMemory(clock)
    one, two = Room(db, clock, authority), Room(db, clock, authority)
    await one.want(HOST)
    await one.begin()
    await two.installation.follow()
    assert two.proxy.pems == one.proxy.pems
    chain, _, key = one.proxy.pems[HOST].decode().partition("-----BEGIN PRIVATE KEY-----")
    assert parse_certificate(chain, f"-----BEGIN PRIVATE KEY-----{key}").names == (HOST,)


async def test_what_has_not_changed_is_installed_once(room: Room) -> None:
    await room.want(HOST)
    await room.begin()
    for _ in range(3):
        await room.installation.follow()
    assert room.proxy.changes == [HOST]


async def test_proxy_that_lost_its_certificates_gets_them_again(room: Room) -> None:
    await room.want(HOST)
    await room.begin()
    room.proxy.pems.clear()
    room.clock.advance(5 * MINUTE_MS)
    await room.installation.follow()
    assert room.proxy.changes == [HOST, HOST]


async def test_renewed_certificate_takes_the_place_of_the_old_one(room: Room) -> None:
    await room.want(HOST)
    await room.begin()
    before = room.proxy.pems[HOST]
    room.clock.advance(70 * DAY_MS)
    await room.want(HOST)
    await room.begin()
    assert room.proxy.pems[HOST] != before


async def test_expired_certificate_is_removed(room: Room) -> None:
    await room.want(HOST)
    await room.begin()
    room.clock.advance(90 * DAY_MS - 1000)
    await room.installation.follow()
    assert set(room.proxy.pems) == {HOST}
    room.clock.advance(1000)
    await room.installation.follow()
    assert room.proxy.changes == [HOST, f"-{HOST}"]
    assert not await room.certificates.has(HOST)


async def test_certificate_that_the_proxy_refuses_holds_up_no_other(room: Room) -> None:
    room.proxy.refuses = {HOST}
    await room.want(HOST, OTHER)
    await room.begin()
    await room.begin()
    assert set(room.proxy.pems) == {OTHER}
    with pytest.raises(ProxyFailed):
        await room.installation.follow()
    room.proxy.refuses = set()
    await room.installation.follow()
    assert set(room.proxy.pems) == {HOST, OTHER}


def written(directory: Path, clock: MovableClock, name: str = f"*.{BASE}") -> bytes:
    """Writes the operator's files, of a certificate that begins now."""
    key = new_key()
    chain = certificate(name, key, now_ms=clock.now_ms())
    (directory / "fullchain.pem").write_text(chain)
    (directory / "key.pem").write_text(key)
    return parse_certificate(chain, key).pem


@pytest.fixture
def files(tmp_path: Path) -> WildcardFiles:
    return WildcardFiles(
        f"*.{BASE}", certificate=tmp_path / "fullchain.pem", key=tmp_path / "key.pem"
    )


async def test_operators_certificate_serves_apps_and_is_read_again_when_its_files_change(
    db: Database, clock: MovableClock, tmp_path: Path, files: WildcardFiles
) -> None:
    first = written(tmp_path, clock)
    room = Room(db, clock, files=files)
    await room.installation.follow()
    assert room.proxy.pems == {f"*.{BASE}": first}
    await room.want(APP, HOST)
    await room.begin()
    assert room.authority.orders == [HOST]  # domains of deployers need one of their own
    assert await room.certificates.has(APP)
    assert not await room.certificates.has(f"a.b.{BASE}")

    clock.advance(60 * DAY_MS)
    second = written(tmp_path, clock)
    await room.installation.follow()
    assert room.proxy.pems[f"*.{BASE}"] == second != first


async def test_files_that_do_not_fit_each_other_yet_change_nothing(
    db: Database, clock: MovableClock, tmp_path: Path, files: WildcardFiles
) -> None:
    first = written(tmp_path, clock)
    room = Room(db, clock, files=files)
    await room.installation.follow()
    (tmp_path / "key.pem").write_text(new_key())  # the certificate is to follow
    with capture_logs() as logs:
        for _ in range(3):
            await room.installation.follow()
    assert [line["event"] for line in logs] == ["wildcard_certificate is not used"]
    assert room.proxy.pems[f"*.{BASE}"] == first
    assert await room.certificates.has(APP)


async def test_file_for_other_names_is_no_wildcard_certificate(
    clock: MovableClock, tmp_path: Path, files: WildcardFiles
) -> None:
    written(tmp_path, clock, "*.elsewhere.example")
    with pytest.raises(CertificateInvalid, match=rf"not for \*\.{BASE}"):
        await files.read()


async def test_private_keys_are_sealed_at_rest(room: Room, db_path: Path) -> None:
    await room.want(HOST)
    await room.begin()
    _, mark, key = room.proxy.pems[HOST].decode().partition("-----BEGIN PRIVATE KEY-----")
    body = "".join(key.split("-----END")[0].split())
    with closing(sqlite3.connect(db_path)) as raw:
        stored = "".join(str(row) for row in raw.execute("SELECT * FROM certificates"))
    assert mark
    assert "CERTIFICATE" in stored
    for part in (mark, body[40:80]):
        assert part not in stored
        for file in db_path.parent.glob("moorage.db*"):
            assert part.encode() not in file.read_bytes()


async def test_keys_are_sealed_with_the_newest_key_of_the_operator(
    room: Room, tmp_path: Path
) -> None:
    await room.want(HOST)
    await room.begin()
    newest = os.urandom(KEY_BYTES)
    both, lost = Vault([newest, bytes(KEY_BYTES)]), tmp_path / "lost"
    await seal_with_newest(both, room.db)
    row = await certificates.issued(room.db, HOST)
    assert row is not None
    assert Vault([newest]).open_key(row.sealed_key, HOST).startswith("-----BEGIN PRIVATE KEY")
    lost.write_text(bytes(KEY_BYTES).hex())
    lost.chmod(0o600)
    assert len(await missing_keys(room.db, lost)) == 1

"""Which backups are put back."""

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import pytest

from moorage.auth.tokens import DAY_MS, LinkOrder, Links
from moorage.backup.archive import (
    FORMAT,
    NAME,
    Manifest,
    ManifestEntry,
    digest_of,
    unpack,
    write_archive,
)
from moorage.errors import BackupInvalid, SchemaUnknown
from moorage.operate.backup import Unpack, restore
from moorage.pages.sessions.session import Sessions
from moorage.records.access import Role
from moorage.storage.migrate import NEWEST_REVISION, REVISIONS, is_newest, migrate
from moorage.storage.opening import DATABASE, open_database
from support.books.records_fixture import ALICE
from support.gateway.clock import MovableClock


async def open_link(path: Path) -> None:
    """Has somebody look at pages by a link."""
    db = open_database(path)
    try:
        order = LinkOrder(who=ALICE, lifetime_ms=DAY_MS)
        made = await Links(db=db, clock=MovableClock()).make(order)
        opened = await Sessions(db=db, clock=MovableClock()).open_link(
            made.secret, role=Role.WALLET
        )
        assert opened is not None
    finally:
        db.close()


def saved(tmp_path: Path, revision: str, *, opened: bool = False) -> Unpack:
    """A backup of a gateway without apps, whose database says that it is of a revision."""
    made = tmp_path / "made"
    made.mkdir()
    path = made / DATABASE
    migrate(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    if opened:
        asyncio.run(open_link(path))
    entry = ManifestEntry(path=DATABASE, size=path.stat().st_size, digest=digest_of(path))
    manifest = Manifest(
        format=FORMAT,
        version="0.1.0",
        schema=revision,
        created_at="2026-04-07T10:00:00.000Z",
        data_dir="/var/lib/moorage",
        secrets_key=False,
        entries=(entry,),
    )
    (made / NAME).write_bytes(msgspec.json.encode(manifest))
    write_archive(made, [NAME, DATABASE], tmp_path / "saved")
    return partial(unpack, tmp_path / "saved")


def test_backup_of_an_earlier_release_is_upgraded_by_the_first_start(
    tmp_path: Path, later_release: str
) -> None:
    data_dir = tmp_path / "data"
    restore(saved(tmp_path, REVISIONS[0]), data_dir)
    migrate(data_dir / DATABASE)
    assert is_newest(data_dir / DATABASE), later_release


def test_way_back_from_a_later_release_is_the_backup_of_before(
    tmp_path: Path, later_release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "data"
    made = saved(tmp_path, REVISIONS[0])
    restore(made, data_dir)
    migrate(data_dir / DATABASE)
    monkeypatch.undo()  # the earlier release is run again
    with pytest.raises(SchemaUnknown, match=later_release):
        migrate(data_dir / DATABASE)
    data_dir.rename(tmp_path / "aside")
    restore(made, data_dir)
    assert is_newest(data_dir / DATABASE)


@pytest.mark.parametrize(
    ("revision", "says"),
    [("release_9999", "newer version"), ("0045", "before the first release")],
)
def test_backup_of_an_unknown_version_is_refused_whole(
    tmp_path: Path, revision: str, says: str
) -> None:
    with pytest.raises(BackupInvalid, match=says):
        restore(saved(tmp_path, revision), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_no_session_and_no_link_of_a_backup_opens_anything(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    restore(saved(tmp_path, NEWEST_REVISION, opened=True), data_dir)
    with closing(sqlite3.connect(data_dir / DATABASE)) as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM links").fetchone() == (0,)

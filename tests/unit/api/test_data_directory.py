"""Whose a data directory is, and which kind of gateway's."""

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from moorage.errors import ConfigurationInvalid, DatabaseUnavailable
from moorage.gateway.data_directory import (
    open_data_directory,
    open_to_others,
    remove_all_but_books,
)
from moorage.storage.copying import copy_database
from moorage.storage.migrate import is_newest, migrate
from moorage.storage.opening import Purpose, open_database, purpose_of


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "a" / "data"


@pytest.mark.parametrize("purpose", Purpose)
def test_directory_and_database_are_their_owners_alone(data_dir: Path, purpose: Purpose) -> None:
    open_data_directory(data_dir, purpose)
    database = data_dir / "moorage.db"
    migrate(database)
    with closing(open_database(database)):
        modes = {path.name: mode_of(path) for path in data_dir.iterdir()}
    files = {name: mode for name, mode in modes.items() if name.startswith("moorage.db")}
    assert mode_of(data_dir) == 0o700
    assert files == {"moorage.db": 0o600, "moorage.db-wal": 0o600, "moorage.db-shm": 0o600}
    assert {mode for name, mode in modes.items() if name not in files} == {0o700}
    assert is_newest(database)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_directory_that_others_may_enter_is_refused_with_what_closes_it(
    data_dir: Path, mode: int
) -> None:
    data_dir.mkdir(parents=True)
    data_dir.chmod(mode)
    with pytest.raises(ConfigurationInvalid, match=f"chmod 700 {data_dir}"):
        open_data_directory(data_dir, Purpose.SERVE)
    assert open_to_others(data_dir)
    assert list(data_dir.iterdir()) == []
    data_dir.chmod(0o700)
    assert not open_to_others(data_dir)
    open_data_directory(data_dir, Purpose.SERVE)


def test_database_that_others_could_read_is_closed(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700, parents=True)
    migrate(data_dir / "moorage.db")
    (data_dir / "moorage.db").chmod(0o644)
    open_data_directory(data_dir, Purpose.SERVE)
    assert mode_of(data_dir / "moorage.db") == 0o600


@pytest.mark.parametrize(
    ("first", "second"), [(Purpose.DEV, Purpose.SERVE), (Purpose.SERVE, Purpose.DEV)]
)
def test_database_serves_one_purpose_also_where_it_is_a_copy(
    data_dir: Path, tmp_path: Path, first: Purpose, second: Purpose
) -> None:
    open_data_directory(data_dir, first)
    migrate(data_dir / "moorage.db")
    open_data_directory(data_dir, first)
    with pytest.raises(ConfigurationInvalid, match=f"`moorage {first.name.lower()}`"):
        open_data_directory(data_dir, second)
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    copy_database(data_dir / "moorage.db", other / "moorage.db")
    with pytest.raises(ConfigurationInvalid):
        open_data_directory(other, second)
    assert purpose_of(other / "moorage.db") is first


def test_database_from_before_is_devs_where_its_wallets_lie_beside_it(
    data_dir: Path, tmp_path: Path
) -> None:
    data_dir.mkdir(mode=0o700, parents=True)
    migrate(data_dir / "moorage.db")
    real = Path(shutil.copytree(data_dir, tmp_path / "real"))
    (data_dir / "wallets.json").touch()
    with pytest.raises(ConfigurationInvalid, match="local chains"):
        open_data_directory(data_dir, Purpose.SERVE)
    with pytest.raises(ConfigurationInvalid, match="real money"):
        open_data_directory(real, Purpose.DEV)
    open_data_directory(data_dir, Purpose.DEV)
    open_data_directory(real, Purpose.SERVE)


def test_books_are_never_begun_anew_beside_those_there_are(data_dir: Path) -> None:
    open_data_directory(data_dir, Purpose.SERVE)
    with pytest.raises(ConfigurationInvalid, match="migrate-database"):
        open_data_directory(data_dir, Purpose.SERVE, "postgresql://db.example/moorage")
    (data_dir / "moorage.db").rename(data_dir / "moorage.db.moved")
    with pytest.raises(ConfigurationInvalid, match="set database_url"):
        open_data_directory(data_dir, Purpose.SERVE)
    assert not (data_dir / "moorage.db").exists()


def test_what_is_no_database_is_told(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700, parents=True)
    (data_dir / "moorage.db").write_bytes(b"no database" * 100)
    with pytest.raises(DatabaseUnavailable):
        open_data_directory(data_dir, Purpose.DEV)


def test_no_other_program_uses_these_numbers(data_dir: Path) -> None:
    open_data_directory(data_dir, Purpose.DEV)
    with closing(sqlite3.connect(data_dir / "moorage.db")) as connection:
        (number,) = connection.execute("PRAGMA application_id").fetchone()
    assert number.to_bytes(4, "big") == b"MOOD"


def test_end_of_a_gateway_leaves_the_books_and_what_is_not_its_own(
    data_dir: Path, tmp_path: Path
) -> None:
    open_data_directory(data_dir, Purpose.SERVE)
    other_disk, own = tmp_path / "disk", data_dir / "notes.txt"
    (other_disk / "volumes").mkdir(parents=True)
    (other_disk / "volumes/image").touch()
    (data_dir / "apps").rmdir()
    (data_dir / "apps").symlink_to(other_disk)
    (data_dir / "sources/upload").mkdir()
    (data_dir / "sources/link").symlink_to(own)
    for path in (own, data_dir / "secrets.key"):
        path.touch()

    assert remove_all_but_books(data_dir) == ["moorage.db", "notes.txt"]

    assert list(other_disk.iterdir()) == []
    assert own.exists()
    assert remove_all_but_books(data_dir) == ["moorage.db", "notes.txt"]

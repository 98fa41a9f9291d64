"""Books that earlier versions wrote are upgraded to this one's schema, and lose nothing."""

from pathlib import Path

import pytest

from moorage.storage.migrate import NEWEST_REVISION, is_newest, migrate
from support.books.old_books import DUMPS, assert_sound, money_of, write_books


@pytest.fixture(params=DUMPS, ids=lambda dump: str(dump.stem))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database file as a version wrote it."""
    write_books(request.param, tmp_path / "moorage.db")
    return tmp_path / "moorage.db"


def test_there_is_a_dump_of_each_age() -> None:
    assert [dump.stem for dump in DUMPS] == ["0004", "0009", "0017", "0021", "0028"]


async def test_upgrade_loses_no_money_no_project_and_no_version(old: Path) -> None:
    before = money_of(old)
    assert all(before)

    migrate(old)

    assert is_newest(old), NEWEST_REVISION
    assert money_of(old) == before
    await assert_sound(old)

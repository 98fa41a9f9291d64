"""A backup is told apart from one whose key opens nothing of what it saves."""

import asyncio
from pathlib import Path

import pytest

from moorage.backup.archive import unpack
from moorage.gateway.data_directory import KEY_FILE
from moorage.operate.backup import Saved, back_up
from moorage.records.project import Variables
from moorage.settings import load_settings
from moorage.storage.apps import projects
from moorage.storage.opening import open_database
from moorage.storage.vault import Vault
from support.books.records_fixture import ALICE, add_project

pytestmark = pytest.mark.root

RIGHT, WRONG = "11" * 32, "ab" * 32


async def seal(path: Path) -> None:
    """Stores a project whose variables are sealed with the right key."""
    db = open_database(path)
    project = await add_project(db, ALICE, "hello")
    text = Vault([bytes.fromhex(RIGHT)]).seal(Variables(build={}, run={"A": "b"}), project.id)
    async with db.transaction(durable=False) as tx:
        await projects.configure(tx, project.id, variables=text, health_path="/")
    db.close()


@pytest.fixture
def data_dir(db_path: Path) -> Path:
    asyncio.run(seal(db_path))
    return db_path.parent


def write_key(path: Path, *keys: str) -> str:
    path.write_text("".join(f"{key}\n" for key in keys))
    path.chmod(0o600)
    return str(path)


def save(data_dir: Path, target: Path, *, key_file: str = "", with_key: bool = False) -> Saved:
    given = {"data_dir": str(data_dir), "secrets_key_file": key_file}
    return back_up(load_settings(file=None, environ={}, **given), target, with_key=with_key)


def test_key_of_the_directory_that_opens_the_secrets_is_saved_with_them(
    data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write_key(data_dir / KEY_FILE, WRONG, RIGHT)  # a newer key has not sealed everything yet
    saved = save(data_dir, tmp_path_factory.mktemp("to") / "saved")
    assert (saved.key_problem, saved.manifest.secrets_key) == ("", True)


def test_key_that_is_gone_or_another_is_told(
    data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("to")
    assert "cannot be read" in save(data_dir, target / "gone").key_problem
    write_key(data_dir / KEY_FILE, WRONG)
    assert "is not the key" in save(data_dir, target / "wrong").key_problem


def test_key_that_another_file_has_replaced_is_not_saved(
    data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("to")
    write_key(data_dir / KEY_FILE, WRONG)  # left from before `secrets_key_file` was set
    in_force = write_key(target / "key", RIGHT)
    apart = save(data_dir, target / "apart", key_file=in_force)
    assert (apart.key_problem, apart.manifest.secrets_key) == ("", False)
    inside = save(data_dir, target / "inside", key_file=in_force, with_key=True)
    assert (inside.key_problem, inside.manifest.secrets_key) == ("", True)
    (target / "out").mkdir()
    unpack(target / "inside", target / "out")
    assert (target / "out" / KEY_FILE).read_text().strip() == RIGHT

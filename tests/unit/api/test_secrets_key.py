"""The operator's key: made once, never silently another, and exchanged by a second line."""

from pathlib import Path

import pytest

from moorage.errors import ConfigurationInvalid
from moorage.events.signature import new_secret
from moorage.gateway.data_directory import KEY_FILE, open_vault, seal_with_newest
from moorage.records.event import Webhook
from moorage.records.project import Variables
from moorage.settings import Settings
from moorage.storage import events
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database
from moorage.storage.vault import Vault
from support.books.records_fixture import ALICE, add_deployment, add_project

OLD, NEW = "11" * 32, "ab" * 32
SECRETS = Variables(build={"B": "1"}, run={"R": "hunter2"})


def settings(data_dir: Path, key_file: str = "") -> Settings:
    return Settings(data_dir=str(data_dir), secrets_key_file=key_file)


def key_file(path: Path, *keys: str, mode: int = 0o600) -> str:
    path.write_text("".join(f"{key}\n" for key in keys))
    path.chmod(mode)
    return str(path)


async def sealed(db: Database, key: str) -> tuple[str, str]:
    """A project and a deployment with variables under a key; their ids."""
    project = await add_project(db, ALICE, "hello")
    text = Vault([bytes.fromhex(key)]).seal(SECRETS, project.id)
    deployment = await add_deployment(db, project, variables=text)
    async with db.transaction(durable=False) as tx:
        await projects.configure(tx, project.id, variables=text, health_path="/")
    return project.id, deployment.id


async def stored(db: Database, project_id: str, deployment_id: str) -> tuple[str, str]:
    project = await projects.by_id(db, project_id)
    deployment = await deployments.by_id(db, deployment_id)
    assert project is not None
    assert deployment is not None
    return project.variables, deployment.variables


async def started(given: Settings, db: Database) -> Vault:
    vault = await open_vault(given, db)
    await seal_with_newest(vault, db)
    return vault


async def refused(db: Database, given: Settings) -> str:
    with pytest.raises(ConfigurationInvalid) as error:
        await open_vault(given, db)
    return error.value.message


async def test_key_is_made_at_the_first_start_for_its_owner_alone_and_kept(
    db: Database, tmp_path: Path
) -> None:
    first = await open_vault(settings(tmp_path), db)
    path = tmp_path / KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(path.read_text().strip())) == 32
    again = await open_vault(settings(tmp_path), db)
    assert again.mark == first.mark
    (tmp_path / "other").mkdir()
    assert (await open_vault(settings(tmp_path / "other"), db)).mark != first.mark


async def test_key_that_is_lost_is_not_made_anew_while_variables_are_sealed_with_it(
    db: Database, tmp_path: Path
) -> None:
    await sealed(db, OLD)
    assert "put it back" in await refused(db, settings(tmp_path))
    assert not (tmp_path / KEY_FILE).exists()


async def test_another_key_does_not_start(db: Database, tmp_path: Path) -> None:
    ids = await sealed(db, OLD)
    before = await stored(db, *ids)
    told = await refused(db, settings(tmp_path, key_file(tmp_path / "key", NEW)))
    assert "not the key" in told
    assert OLD not in told
    assert NEW not in told
    assert await stored(db, *ids) == before


async def test_key_file_that_is_named_must_be_there(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert str(path) in await refused(db, settings(tmp_path, str(path)))
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "secret", "11" * 31, f"{OLD}\nx", "11" * 3_000])
async def test_file_that_holds_no_key_is_refused_unread(
    db: Database, tmp_path: Path, text: str
) -> None:
    told = await refused(db, settings(tmp_path, key_file(tmp_path / "key", text)))
    assert "64 hex digits" in told
    assert "1111" not in told


async def test_key_that_others_may_read_is_refused(db: Database, tmp_path: Path) -> None:
    named = key_file(tmp_path / "key", OLD, mode=0o640)
    assert "chmod 600" in await refused(db, settings(tmp_path, named))


async def test_newest_key_seals_all_anew_and_the_old_one_may_go(
    db: Database, tmp_path: Path
) -> None:
    project_id, deployment_id = await sealed(db, OLD)
    path = tmp_path / "key"

    await started(settings(tmp_path, key_file(path, NEW, OLD)), db)
    vault = await started(settings(tmp_path, key_file(path, NEW)), db)

    for text in await stored(db, project_id, deployment_id):
        assert text.startswith(vault.mark)
        assert vault.open(text, project_id) == SECRETS


async def test_variables_of_a_deleted_project_are_forgotten(db: Database) -> None:
    ids = await sealed(db, OLD)
    async with db.transaction(durable=False) as tx:
        await projects.forget_variables(tx, ids[0])
    assert await stored(db, *ids) == ("", "")


async def webhook(db: Database, secret: str) -> None:
    made = Webhook(wallet=ALICE, url="https://example.com/", secret=secret, created_at_ms=0)
    async with db.transaction(durable=False) as tx:
        await events.set_webhook(tx, made)


async def secret_of(db: Database) -> str:
    found = await events.webhook_of(db, ALICE)
    assert found is not None
    return found.secret


async def test_secrets_of_webhooks_follow_the_newest_key(db: Database, tmp_path: Path) -> None:
    plain, path = new_secret(), tmp_path / "key"
    first = await started(settings(tmp_path, key_file(path, OLD)), db)
    await webhook(db, first.seal_secret(plain, ALICE))

    assert "secrets_key_file" in await refused(db, settings(tmp_path, str(tmp_path / "none")))
    assert "missing" in await refused(db, settings(tmp_path, key_file(path, NEW)))
    second = await started(settings(tmp_path, key_file(path, NEW, OLD)), db)
    assert (await secret_of(db)).startswith(second.mark)
    only = await started(settings(tmp_path, key_file(path, NEW)), db)
    assert only.open_secret(await secret_of(db), ALICE) == plain

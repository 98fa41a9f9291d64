"""What a backup takes along, of a data directory whose disks are not mounted."""

import asyncio
import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from moorage.backup.staging import Staging
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.sandbox.deployment_directory import Record
from moorage.engines.sandbox.kind import SandboxExports
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.storage import copying
from moorage.storage.apps import projects
from moorage.storage.apps.projects import give_volume
from moorage.storage.money import accounts
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ALICE, add_deployment, add_project, fund
from support.gateway.clock import MovableClock
from support.gateway.waiting import until

DISK = b"a disk"


@pytest.fixture
def staging(db_path: Path, tmp_path: Path) -> Staging:
    """Of a data directory that holds the database, and what a test puts there."""
    directory = tmp_path / ".backup"
    directory.mkdir()
    clock = MovableClock()
    return Staging(
        data_dir=db_path.parent,
        database=db_path,
        exports=SandboxExports(db_path.parent / "apps", tmp_path / "mounts", clock),
        directory=directory,
        clock=clock,
    )


def place(staging: Staging, deployment: Deployment, stage: Stage = Stage.STARTED) -> Path:
    """A deployment's directory, as the sandbox keeps it."""
    directory = staging.data_dir / "apps" / "deployments" / deployment.id
    directory.mkdir(parents=True)
    (directory / "disk.img").write_bytes(DISK)
    for kind in ("build", "runtime"):
        (directory / "logs" / kind).mkdir(parents=True)
        (directory / "logs" / kind / "0000000000000000").write_text(f"17 o it says {kind}\n")
    (directory / "status.json").write_text("{}")
    record = Record(deployment_id=deployment.id, slot=7, stage=stage, exit_code=3)
    record.write(directory)
    return directory


async def taken(staging: Staging) -> set[str]:
    await staging.take()
    return {str(path) for path in staging.files()}


async def test_what_serves_and_what_can_be_rolled_back_to_is_taken(
    db: FaultyDatabase, staging: Staging
) -> None:
    project = await add_project(db)
    serving = await add_deployment(db, project, DeploymentStatus.READY, serving=True)
    kept = await add_deployment(db, project, DeploymentStatus.SUPERSEDED)
    collected = await add_deployment(db, project, DeploymentStatus.SUPERSEDED, is_kept=False)
    failed = await add_deployment(db, project, DeploymentStatus.FAILED)
    for deployment in (serving, kept, collected, failed):
        place(staging, deployment)
    gone = await add_project(db, name="gone")
    of_gone = await add_deployment(db, gone, DeploymentStatus.READY, serving=True)
    place(staging, of_gone)
    async with db.transaction(durable=True) as tx:
        await projects.set_deleted(tx, gone.id, at_ms=1)

    names = await taken(staging)

    assert names == {"moorage.db"} | {
        f"apps/deployments/{deployment.id}/{name}"
        for deployment in (serving, kept)
        for name in (
            "disk.img",
            "record.json",
            "logs/build/0000000000000000",
            "logs/runtime/0000000000000000",
        )
    }
    assert staging.lost == set()
    copied = staging.directory / "apps" / "deployments" / serving.id
    assert (copied / "disk.img").read_bytes() == DISK
    said = (copied / "logs" / "runtime" / "0000000000000000").read_text()
    assert said == "17 o it says runtime\n"


async def test_app_comes_back_as_built_not_as_one_that_crashed(
    db: FaultyDatabase, staging: Staging
) -> None:
    project = await add_project(db)
    serving = await add_deployment(db, project, DeploymentStatus.READY, serving=True)
    place(staging, serving)
    await staging.take()
    record = Record.read(staging.directory / "apps" / "deployments" / serving.id)
    assert record is not None
    assert (record.stage, record.listener) == (Stage.BUILT, None)


async def test_keys_are_taken_and_little_else(db: FaultyDatabase, staging: Staging) -> None:
    """Certificates and their keys are rows."""
    for name in ("secrets.key", "challenges.key", "proxy/access.log"):
        path = staging.data_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    for name in ("nonces", "spool", "sources", "chains"):
        (staging.data_dir / name).mkdir()
        (staging.data_dir / name / "file").write_text("x")
    names = await taken(staging)
    assert names == {"moorage.db", "secrets.key", "challenges.key"}


async def test_links_and_pipes_are_left_where_they_are(
    db: FaultyDatabase, staging: Staging
) -> None:
    project = await add_project(db)
    serving = await add_deployment(db, project, DeploymentStatus.READY, serving=True)
    directory = place(staging, serving)
    (directory / "link.log").symlink_to("/etc/passwd")
    os.mkfifo(directory / "out.pipe")
    async with asyncio.timeout(60):
        names = await taken(staging)
    assert not any(name.endswith(("link.log", "out.pipe")) for name in names)


async def test_deployment_without_files_is_named_as_lost(
    db: FaultyDatabase, staging: Staging
) -> None:
    project = await add_project(db)
    lost = await add_deployment(db, project, DeploymentStatus.READY, serving=True)
    assert await taken(staging) == {"moorage.db"}
    assert staging.lost == {lost.id}


async def test_release_collected_meanwhile_is_taken_for_collected(
    db: FaultyDatabase, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await add_project(db)
    first = await add_deployment(db, project, DeploymentStatus.SUPERSEDED)
    second = await add_deployment(db, project, DeploymentStatus.SUPERSEDED)
    place(staging, first)  # of the second, files are gone already; soon both rows say so
    rounds: list[int] = []

    def copy(source: Path, target: Path, copied: Callable[..., None]) -> None:
        rounds.append(1)
        if len(rounds) == 2:
            db.sql("UPDATE deployments SET is_kept = 0")
        copied(source, target)

    original = copying.copy_database
    monkeypatch.setattr(
        copying, "copy_database", lambda source, target: copy(source, target, original)
    )
    assert await taken(staging) == {"moorage.db"}
    assert (len(rounds), staging.lost) == (2, set())
    assert second.id not in staging.copied


async def test_volumes_of_living_projects_are_taken(db: FaultyDatabase, staging: Staging) -> None:
    mine, unused, without = [await add_project(db, name=name) for name in ("one1", "two2", "six6")]
    async with db.transaction(durable=True) as tx:
        for project in (mine, unused):
            await give_volume(tx, project.id)
    for project in (mine, without):
        image = staging.data_dir / "apps" / "volumes" / project.id / "disk.img"
        image.parent.mkdir(parents=True)
        image.write_bytes(DISK)
    assert await taken(staging) == {"moorage.db", f"apps/volumes/{mine.id}/disk.img"}


async def test_database_is_copied_as_it_stood_beside_a_writer(
    db: FaultyDatabase, staging: Staging
) -> None:
    await fund(db, ALICE, 500_000)
    async with db.transaction(durable=True) as tx:
        await accounts.change_balance(tx, ALICE, 1_000)
        await staging.take()  # what is not committed is not in it
    copy = FaultyDatabase(staging.directory / "moorage.db")
    assert await accounts.balance(copy, ALICE) == 500_000
    copy.close()


async def test_backup_copies_when_no_other_does(db: FaultyDatabase, staging: Staging) -> None:
    """The disk of an app can be frozen once at a time."""
    project = await add_project(db)
    place(staging, await add_deployment(db, project, DeploymentStatus.READY, serving=True))
    copying_app, may_end = list[Path](), threading.Event()

    class Slow(SandboxExports):
        def app(self, deployment_id: str, target: Path) -> bool:
            copying_app.append(target)
            may_end.wait()
            return super().app(deployment_id, target)

    def take(name: str) -> None:
        directory = staging.directory / name
        directory.mkdir()
        exports = Slow(staging.data_dir / "apps", staging.directory, staging.clock)
        taking = replace(staging, directory=directory, exports=exports, copied=set())
        asyncio.run(taking.take())

    blocked = re.compile(rf"-> FLOCK .*:{staging.data_dir.stat().st_ino} ")
    tasks = []
    try:
        for name in ("first", "second"):
            tasks.append(asyncio.create_task(asyncio.to_thread(take, name)))
            await until(
                lambda: (
                    len(copying_app) == len(tasks)
                    or bool(blocked.search(Path("/proc/locks").read_text()))
                )
            )
        assert len(copying_app) == 1
    finally:
        may_end.set()
    await asyncio.gather(*tasks)
    assert len(copying_app) == 2


async def test_backup_that_is_ended_leaves_no_disk_frozen(
    db: FaultyDatabase, staging: Staging
) -> None:
    project = await add_project(db)
    place(staging, await add_deployment(db, project, DeploymentStatus.READY, serving=True))
    thawed = list[str]()

    class Ended(SandboxExports):
        def app(self, deployment_id: str, target: Path) -> bool:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                return True
            finally:
                thawed.append(deployment_id)

    exports = Ended(staging.data_dir / "apps", staging.directory, staging.clock)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        await replace(staging, exports=exports).take()
    assert len(thawed) == 1
    assert signal.getsignal(signal.SIGTERM) == before

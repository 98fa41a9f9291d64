"""Archives of projects: every gateway gives the newest, and what a project has harms none."""

import asyncio
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import msgspec

from moorage.content.store import DirectoryStore
from moorage.core import Core
from moorage.engines.locks import Locks
from moorage.hosting.exports import Exporter, ExportFiles
from moorage.records.project import Project
from moorage.storage.database import Database
from moorage.storage.operation.exports import Export
from moorage.storage.several.leases import Leases
from moorage.storage.vault import Vault
from support.books.records_fixture import GATEWAY, add_deployment, add_project
from support.gateway.clock import MovableClock
from support.gateway.fakes import FakeRuntime

FILES = 2_500
LONG = "/".join(["d" * 250] * 13)  # so long that other work of this process weighs little


def core_at(db: Database, clock: MovableClock, data_dir: Path, content: Path) -> Core:
    data_dir.mkdir()
    return Core(
        db=db,
        vault=Vault([bytes(32)]),
        leases=Leases(db=db, holder=GATEWAY, clock=clock),
        clock=clock,
        data_dir=data_dir,
        content=DirectoryStore(content),
    )


async def test_another_gateway_gives_the_last_archive_and_not_the_one_it_gave_before(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    (tmp_path / "content").mkdir()
    leader, other = (
        ExportFiles(core_at(db, clock, tmp_path / name, tmp_path / "content"))
        for name in ("leader", "other")
    )
    first = Export(
        project_id="p", token="ab" * 32, file_name="x", size_bytes=1, is_last=False, until_ms=1
    )
    last = msgspec.structs.replace(first, is_last=True)
    for export, content in ((first, "first"), (last, "last")):
        made = leader.draft("p").with_suffix(".tar")
        made.write_text(content)
        await leader.put(export, made)
        assert (await other.path(export)).read_text() == content


class LongNames(FakeRuntime):
    """An engine whose app has made many files with long paths, and names that are no text."""

    async def export_files(self, deployment_id: str, target: Path, **others: object) -> None:
        (target / LONG).mkdir(parents=True)
        for number in range(FILES):
            (target / LONG / f"{number}").touch()
        (target / "\udcff").touch()  # the byte 0xff


async def test_archive_of_many_long_names_takes_no_memory_for_each(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    project = await serving(db)
    core = core_at(db, clock, tmp_path / "gateway", tmp_path)
    exporter = Exporter(core, LongNames(), ExportFiles(core), volume_locks=Locks())
    tracemalloc.start()
    try:
        archive = await exporter.make(project)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < FILES * len(LONG)
    names = await asyncio.to_thread(names_in, archive.path, tmp_path)
    assert len(names) > FILES
    assert "files/\udcff" in names


async def serving(db: Database) -> Project:
    project = await add_project(db)
    deployment = await add_deployment(db, project)
    return msgspec.structs.replace(project, serving_deployment_id=deployment.id)


def files_of(archive: Path, directory: Path) -> Path:
    """The part with the files, taken out of an archive as its owner would."""
    subprocess.run(["tar", "-xf", archive, "-C", directory], check=True)
    return directory / "files.tar.gz"


def names_in(archive: Path, directory: Path) -> set[str]:
    with tarfile.open(files_of(archive, directory)) as packed:
        return set(packed.getnames())


class OddFiles(FakeRuntime):
    """An engine whose app has made files that are larger than they are."""

    async def export_files(self, deployment_id: str, target: Path, **others: object) -> None:
        target.mkdir()
        with (target / "sparse").open("wb") as file:
            file.write(b"near")
            file.seek(1 << 40)
            file.write(b"far")
            file.truncate(1 << 41)
        (target / "one").write_text("twice")
        (target / "two").hardlink_to(target / "one")
        (target / "whole").write_text("after")


async def test_archive_keeps_holes_and_further_names(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    """Written out, two tebibytes of nothing would keep a project from being deleted."""
    project = await serving(db)
    core = core_at(db, clock, tmp_path / "gateway", tmp_path)
    exporter = Exporter(core, OddFiles(), ExportFiles(core), volume_locks=Locks())
    archive = await exporter.make(project)
    assert archive.size_bytes < 1 << 20
    packed_files = files_of(archive.path, tmp_path)
    subprocess.run(["tar", "-xzf", packed_files, "-C", tmp_path], check=True)
    files = tmp_path / "files"
    assert (files / "sparse").stat().st_size == 1 << 41
    with (files / "sparse").open("rb") as file:
        assert file.read(5) == b"near" + bytes(1)
        file.seek(1 << 40)
        assert file.read(4) == b"far" + bytes(1)
    assert (files / "one").samefile(files / "two")
    assert (files / "whole").read_text() == "after"
    with tarfile.open(packed_files) as packed:
        names = packed.getnames()
        assert names == sorted(names)
        sizes = {each.name.rpartition("/")[2]: each.size for each in packed}
    assert sizes["sparse"] == 1 << 41

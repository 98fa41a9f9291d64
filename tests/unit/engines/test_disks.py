"""Disks of apps: how far they grow, copies of them, what apps wrote there and downloaded."""

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from moorage.archive.tree import read_tree
from moorage.engines.disks import disk
from moorage.engines.disks.caches import Caches, Downloads
from moorage.engines.disks.disk import (
    IMAGE,
    AppDisk,
    DiskTemplates,
    Growths,
    mkfs_argv,
    read_written,
    written_since,
)
from moorage.engines.disks.trees import NotAFile, copy_files, copy_tree, remove_below, subtract_tree
from moorage.engines.engine import WrittenFiles
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.host.listeners import Listener
from moorage.engines.isolation.bubblewrap import parse_child_pid, parse_exit_code
from moorage.engines.sandbox.deployment_directory import Record
from moorage.errors import DeployFailed, FailureCause
from support.gateway.clock import MovableClock


def write(path: Path, content: str = "x", *, after_ns: int = 0) -> int:
    """Writes a file until its ctime is later, as the file system's clock has steps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        path.write_text(content)
        if (at_ns := path.stat().st_ctime_ns) > after_ns:
            return at_ns
        path.unlink()


def found(
    files: int,
    size_bytes: int,
    *paths: str,
    complete: bool = True,
    outside: tuple[str, ...] = (),
) -> WrittenFiles:
    return WrittenFiles(
        files=files, size_bytes=size_bytes, complete=complete, paths=paths, outside=outside
    )


def test_files_of_the_build_are_not_counted_and_later_ones_are(tmp_path: Path) -> None:
    built_ns = write(tmp_path / "app/index.js", "abc")
    write(tmp_path / "app/data/a", "four", after_ns=built_ns)
    write(tmp_path / "home/b", "", after_ns=built_ns)
    app, home = tmp_path / "app", tmp_path / "home"
    later = found(2, 4, "/app/data/a", outside=("/home/app/b",))
    assert written_since(app, home, built_ns) == later
    everything = found(3, 7, "/app/data/a", "/app/index.js", outside=("/home/app/b",))
    assert written_since(app, home, 0) == everything
    assert written_since(tmp_path / "gone", tmp_path / "gone", 0) == found(0, 0)


def test_directories_of_tools_are_not_counted_and_hidden_ones_of_an_app_are(tmp_path: Path) -> None:
    app, home = tmp_path / "app", tmp_path / "home"
    for name in (".cache/a", ".next/b", "__pycache__/c.pyc", "node_modules/d", "tmp/e"):
        write(app / name)
        write(home / name)
    write(app / ".data/kv/entries.json")
    write(home / ".data/kv/entries.json")
    assert written_since(app, home, 0) == found(1, 1, "/app/.data/kv/entries.json")


def test_links_are_neither_counted_nor_followed(tmp_path: Path) -> None:
    write(tmp_path / "outside/secret")
    app = tmp_path / "app"
    app.mkdir()
    (app / "directory").symlink_to(tmp_path / "outside")
    (app / "file").symlink_to(tmp_path / "outside/secret")
    (tmp_path / "home").symlink_to(tmp_path / "outside")
    assert written_since(app, tmp_path / "home", 0) == found(0, 0)


def test_more_than_may_be_looked_at_is_said_to_be_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / name)
    monkeypatch.setattr(disk, "_MAX_ENTRIES", 2)
    counted = written_since(tmp_path, tmp_path / "home", 0)
    assert (counted.files, counted.complete) == (2, False)


def test_what_lies_too_deep_is_said_to_be_incomplete(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path.joinpath(*"d" * 17) / "deep")
    assert written_since(tmp_path, tmp_path / "home", 0) == found(1, 1, "/app/a", complete=False)


def test_few_files_are_named_each_as_one_line_that_is_not_long(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / f"{number}\n\u202e{'x' * 230}")
    named = written_since(tmp_path, tmp_path / "home", 0).paths
    assert len(named) == 10
    assert all(len(path) == 201 and path.isprintable() for path in named)


def test_what_was_written_is_packed_with_its_paths_and_nothing_else(tmp_path: Path) -> None:
    app, volume = tmp_path / "app", tmp_path / "volume"
    built_ns = write(app / "index.js", "abc")
    (app / "old-link").symlink_to("index.js")
    write(app / "uploads/old.png", "old")
    built_ns = max(built_ns, (app / "uploads/old.png").stat().st_ctime_ns)
    write(app / "uploads/new/photo.png", "new", after_ns=built_ns)
    write(app / "entries.json", "[1]", after_ns=built_ns)
    write(app / ".next/cache/page", "cached", after_ns=built_ns)
    os.mkfifo(app / "pipe")
    (app / "latest").symlink_to("uploads/new/photo.png")
    volume.mkdir()
    archive = read_written(app, tmp_path / "archive", since_ns=built_ns, max_bytes=1_000)
    with archive.path.open("rb") as source:
        read_tree(source, volume, digest=archive.digest, max_bytes=1_000)
    files = {str(it.relative_to(volume)) for it in volume.rglob("*") if not it.is_dir()}
    assert files == {"entries.json", "latest", "uploads/new/photo.png"}
    assert (volume / "entries.json").read_text() == "[1]"
    assert (volume / "latest").readlink() == Path("uploads/new/photo.png")


def test_nothing_written_is_packed_as_nothing(tmp_path: Path) -> None:
    built_ns = write(tmp_path / "app/index.js")
    archive = read_written(
        tmp_path / "app", tmp_path / "archive", since_ns=built_ns, max_bytes=1_000
    )
    (tmp_path / "volume").mkdir()
    with archive.path.open("rb") as source:
        read_tree(source, tmp_path / "volume", digest=archive.digest, max_bytes=1_000)
    assert list((tmp_path / "volume").iterdir()) == []


def test_all_is_packed_where_nobody_noted_the_end_of_the_build(tmp_path: Path) -> None:
    """The disk was full then, or the app is older than such notes: nothing may be lost."""
    write(tmp_path / "disk/app/entries.json")
    (tmp_path / "volume").mkdir()
    disk = AppDisk(image=tmp_path / "disk.img", mount_point=tmp_path / "disk")
    archive = disk.read_written(tmp_path / "archive", max_bytes=1_000)
    with archive.path.open("rb") as source:
        read_tree(source, tmp_path / "volume", digest=archive.digest, max_bytes=1_000)
    assert (tmp_path / "volume/entries.json").read_text() == "x"


def test_more_than_a_volume_holds_is_not_packed(tmp_path: Path) -> None:
    write(tmp_path / "app/large", "x" * 2_000)
    with pytest.raises(DeployFailed, match="can't be taken along") as failed:
        read_written(tmp_path / "app", tmp_path / "archive", since_ns=0, max_bytes=1_000)
    assert "discard_written: true" in failed.value.reason


UID = os.geteuid()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "source" / "deep" / "er" / "file").write_bytes(b"content")
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_files_and_directories_are_copied(source: Path, target: Path) -> None:
    (source / "empty").mkdir()
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o4755)
    copy_tree(source, target, uid=UID)
    assert (target / "deep" / "er" / "file").read_bytes() == b"content"
    assert (target / "empty").is_dir()
    assert (target / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert (target / "deep" / "er" / "file").stat().st_mode & 0o7777 == 0o644


def test_empty_and_large_files_are_copied_whole(source: Path, target: Path) -> None:
    (source / "none").write_bytes(b"")
    (source / "large").write_bytes(bytes(range(256)) * 20_000)
    copy_tree(source, target, uid=UID)
    assert (target / "none").read_bytes() == b""
    assert (target / "large").read_bytes() == bytes(range(256)) * 20_000


@pytest.mark.parametrize("link_to", ["/etc/passwd", "file", "..", "nowhere"])
def test_link_is_refused_and_not_followed(source: Path, target: Path, link_to: str) -> None:
    (source / "deep" / "link").symlink_to(link_to)
    with pytest.raises(NotAFile) as caught:
        copy_tree(source, target, uid=UID)
    assert caught.value.path == "deep/link"
    assert not (target / "deep" / "link").exists()


def test_pipe_is_refused_without_waiting_for_a_writer(source: Path, target: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(NotAFile):
        copy_tree(source, target, uid=UID)


def test_existing_directories_are_filled_and_existing_files_kept(
    source: Path, target: Path
) -> None:
    (target / "deep").mkdir()
    (target / "deep" / "installed").touch()
    copy_tree(source, target, uid=UID)
    assert {path.name for path in (target / "deep").iterdir()} == {"er", "installed"}
    with pytest.raises(FileExistsError):
        copy_tree(source, target, uid=UID)


@pytest.mark.parametrize("where", ["deep", "deep/er", "deep/er/file"])
def test_link_in_the_target_is_not_followed(source: Path, target: Path, where: str) -> None:
    outside = target.parent / "outside"
    (outside / "er").mkdir(parents=True)
    (target / where).parent.mkdir(parents=True, exist_ok=True)
    (target / where).symlink_to(outside if where != "deep/er/file" else outside / "file")
    with pytest.raises(OSError):  # noqa: PT011 (which one depends on where the link is)
        copy_tree(source, target, uid=UID)
    assert not list(outside.rglob("file"))


def test_subtracted_tree_leaves_what_else_is_there(source: Path, target: Path) -> None:
    (source / "other").mkdir()
    (source / "other" / "file").touch()
    copy_tree(source, target, uid=UID)
    (target / "deep" / "installed").touch()
    subtract_tree(source, target)
    assert [str(path.relative_to(target)) for path in target.rglob("*")] == [
        "deep",
        "deep/installed",
    ]


@pytest.mark.parametrize("where", ["deep", "deep/er"])
def test_subtraction_follows_no_link(source: Path, target: Path, where: str) -> None:
    outside = target.parent / "outside"
    (outside / "er").mkdir(parents=True)
    (outside / "file").touch()
    (outside / "er" / "file").touch()
    (target / where).parent.mkdir(parents=True, exist_ok=True)
    (target / where).symlink_to(outside)
    subtract_tree(source, target)
    assert (outside / "file").exists()
    assert (outside / "er" / "file").exists()


def test_directory_below_is_removed(tmp_path: Path) -> None:
    (tmp_path / "home" / ".cache" / "uv" / "deep").mkdir(parents=True)
    (tmp_path / "home" / ".cache" / "kept").touch()
    remove_below(tmp_path / "home", ".cache/uv")
    remove_below(tmp_path / "home", ".cache/pip")
    remove_below(tmp_path / "home", ".npm/_cacache")
    assert [path.name for path in (tmp_path / "home" / ".cache").iterdir()] == ["kept"]


def test_empty_directory_is_removed_without_a_program(tmp_path: Path) -> None:
    (tmp_path / "home" / ".cache" / "uv").mkdir(parents=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    remove_below(tmp_path / "home", ".cache/uv")
    assert not list((tmp_path / "home" / ".cache").iterdir())
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt == before


@pytest.mark.parametrize("link", [".cache", ".cache/uv", ".cache/uv/inside"])
def test_link_in_the_way_keeps_what_it_leads_to(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    (outside / "uv" / "inside").mkdir(parents=True)
    (outside / "file").touch()
    (outside / "uv" / "file").touch()
    home = tmp_path / "home"
    (home / link).parent.mkdir(parents=True, exist_ok=True)
    (home / link).symlink_to(outside)
    remove_below(home, ".cache/uv")
    assert (outside / "file").exists()
    assert (outside / "uv" / "file").exists()


def test_file_system_has_no_journal_and_no_reserve() -> None:
    argv = mkfs_argv(Path("/x/disk.img"))
    assert argv[0] == "mkfs.ext4"
    assert argv[argv.index("-m") + 1] == "0"
    assert argv[argv.index("-O") + 1] == "^has_journal"
    assert argv[-1] == "/x/disk.img"


def test_record_survives_writing_and_reading(tmp_path: Path) -> None:
    record = Record(
        deployment_id="d",
        slot=7,
        stage=Stage.STARTED,
        listener=Listener("127.0.0.1", 3000, loopback_only=True),
    )
    assert Record.read(tmp_path) is None
    record.write(tmp_path)
    assert Record.read(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_torn_record_is_none(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"deployment_id": "d", "sl')
    assert Record.read(tmp_path) is None


STATUS = '{ "child-pid": 4711, "net-namespace": 4026531840 }\n{ "exit-code": 143 }\n'


def test_status_tells_first_process_and_exit_code() -> None:
    assert parse_child_pid(STATUS) == 4711
    assert parse_exit_code(STATUS) == 143


@pytest.mark.parametrize("status", ["", STATUS.splitlines()[0], STATUS[:-8], "null\n"])
def test_running_app_has_no_exit_code(status: str) -> None:
    assert parse_exit_code(status) is None


MIB = 1024 * 1024
TIB = 1 << 40


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app's files; 15 bytes."""
    (tmp_path / "app/lib").mkdir(parents=True)
    (tmp_path / "app/index.js").write_text("0123456789")
    (tmp_path / "app/lib/a.js").write_text("01234")
    return tmp_path / "app"


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_files_are_copied_without_links_and_what_an_install_makes(
    app: Path, tmp_path: Path
) -> None:
    (app / "node_modules").mkdir()
    (app / "link").symlink_to("/etc/passwd")
    (app / "lib/above").symlink_to("/")
    os.mkfifo(app / "pipe")
    copy_files(app, tmp_path / "copy", without={"node_modules"}, max_bytes=15)
    assert names(tmp_path / "copy") == {"index.js", "lib", "lib/a.js"}
    assert (tmp_path / "copy/lib/a.js").read_text() == "01234"


def refused(app: Path, target: Path, *, max_bytes: int) -> DeployFailed:
    with pytest.raises(DeployFailed) as caught:
        copy_files(app, target, without=(), max_bytes=max_bytes)
    return caught.value


def test_holes_of_a_file_stay_holes_and_count_nothing(app: Path, tmp_path: Path) -> None:
    with (app / "index.js").open("r+b") as file:
        file.seek(TIB)
        file.write(b"far")
        file.truncate(2 * TIB)
    copy_files(app, tmp_path / "copy", without=(), max_bytes=MIB)
    copied = tmp_path / "copy/index.js"
    assert copied.stat().st_size == 2 * TIB
    assert copied.stat().st_blocks * 512 < MIB
    with copied.open("rb") as file:
        assert file.read(12) == b"0123456789" + bytes(2)
        file.seek(TIB)
        assert file.read(4) == b"far" + bytes(1)


def test_further_names_of_a_file_stay_names_and_count_once(app: Path, tmp_path: Path) -> None:
    os.link(app / "index.js", app / "lib/again.js")
    refused(app, tmp_path / "copy", max_bytes=14)
    copy_files(app, tmp_path / "whole", without=(), max_bytes=15)
    assert (tmp_path / "whole/index.js").samefile(tmp_path / "whole/lib/again.js")


def test_file_that_grows_as_fast_as_it_is_copied_ends_where_it_did(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendfile = os.sendfile

    def growing(out: int, source: int, offset: int, count: int) -> int:
        with (app / "index.js").open("ab") as file:
            file.write(b"more")
        return sendfile(out, source, offset, count)

    monkeypatch.setattr(os, "sendfile", growing)
    copy_files(app, tmp_path / "copy", without=(), max_bytes=100)
    assert (tmp_path / "copy/index.js").read_text().startswith("0123456789")
    assert (tmp_path / "copy/index.js").stat().st_size < 20


def test_paths_longer_than_the_system_takes_are_refused_as_too_deep(
    app: Path, tmp_path: Path
) -> None:
    below = os.open(app, os.O_RDONLY)
    for _ in range(20):  # 5,100 letters
        os.mkdir("d" * 255, dir_fd=below)
        deeper = os.open("d" * 255, os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = deeper
    os.close(below)
    assert refused(app, tmp_path / "copy", max_bytes=MIB).cause is FailureCause.BUILD_FAILED


def test_file_that_becomes_something_else_while_it_is_copied_is_left_out(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def swapped(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "index.js":
            (app / "index.js").unlink()
            (app / "index.js").symlink_to("/etc/passwd")
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapped)
    copy_files(app, tmp_path / "copy", without=(), max_bytes=MIB)
    assert names(tmp_path / "copy") == {"lib", "lib/a.js"}


ALICE = "0x" + "a1" * 20


@pytest.mark.parametrize("in_the_way", ["caches", "deployment"])
async def test_build_goes_without_downloads_that_cannot_be_removed(
    tmp_path: Path, clock: MovableClock, in_the_way: str
) -> None:
    caches = Caches(
        directory=tmp_path / "caches", wallet_bytes=1 << 24, total_bytes=1 << 24, clock=clock
    )
    templates = DiskTemplates(directory=tmp_path / "templates", clock=clock)
    downloads = Downloads(
        templates=templates, caches=caches, mount_points=tmp_path / "mounts", size_bytes=1 << 24
    )
    deployment = tmp_path / "deployments/one"
    deployment.mkdir(parents=True)
    place = caches.of(ALICE) if in_the_way == "caches" else deployment
    assert place is not None
    (place / "downloads.img").mkdir()  # no program here makes that, nor removes it

    for _ in range(2):  # the first gives it back
        async with downloads.leased(deployment, ALICE, 1000) as directory:
            assert directory is None


SIZE_BYTES = 1024 * 1024
MAX_LOOKS = 60  # two minutes: an app that ran between two looks is measured by then


def made(directory: Path, name: str) -> Path:
    """Returns the image of a new disk, on which nothing is written yet."""
    image = directory / name / IMAGE
    image.parent.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    return image


def fill(image: Path) -> None:
    image.write_bytes(bytes(SIZE_BYTES - 1) + b"\n")


def test_disk_in_use_is_measured_each_time(tmp_path: Path) -> None:
    image, growths = made(tmp_path, "app"), Growths()
    assert growths.measure(tmp_path, in_use={"app"}) == {"app": SIZE_BYTES}
    fill(image)
    assert growths.measure(tmp_path, in_use={"app"}) == {"app": 0}


def test_disk_is_measured_once_more_after_its_last_use(tmp_path: Path) -> None:
    image, growths = made(tmp_path, "app"), Growths()
    growths.measure(tmp_path, in_use=set())
    growths.measure(tmp_path, in_use={"app"})
    fill(image)
    assert growths.measure(tmp_path, in_use=set()) == {"app": 0}


def test_disk_at_rest_is_measured_now_and_then(tmp_path: Path) -> None:
    image, growths = made(tmp_path, "app"), Growths()
    growths.measure(tmp_path, in_use=set())
    fill(image)
    looks = [growths.measure(tmp_path, in_use=set()) for _ in range(MAX_LOOKS)]
    assert looks[0] == {"app": SIZE_BYTES}
    assert looks[-1] == {"app": 0}


def test_disks_that_come_and_go_are_seen_at_once(tmp_path: Path) -> None:
    image, growths = made(tmp_path, "app"), Growths()
    growths.measure(tmp_path, in_use=set())
    image.unlink()
    image.parent.rmdir()
    made(tmp_path, "another")
    (tmp_path / "without a disk").mkdir()
    assert growths.measure(tmp_path, in_use=set()) == {"another": SIZE_BYTES}

"""Copying an upload's files, and records, in a directory of one's own."""

import os
import resource
from pathlib import Path

import pytest

from moorage.engines.disks.disk import mkfs_argv
from moorage.engines.disks.trees import NotAFile, copy_tree, remove_below, subtract_tree
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.host.listeners import Listener
from moorage.engines.isolation.bubblewrap import parse_child_pid, parse_exit_code
from moorage.engines.sandbox.deployment_directory import Record

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

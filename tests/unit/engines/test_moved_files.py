"""Files are copied off an app's disk, to be built elsewhere: not more than it holds, no links."""

import os
from pathlib import Path
from typing import Any

import pytest

from moorage.engines.disks.leaving import copy_files
from moorage.errors import DeployFailed, FailureCause

MIB = 1024 * 1024


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


def test_sparse_file_is_not_written_out(app: Path, tmp_path: Path) -> None:
    os.truncate(app / "index.js", 64 * MIB)
    failed = refused(app, tmp_path / "copy", max_bytes=MIB)
    assert failed.cause is FailureCause.OUT_OF_DISK
    assert sum(path.stat().st_size for path in (tmp_path / "copy").rglob("*.js")) < 32 * MIB


def test_file_under_several_names_counts_each_time(app: Path, tmp_path: Path) -> None:
    os.link(app / "index.js", app / "again.js")
    refused(app, tmp_path / "copy", max_bytes=24)
    copy_files(app, tmp_path / "whole", without=(), max_bytes=25)


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

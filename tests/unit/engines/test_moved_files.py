"""Files are copied off an app's disk, to be built elsewhere: not more than it holds, no links."""

import os
from pathlib import Path
from typing import Any

import pytest

from moorage.engines.disks.trees import copy_files
from moorage.errors import DeployFailed, FailureCause

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

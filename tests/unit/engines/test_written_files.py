"""What counts as written by an app: files newer than its build, within bounds, behind no link."""

from pathlib import Path

import pytest

from moorage.engines.disks import written
from moorage.engines.disks.written import written_since
from moorage.engines.engine import WrittenFiles


def write(path: Path, content: str = "x", *, after_ns: int = 0) -> int:
    """Writes a file until its ctime is later, as the file system's clock has steps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        path.write_text(content)
        if (at_ns := path.stat().st_ctime_ns) > after_ns:
            return at_ns
        path.unlink()


def found(files: int, size_bytes: int, *, complete: bool = True) -> WrittenFiles:
    return WrittenFiles(files=files, size_bytes=size_bytes, complete=complete)


def test_files_of_the_build_are_not_counted_and_later_ones_are(tmp_path: Path) -> None:
    built_ns = write(tmp_path / "app/index.js", "abc")
    write(tmp_path / "app/data/a", "four", after_ns=built_ns)
    write(tmp_path / "home/b", "", after_ns=built_ns)
    roots = (tmp_path / "app", tmp_path / "home", tmp_path / "gone")
    assert written_since(roots, built_ns) == found(2, 4)
    assert written_since(roots, 0) == found(3, 7)


def test_directories_of_tools_are_not_counted(tmp_path: Path) -> None:
    for name in (".cache/a", ".next/b", "__pycache__/c.pyc", "node_modules/d", "tmp/e"):
        write(tmp_path / name)
    assert written_since((tmp_path,), 0) == found(0, 0)


def test_links_are_neither_counted_nor_followed(tmp_path: Path) -> None:
    write(tmp_path / "outside/secret")
    app = tmp_path / "app"
    app.mkdir()
    (app / "directory").symlink_to(tmp_path / "outside")
    (app / "file").symlink_to(tmp_path / "outside/secret")
    (tmp_path / "root").symlink_to(tmp_path / "outside")
    assert written_since((app, tmp_path / "root"), 0) == found(0, 0)


def test_more_than_may_be_looked_at_is_said_to_be_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / name)
    monkeypatch.setattr(written, "_MAX_ENTRIES", 2)
    assert written_since((tmp_path,), 0) == found(2, 2, complete=False)


def test_what_lies_too_deep_is_said_to_be_incomplete(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path.joinpath(*"d" * 17) / "deep")
    assert written_since((tmp_path,), 0) == found(1, 1, complete=False)

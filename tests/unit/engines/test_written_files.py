"""What counts as written by an app: files newer than its build, within bounds, behind no link."""

import os
from pathlib import Path

import pytest

from moorage.archive.tree import read_tree
from moorage.engines.disks import disk
from moorage.engines.disks.disk import AppDisk, read_written, written_since
from moorage.engines.engine import WrittenFiles
from moorage.errors import DeployFailed


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

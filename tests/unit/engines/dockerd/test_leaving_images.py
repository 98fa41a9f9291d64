"""Files that come out of an image: those of the app, and nothing beside the new directory."""

import io
import tarfile
from pathlib import Path

import pytest

from moorage.engines.dockerd.leaving import unpack_files
from moorage.errors import DeployFailed, FailureCause


def packed(directory: Path, *entries: tuple[str, bytes, bytes | str]) -> Path:
    """An archive; each entry has a name, a type, and its content or what it links to."""
    path = directory / "archive.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if isinstance(content, str):
                entry.linkname = content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                entry.mode = 0o755 if content.startswith(b"#!") else 0o644
                tar.addfile(entry, io.BytesIO(content))
    return path


FILE, DIRECTORY, LINK, SECOND = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def files(directory: Path) -> dict[str, bytes]:
    found = (path for path in directory.rglob("*") if not path.is_dir())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def unpacked(tmp_path: Path, archive: Path, *, max_bytes: int = 1000) -> dict[str, bytes]:
    unpack_files(archive, tmp_path / "out", without={"node_modules"}, max_bytes=max_bytes)
    return files(tmp_path / "out")


def test_files_and_second_names_come_out_and_installed_directories_do_not(tmp_path: Path) -> None:
    archive = packed(
        tmp_path,
        ("app/", DIRECTORY, b""),
        ("app/run", FILE, b"#!/bin/sh"),
        ("app/a/node_modules/x.js", FILE, b"1"),
        ("app/node_modules", DIRECTORY, b""),
        ("app/a/b.txt", FILE, b"deep"),
        ("app/twice", SECOND, "app/a/b.txt"),
    )
    assert unpacked(tmp_path, archive) == {
        "run": b"#!/bin/sh",
        "a/b.txt": b"deep",
        "twice": b"deep",
    }
    assert (tmp_path / "out/run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/a/b.txt").stat().st_mode & 0o777 == 0o644


def test_nothing_leads_or_lies_outside(tmp_path: Path) -> None:
    archive = packed(
        tmp_path,
        ("app/link", LINK, "/etc"),
        ("app/link/passwd", FILE, b"through a link"),
        ("app/../../beside", FILE, b"outside"),
        ("app/theirs", SECOND, "etc/shadow"),
        ("app/pipe", tarfile.FIFOTYPE, b""),
        ("/app/whole", FILE, b"kept below"),
    )
    found = unpacked(tmp_path, archive)
    assert set(found) == {"link/passwd", "app/whole"}  # the link was made a directory of its own
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.tar", "out"]


def test_more_than_may_be_ends_it(tmp_path: Path) -> None:
    archive = packed(tmp_path, ("app/a", FILE, b"x" * 60), ("app/b", SECOND, "app/a"))
    with pytest.raises(DeployFailed) as failed:
        unpacked(tmp_path, archive, max_bytes=100)
    assert failed.value.cause is FailureCause.OUT_OF_DISK


def test_directories_nested_too_deeply_end_it(tmp_path: Path) -> None:
    archive = packed(tmp_path, ("app/" + "d/" * 100 + "file", FILE, b""))
    with pytest.raises(DeployFailed, match="nested too deeply"):
        unpacked(tmp_path, archive)

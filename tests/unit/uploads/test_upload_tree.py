"""The received files as a tree, and as a directory."""

import os
import stat
from pathlib import Path

import pytest

from moorage.planning.reading.folder import SourceTree
from moorage.sdk.archive import list_files
from moorage.uploads.reader import DirectoryTree, Upload
from moorage.uploads.room import UploadLimits
from support.clients.upload_bodies import contents, files_body, receive

FILES = {
    "index.js": b"listen()",
    "empty": b"",
    "src/deep/er/a.bin": os.urandom(300_000),
    "src/b.bin": os.urandom(70_000),
    "src/c.txt": b"c" * 50_000,
    "src/d.txt": b"d" * 50_000,
}
ALL_ON_DISK = UploadLimits(memory_bytes=0)


async def upload(tmp_path: Path, limits: UploadLimits | None = None) -> Upload:
    return (await receive(files_body(FILES), tmp_path / "spool", limits=limits)).upload


def on_disk(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


async def test_tree_lists_measures_and_reads(tmp_path: Path) -> None:
    for limits in (None, ALL_ON_DISK):
        received = await upload(tmp_path, limits)
        tree: SourceTree = received
        assert list(tree.paths) == sorted(FILES)
        for path, data in FILES.items():
            assert tree.size(path) == len(data)
            assert tree.read(path) == data
            assert tree.read(path, limit=3) == data[:3]
        for missing in ("src", "nope"):
            with pytest.raises(KeyError):
                tree.size(missing)
            with pytest.raises(KeyError):
                tree.read(missing)
        received.close()


@pytest.mark.parametrize("limits", [None, ALL_ON_DISK])
async def test_materialised_tree_is_the_upload(tmp_path: Path, limits: UploadLimits | None) -> None:
    umask = os.umask(0o077)
    try:
        tree = await upload(tmp_path, limits)
        target = tmp_path / "app"
        target.mkdir()
        tree.materialise(target)
    finally:
        os.umask(umask)
    assert on_disk(target) == FILES
    for path in target.rglob("*"):
        wanted = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == wanted
    assert {path: tree.read(path) for path in tree.paths} == FILES
    tree.close()
    assert on_disk(target) == FILES
    assert not list((tmp_path / "spool").iterdir())


async def test_destination_must_be_empty_and_is_filled_once(tmp_path: Path) -> None:
    tree = await upload(tmp_path)
    target = tmp_path / "app"
    with pytest.raises(FileNotFoundError):
        tree.materialise(target)
    target.mkdir()
    (target / "there").touch()
    with pytest.raises(FileExistsError):
        tree.materialise(target)
    (target / "there").unlink()
    tree.materialise(target)
    with pytest.raises(ValueError, match="before"):
        tree.materialise(target)
    tree.close()


async def test_closed_tree_is_empty(tmp_path: Path) -> None:
    tree = await upload(tmp_path)
    assert tree.on_disk
    assert tree.total_bytes == sum(map(len, FILES.values()))
    tree.close()
    tree.close()
    assert list(tree.paths) == []
    assert not list((tmp_path / "spool").iterdir())


async def test_directory_is_the_same_tree(tmp_path: Path) -> None:
    received = await receive(files_body(FILES), tmp_path / "spool")
    target = tmp_path / "app"
    target.mkdir()
    received.upload.materialise(target)
    (target / "link").symlink_to("/etc/passwd")
    tree: SourceTree = DirectoryTree(target, list_files(target).sizes)
    assert tree.paths == received.upload.paths
    assert {path: tree.read(path) for path in tree.paths} == contents(received)
    assert tree.size("src/c.txt") == 50_000
    assert tree.read("index.js", limit=2) == b"li"
    with pytest.raises(KeyError):
        tree.read("link")
    received.upload.close()

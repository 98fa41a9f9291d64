"""What a deployer gets of an image's layers: the files below one directory, and no link."""

import io
import tarfile
from pathlib import Path

import pytest

from moorage.engines.images.layer_files import LayerFiles
from moorage.errors import DeployFailed

MIB = 1024 * 1024
Content = str | tuple[bytes, str] | None  # a file's, a link's kind and target, or a directory


def layer(path: Path, entries: dict[str, Content], *, mode: int = 0o644) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.mode = mode
            if content is None:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            elif isinstance(content, tuple):
                entry.type, entry.linkname = content
                archive.addfile(entry)
            else:
                entry.size = len(content.encode())
                archive.addfile(entry, io.BytesIO(content.encode()))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def files(target: Path, *, max_bytes: int = MIB) -> LayerFiles:
    return LayerFiles(target, below="app", without={"node_modules"}, max_bytes=max_bytes)


def found(target: Path) -> dict[str, str]:
    paths = [path for path in target.rglob("*") if not path.is_dir()]
    return {path.relative_to(target).as_posix(): path.read_text() for path in paths}


def test_later_layers_are_over_those_before(tmp_path: Path, target: Path) -> None:
    made = files(target)
    first: dict[str, Content] = {
        "app": None,
        "app/a": "1",
        "app/b": "1",
        "app/sub/c": "1",
        "app/old/x": "1",
        "home/user/secret": "1",
        "app/node_modules/dep/index.js": "1",
    }
    made.add(layer(tmp_path / "1.tar.gz", first))
    second: dict[str, Content] = {
        "app/.wh.a": "",
        "app/b": "2",
        "app/old/.wh..wh..opq": "",
        "app/old/y": "2",
        "app/sub": "no directory any more",
    }
    made.add(layer(tmp_path / "2.tar.gz", second))
    assert found(target) == {"b": "2", "old/y": "2", "sub": "no directory any more"}


def test_programs_stay_programs_and_second_names_become_files(tmp_path: Path, target: Path) -> None:
    entries: dict[str, Content] = {"app/run": "run", "app/second": (tarfile.LNKTYPE, "app/run")}
    files(target).add(layer(tmp_path / "1.tar.gz", entries, mode=0o4755))
    assert found(target) == {"run": "run", "second": "run"}
    assert (target / "run").stat().st_mode & 0o7777 == 0o755
    assert (target / "second").stat().st_nlink == 1


def test_nothing_is_made_outside_of_the_target(tmp_path: Path, target: Path) -> None:
    (tmp_path / "secret").write_text("theirs")
    entries: dict[str, Content] = {
        "app/../out": "1",
        "app//etc/out": "1",
        "/app/out": "1",
        "app/link": (tarfile.SYMTYPE, ".."),
        "app/link/out": "1",
        "app/named": (tarfile.LNKTYPE, "app/../../secret"),
        "app/pipe": (tarfile.FIFOTYPE, ""),
        "app/.wh...": "",
    }
    files(target).add(layer(tmp_path / "1.tar.gz", entries))
    assert found(target) == {"link/out": "1"}
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "target", "1.tar.gz"}


def test_more_than_the_disk_holds_is_refused(tmp_path: Path, target: Path) -> None:
    large = layer(tmp_path / "1.tar.gz", {"app/a": "x" * 600, "app/b": "x" * 600})
    with pytest.raises(DeployFailed, match="larger"):
        files(target, max_bytes=1000).add(large)


def test_layer_that_cannot_be_read_is_none_that_another_try_would_read(
    tmp_path: Path, target: Path
) -> None:
    path = layer(tmp_path / "1.tar.gz", {"app/a": "x" * 600})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DeployFailed, match="can't be read"):
        files(target).add(path)


def test_file_that_is_a_directory_as_well_is_refused(tmp_path: Path, target: Path) -> None:
    entries: dict[str, Content] = {"app/a": "1", "app/a/b": "1"}
    with pytest.raises(DeployFailed, match="can't be read"):
        files(target).add(layer(tmp_path / "1.tar.gz", entries))


def test_link_in_place_of_a_file_leaves_neither(tmp_path: Path, target: Path) -> None:
    made = files(target)
    made.add(layer(tmp_path / "1.tar.gz", {"app/a": "old", "app/b/c": "old"}))
    links: dict[str, Content] = {"app/a": (tarfile.SYMTYPE, "b"), "app/b": (tarfile.SYMTYPE, "c")}
    made.add(layer(tmp_path / "2.tar.gz", links))
    assert found(target) == {}


@pytest.mark.parametrize(
    "deep", ["/".join(["d"] * 65), "/".join(["d" * 200] * 12)], ids=["parts", "letters"]
)
def test_file_too_deep_is_not_left_out_in_silence(tmp_path: Path, target: Path, deep: str) -> None:
    files(target).add(layer(tmp_path / "1.tar.gz", {f"app/node_modules/{deep}": "1"}))
    with pytest.raises(DeployFailed, match="too deeply"):
        files(target).add(layer(tmp_path / "2.tar.gz", {f"app/{deep}": "1"}))

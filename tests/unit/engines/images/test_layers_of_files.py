"""What a layer holds of directories whose content a stranger made."""

import gzip
import hashlib
import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moorage.engines.images.layer import (
    Layer,
    LayerBounds,
    LayerRefused,
    LayerTooLarge,
    LayerUnreadable,
    Place,
    write_layer,
)

MIB = 1024 * 1024
BOUNDS = LayerBounds(max_bytes=16 * MIB, max_entries=1000)
NOON = 1_700_000_000


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app"
    path.mkdir()
    return path


def packed(app: Path, bounds: LayerBounds = BOUNDS) -> tuple[Layer, bytes]:
    out = io.BytesIO()
    layer = write_layer([Place(app, "app", 1000)], out, bounds)
    return layer, out.getvalue()


def entries(app: Path) -> dict[str, tarfile.TarInfo]:
    _, content = packed(app)
    with tarfile.open(fileobj=io.BytesIO(content), errors="surrogateescape") as archive:
        return {entry.name: entry for entry in archive}


def filled(path: Path) -> Path:
    (path / "b").mkdir(parents=True)
    (path / "b/run.sh").write_text("echo hi")
    (path / "b/run.sh").chmod(0o755)
    (path / "a.txt").write_text("a")
    (path / "link").symlink_to("b/run.sh")
    for found in (path / "b/run.sh", path / "a.txt", path / "link", path / "b", path):
        os.utime(found, (NOON, NOON), follow_symlinks=False)
    return path


def test_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    one, other = filled(tmp_path / "one"), filled(tmp_path / "other")
    assert packed(one) == packed(other)


def test_digests_are_of_the_archive_and_of_what_it_is_packed_to(app: Path) -> None:
    layer, content = packed(filled(app / "x").parent)
    assert layer.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(content)).hexdigest()}"
    assert layer.size == len(content)


def test_files_belong_to_the_app_and_keep_mode_and_whole_second(app: Path) -> None:
    (app / "main.py").write_text("1")
    (app / "main.py").chmod(0o4754)
    os.utime(app / "main.py", ns=(0, NOON * 10**9 + 5))
    found = entries(app)["app/main.py"]
    assert (found.uid, found.gid, found.uname, found.gname) == (1000, 1000, "", "")
    assert (found.mode, found.mtime) == (0o754, NOON)


def test_times_are_the_given_one_where_it_is_asked_for(app: Path) -> None:
    (app / "tool").write_text("1")
    out = io.BytesIO()
    write_layer([Place(app, "opt/bin")], out, BOUNDS, modified=1)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert {entry.name: entry.mtime for entry in archive} == {
            "opt": 0,
            "opt/bin": 1,
            "opt/bin/tool": 1,
        }


def test_link_to_the_outside_stays_a_link(app: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key").write_text("secret")
    (app / "file").symlink_to(tmp_path / "secret")
    (app / "directory").symlink_to(tmp_path / "secrets")
    (app / "loop").symlink_to(".")
    found = entries(app)
    assert set(found) == {"app", "app/file", "app/directory", "app/loop"}
    assert found["app/file"].linkname == str(tmp_path / "secret")
    assert b"secret" not in gzip.decompress(packed(app)[1]).replace(b"/secret", b"")


def test_place_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key").write_text("secret")
    (tmp_path / "app").symlink_to("secrets")
    found = entries(tmp_path / "app")
    assert {name: entry.type for name, entry in found.items()} == {"app": tarfile.SYMTYPE}


def test_second_name_of_a_file_is_a_link_within_the_layer(app: Path) -> None:
    (app / "one").write_text("x" * 5000)
    (app / "two").hardlink_to(app / "one")
    found = entries(app)
    assert (found["app/two"].type, found["app/two"].linkname) == (tarfile.LNKTYPE, "app/one")


def test_file_that_is_linked_from_the_outside_is_a_file(app: Path, tmp_path: Path) -> None:
    (app / "one").write_text("x")
    (tmp_path / "outside").hardlink_to(app / "one")
    assert entries(app)["app/one"].isreg()


def test_sockets_and_pipes_are_left_out(app: Path) -> None:
    os.mkfifo(app / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    with listener, short(app) as path:
        listener.bind(f"{path}/socket")
    (app / "file").write_text("x")
    layer, _ = packed(app)
    assert (set(entries(app)), layer.left_out) == ({"app", "app/file"}, 2)


@contextmanager
def short(path: Path) -> Iterator[str]:
    """A name of a directory that is short enough for the address of a socket."""
    descriptor = os.open(path, os.O_PATH)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def test_file_larger_than_allowed_is_refused_before_it_is_read(app: Path) -> None:
    with (app / "giant").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(LayerTooLarge, match="larger than 16 MiB"):
        packed(app)


def test_files_larger_than_allowed_together_are_refused(app: Path) -> None:
    for name in "abc":
        (app / name).write_bytes(bytes(6 * MIB))
    with pytest.raises(LayerTooLarge):
        packed(app)


def test_more_files_than_allowed_are_refused(app: Path) -> None:
    for number in range(BOUNDS.max_entries - 1):
        (app / str(number)).touch()
    packed(app)
    (app / "one-more").touch()
    with pytest.raises(LayerTooLarge, match="more than 1,000"):
        packed(app)


def nested(app: Path, levels: int) -> None:
    directory = os.open(app, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)


def test_deep_tree_is_taken_up_to_a_bound(app: Path) -> None:
    nested(app, 200)
    assert len(entries(app)) == 201


def test_tree_deeper_than_any_path_is_refused(app: Path) -> None:
    nested(app, 5000)
    try:
        with pytest.raises(LayerRefused, match="nested deeper"):
            packed(app)
    finally:
        subprocess.run(["rm", "-r", app / "d"], check=True)  # too deep for who cleans up


def test_path_longer_than_can_be_unpacked_is_refused(app: Path) -> None:
    path = app
    for _ in range(9):
        path /= "n" * 250
        path.mkdir()
    with pytest.raises(LayerRefused, match="longer than"):
        packed(app)


@pytest.mark.parametrize("name", [b"new\nline", b"\xff\xfe", b" ", b"x" * 255, "ü😀".encode()])
def test_any_name_is_kept_as_it_is(app: Path, name: bytes) -> None:
    (app / os.fsdecode(name)).write_text("x")
    assert os.fsdecode(b"app/" + name) in entries(app)


def test_long_paths_and_targets_are_kept(app: Path) -> None:
    directory = app / ("d" * 200) / ("e" * 200)
    directory.mkdir(parents=True)
    (directory / "link").symlink_to("t" * 3000)
    name = str((directory / "link").relative_to(app.parent))
    assert entries(app)[name].linkname == "t" * 3000


@pytest.mark.parametrize("name", [".wh.config", ".wh..wh..opq"])
def test_name_that_would_remove_files_of_the_base_is_refused(app: Path, name: str) -> None:
    (app / name).touch()
    with pytest.raises(LayerRefused, match=r"\.wh\."):
        packed(app)


def test_message_of_a_refusal_is_one_line(app: Path) -> None:
    (app / ".wh.\nFAKE LINE").touch()
    with pytest.raises(LayerRefused) as refused:
        packed(app)
    assert "\n" not in str(refused.value)


@contextmanager
def owned_by_an_ordinary_user(app: Path) -> Iterator[None]:
    """The files become those of a user whom modes bind, and so do we."""
    is_root = os.geteuid() == 0
    if is_root:
        for path in (app, *app.rglob("*")):
            os.chown(path, 1000, 1000, follow_symlinks=False)
        for path in app.parents:
            if not path.stat().st_mode & 0o001:
                path.chmod(0o755)
        os.seteuid(1000)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize("name", ["closed/file", "closed"])
def test_what_its_owner_may_not_read_is_named(app: Path, name: str) -> None:
    (app / "closed").mkdir()
    (app / "closed/file").write_text("x")
    with owned_by_an_ordinary_user(app):
        (app / name).chmod(0)
        with pytest.raises(LayerRefused, match=f"'app/{name}': its owner may not read it"):
            packed(app)


@pytest.mark.root
@pytest.mark.parametrize("name", ["closed/file", "closed"])
def test_whose_file_it_is_that_may_not_be_read_is_told(app: Path, name: str) -> None:
    """The program in a pod is then run as that user."""
    (app / "closed").mkdir()
    (app / "closed/file").write_text("x")
    with owned_by_an_ordinary_user(app):
        os.seteuid(0)
        (app / name).chmod(0o700)
        os.chown(app / name, 1234, -1)
        os.seteuid(1000)
        with pytest.raises(LayerUnreadable) as refused:
            packed(app)
    assert refused.value.owner == 1234

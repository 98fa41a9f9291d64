"""A tree as an archive: what was in it is there again, and nothing is made anywhere else."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.archive.tree import (
    LEFT_BY_MKFS,
    TreeRefused,
    check_tree,
    empty,
    read_tree,
    stream_tree,
    tree_files,
)

MIB = 1024 * 1024
NOON = 1_700_000_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def packed(data: Path, *, max_bytes: int = 16 * MIB, max_entries: int = 1000) -> bytes:
    out = io.BytesIO()
    stream_tree(data, out, max_bytes=max_bytes, max_entries=max_entries)
    return out.getvalue()


def unpacked(
    content: bytes, target: Path, *, max_bytes: int = 16 * MIB, digest: str | None = None
) -> Path:
    found = digest or f"sha256:{hashlib.sha256(content).hexdigest()}"
    read_tree(io.BytesIO(content), target, digest=found, max_bytes=max_bytes, max_entries=100)
    return target


def archive_of(*entries: tarfile.TarInfo, content: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for entry in entries:
            entry.size = len(content) if entry.isreg() else 0
            archive.addfile(entry, io.BytesIO(content) if entry.isreg() else None)
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, to: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, to
    return made


def test_files_modes_times_and_links_are_there_again(data: Path, target: Path) -> None:
    (data / "deep/er").mkdir(parents=True)
    (data / "deep/er/run.sh").write_text("echo hi")
    (data / "deep/er/run.sh").chmod(0o750)
    (data / ".wh.mark").write_text("any name")
    (data / os.fsdecode(b"\xff\xfe")).write_text("no UTF-8")
    (data / "absolute").symlink_to("/etc/hostname")
    (data / "outside").symlink_to("../../elsewhere")
    os.link(data / "deep/er/run.sh", data / "second")
    (data / "empty").touch()
    (data / "long" / ("n" * 200) / ("m" * 200)).mkdir(parents=True)
    (data / "closed").mkdir(mode=0o500)
    os.utime(data / "deep/er/run.sh", (NOON, NOON))

    unpacked(packed(data), target)

    assert (target / "deep/er/run.sh").read_text() == "echo hi"
    found = (target / "deep/er/run.sh").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime, found.st_nlink) == (0o750, NOON, 2)
    assert (target / "second").samefile(target / "deep/er/run.sh")
    assert (target / ".wh.mark").read_text() == "any name"
    assert (target / os.fsdecode(b"\xff\xfe")).read_text() == "no UTF-8"
    assert (target / "absolute").readlink() == Path("/etc/hostname")
    assert (target / "outside").readlink() == Path("../../elsewhere")
    assert (target / "empty").stat().st_size == 0
    assert (target / "long" / ("n" * 200) / ("m" * 200)).is_dir()
    assert stat.S_IMODE((target / "closed").stat().st_mode) == 0o500


def test_rights_beyond_reading_writing_and_executing_do_not_come_along(
    data: Path, target: Path
) -> None:
    (data / "program").write_text("")
    (data / "program").chmod(0o6755)
    unpacked(packed(data), target)
    assert stat.S_IMODE((target / "program").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(((0, b"begin"), (40 * MIB, b"end")), id="in-the-middle"),
        pytest.param(((30 * MIB, b"end"),), id="at-the-beginning"),
        pytest.param(((0, b"begin"),), id="at-the-end"),
        pytest.param((), id="nothing-but-a-hole"),
        pytest.param(tuple((n * MIB, b"piece") for n in range(60)), id="many"),
    ],
)
def test_holes_stay_holes_and_count_nothing(
    data: Path, target: Path, parts: tuple[tuple[int, bytes], ...]
) -> None:
    size = 64 * MIB
    with (data / "sparse").open("wb") as file:
        for offset, content in parts:
            file.seek(offset)
            file.write(content)
        file.truncate(size)
    (data / "zz").write_text("behind")

    content = packed(data)
    unpacked(content, target)

    found = (target / "sparse").stat()
    assert (found.st_size, (target / "zz").read_text()) == (size, "behind")
    assert found.st_blocks * 512 < 2 * MIB
    with (target / "sparse").open("rb") as file, (data / "sparse").open("rb") as before:
        assert hashlib.file_digest(file, "sha256").digest() == (
            hashlib.file_digest(before, "sha256").digest()
        )
    assert len(content) < MIB


def test_volume_with_more_than_its_bounds_is_not_packed(data: Path) -> None:
    (data / "large").write_bytes(b"x" * (MIB + 1))
    with pytest.raises(TreeRefused, match="the files are larger than 1 MiB"):
        packed(data, max_bytes=MIB)
    with pytest.raises(TreeRefused, match="the files are more than 1"):
        packed(data, max_bytes=4 * MIB, max_entries=1)


def test_volume_that_is_full_of_small_files_is_packed_and_unpacked(
    data: Path, target: Path
) -> None:
    """An archive has half a kibibyte of its own for each, which takes nothing of a volume."""
    for number in range(90):
        (data / f"{number}").write_bytes(b"x" * 4096)
    size = 90 * 4096
    content = packed(data, max_bytes=size)
    unpacked(content, target, max_bytes=size)
    assert len(list(target.iterdir())) == 90


def test_sockets_and_pipes_are_left_out(data: Path, target: Path) -> None:
    os.mkfifo(data / "pipe")
    (data / "kept").write_text("kept")
    unpacked(packed(data), target)
    assert [path.name for path in target.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param((entry("data/../out"),), id="above"),
        pytest.param((entry("data//etc/out"),), id="empty-part"),
        pytest.param((entry("data/./out"),), id="itself"),
        pytest.param((entry("data/pipe", tarfile.FIFOTYPE),), id="pipe"),
        pytest.param((entry("data/node", tarfile.CHRTYPE),), id="device"),
        pytest.param(
            (entry("data/way", tarfile.SYMTYPE, to=".."), entry("data/way/out")), id="through-link"
        ),
        pytest.param((entry("data/out", tarfile.LNKTYPE, to="data/../out"),), id="hard-link-above"),
        pytest.param(
            (
                entry("data/way", tarfile.SYMTYPE, to=".."),
                entry("data/out", tarfile.LNKTYPE, to="data/way/secret"),
            ),
            id="hard-link-through-link",
        ),
        pytest.param((entry("data/a"), entry("data/a")), id="twice"),
    ],
)
def test_nothing_is_made_outside_of_the_volume(
    target: Path, entries: tuple[tarfile.TarInfo, ...]
) -> None:
    (target.parent / "secret").write_text("theirs")
    with pytest.raises((TreeRefused, OSError)):
        unpacked(archive_of(*entries), target)
    assert not (target.parent / "out").exists()
    assert (target.parent / "secret").stat().st_nlink == 1


def test_more_than_the_bounds_is_not_unpacked(target: Path) -> None:
    content = archive_of(entry("data/a"), entry("data/b"), content=b"x" * 600)
    with pytest.raises(TreeRefused, match="more than 1,000 bytes"):
        unpacked(content, target, max_bytes=1000)
    empty(target)
    many = archive_of(*(entry(f"data/{n}") for n in range(101)))
    with pytest.raises(TreeRefused, match="more than 100 entries"):
        unpacked(many, target)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda content: content[:-20], id="cut"),
        pytest.param(lambda _: b"no archive at all", id="other"),
        pytest.param(lambda _: archive_of(entry("data/other")), id="another-archive"),
    ],
)
def test_archive_that_came_otherwise_is_refused(
    data: Path, target: Path, spoil: Callable[[bytes], bytes]
) -> None:
    (data / "kept").write_text("kept")
    content = packed(data)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with pytest.raises(TreeRefused):
        unpacked(spoil(content), target, digest=digest)


def test_what_an_earlier_attempt_left_is_removed(data: Path, target: Path) -> None:
    (data / "kept").write_text("kept")
    (target / "half/made").mkdir(parents=True)
    (target / "half/made/file").write_text("half")
    (target / "half").chmod(0o500)
    (target / "link").symlink_to(data)
    (target / LEFT_BY_MKFS).mkdir()
    empty(target)
    assert not list(target.iterdir())
    unpacked(packed(data), target)
    assert (data / "kept").exists()


def header(name: str, kind: bytes, size: int) -> bytes:
    made = entry(name, kind)
    made.size = size
    return made.tobuf(tarfile.GNU_FORMAT)


SPARSE = (
    b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n26 GNU.sparse.name=data/a\n"
    b"27 GNU.sparse.realsize=100\n"
)


def sparse(map_text: bytes, *, size: int | None = None, data: bytes = b"") -> bytes:
    """A file with holes, whose map is this text."""
    content = map_text + bytes(-len(map_text) % 512) + data
    return (
        header("x", tarfile.XHDTYPE, len(SPARSE))
        + SPARSE.ljust(512, b"\0")
        + header("data/a", tarfile.REGTYPE, len(content) if size is None else size)
        + content
        + bytes(-len(content) % 512)
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(header("x", tarfile.XHDTYPE, 1 << 34), id="huge-extended-header"),
        pytest.param(header("x", tarfile.GNUTYPE_LONGNAME, 1 << 34), id="huge-name"),
        pytest.param(header("x", tarfile.XGLTYPE, 512) + bytes(512), id="global-header"),
        pytest.param(header("data/a", tarfile.GNUTYPE_SPARSE, 0), id="older-form-of-holes"),
        pytest.param(header("data/a", tarfile.REGTYPE, 1 << 40), id="larger-than-it-is"),
        pytest.param(sparse(b"9999999\n" + b"1\n" * 250), id="map-without-an-end"),
        pytest.param(sparse(b"1\n0\n"), id="map-cut-off"),
        pytest.param(sparse(b"1\n50\n51\n", data=b"x" * 51), id="beyond-the-end"),
        pytest.param(sparse(b"2\n50\n10\n40\n10\n", data=b"x" * 20), id="out-of-order"),
        pytest.param(sparse(b"1\n0\n-5\n"), id="negative"),
        pytest.param(sparse(b"1\n0\n10\n", data=b"x" * 10, size=100_000), id="another-size"),
    ],
)
def test_header_that_lies_is_refused_before_it_is_believed(content: bytes, target: Path) -> None:
    packed_content = gzip.compress(content + bytes(1024))
    for read in (
        lambda: unpacked(packed_content, target),
        lambda: check_tree(io.BytesIO(packed_content), max_bytes=1 << 50),
        lambda: [
            list(file.pieces)
            for file in tree_files(io.BytesIO(packed_content), max_bytes=1 << 50, max_entries=10)
        ],
    ):
        with pytest.raises(TreeRefused):
            read()
        empty(target)


def test_files_of_an_archive_are_given_one_by_one_with_holes_as_zeros(data: Path) -> None:
    (data / "dir").mkdir()
    with (data / "dir/sparse").open("wb") as file:
        file.seek(2 * MIB)
        file.write(b"end")
    os.link(data / "dir/sparse", data / "second")
    (data / "run.sh").write_text("echo")
    (data / "run.sh").chmod(0o755)
    (data / "link").symlink_to("run.sh")
    found = {
        file.path: (b"".join(file.pieces), file.executable, file.same_as)
        for file in tree_files(io.BytesIO(packed(data)), max_bytes=3 * MIB, max_entries=10)
    }
    assert found == {
        "dir/sparse": (bytes(2 * MIB) + b"end", False, ""),
        "second": (b"", False, "dir/sparse"),
        "run.sh": (b"echo", True, ""),
    }
    with pytest.raises(TreeRefused, match="more than"):
        list(tree_files(io.BytesIO(packed(data)), max_bytes=2 * MIB, max_entries=10))
    check_tree(io.BytesIO(packed(data)), max_bytes=MIB)  # on a disk, holes take nothing

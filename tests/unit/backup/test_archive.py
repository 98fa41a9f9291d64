"""A backup's file, there and back; and all that may be wrong with one that somebody hands in."""

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from moorage.backup.archive import (
    FORMAT,
    NAME,
    Manifest,
    ManifestEntry,
    digest_of,
    unpack,
    write_archive,
)
from moorage.errors import BackupFailed, BackupInvalid

MIB = 1024 * 1024
IMAGE = "apps/volumes/one/disk.img"


def manifest_of(directory: Path, *paths: str, **changed: object) -> Manifest:
    entries = tuple(
        ManifestEntry(
            path=path,
            size=(directory / path).stat().st_size,
            digest=digest_of(directory / path),
        )
        for path in paths
    )
    made = Manifest(
        format=FORMAT,
        version="0.1.0",
        schema="0003",
        created_at="2026-04-07T10:00:00.000Z",
        data_dir="/var/lib/moorage",
        secrets_key=False,
        entries=entries,
    )
    return msgspec.structs.replace(made, **changed)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A database, and a sparse image of 64 MiB with three stretches of data."""
    made = tmp_path / "made"
    (made / IMAGE).parent.mkdir(parents=True)
    (made / "moorage.db").write_bytes(b"rows" * 1000)
    with (made / IMAGE).open("wb") as image:
        image.truncate(64 * MIB)
        for offset, text in ((0, b"begin"), (7 * MIB - 3, b"across"), (64 * MIB - 3, b"end")):
            image.seek(offset)
            image.write(text)
    return made


@pytest.fixture
def archive(directory: Path, tmp_path: Path) -> Path:
    manifest = manifest_of(directory, "moorage.db", IMAGE)
    (directory / NAME).write_bytes(msgspec.json.encode(manifest))
    write_archive(directory, [NAME, "moorage.db", IMAGE], tmp_path / "backup")
    return tmp_path / "backup"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


def packed(target: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """An archive of these members, whatever they are."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    path = target.parent / "made-up"
    path.write_bytes(subprocess.check_output(["gzip"], input=raw.getvalue()))
    return path


def member(name: str, content: bytes, **changed: object) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size = len(content)
    for key, value in changed.items():
        setattr(made, key, value)
    return made, content


def test_files_come_back_as_they_were_and_as_sparse(
    archive: Path, directory: Path, target: Path
) -> None:
    assert archive.stat().st_size < 100_000
    manifest = unpack(archive, target)
    assert [entry.path for entry in manifest.entries] == ["moorage.db", IMAGE]
    for path in ("moorage.db", IMAGE):
        assert (target / path).read_bytes() == (directory / path).read_bytes()
        assert (target / path).stat().st_mode & 0o777 == 0o600
    assert (target / IMAGE).stat().st_blocks * 512 < 8 * MIB


def test_digest_is_of_blocks_that_hold_something(directory: Path) -> None:
    expected = hashlib.sha256()
    content = (directory / IMAGE).read_bytes()
    for number in (0, 6, 7, 63):
        expected.update(number.to_bytes(8, "big") + content[number * MIB : (number + 1) * MIB])
    expected.update((64 * MIB).to_bytes(8, "big"))
    assert digest_of(directory / IMAGE) == expected.hexdigest()


def test_holes_make_no_difference_to_a_digest(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes((directory / IMAGE).read_bytes())
    assert digest_of(tmp_path / "full") == digest_of(directory / IMAGE)


def test_archive_without_zstd_is_gzip(
    directory: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("tar", "gzip", "sh"):
        (tools / name).symlink_to(Path("/bin") / name)
    monkeypatch.setenv("PATH", str(tools))
    manifest = manifest_of(directory, "moorage.db")
    (directory / NAME).write_bytes(msgspec.json.encode(manifest))
    write_archive(directory, [NAME, "moorage.db"], tmp_path / "backup.gz")
    assert (tmp_path / "backup.gz").read_bytes()[:2] == b"\x1f\x8b"
    unpack(tmp_path / "backup.gz", target)
    assert (target / "moorage.db").read_bytes() == b"rows" * 1000


def test_archive_that_cannot_be_written_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed):
        write_archive(directory, ["not-there"], tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    with pytest.raises(BackupFailed):
        write_archive(directory, ["moorage.db"], tmp_path / "nowhere" / "backup")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_archive_cut_short_is_refused(archive: Path, target: Path, share: float) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BackupInvalid):
        unpack(archive, target)


def test_every_flipped_byte_is_noticed(archive: Path, target: Path, tmp_path: Path) -> None:
    content = archive.read_bytes()
    for position in range(0, len(content), max(1, len(content) // 40)):
        damaged = bytearray(content)
        damaged[position] ^= 0x40
        archive.write_bytes(damaged)
        into = tmp_path / f"into-{position}"
        into.mkdir()
        try:
            unpack(archive, into)
        except BackupInvalid:
            continue
        for path in ("moorage.db", IMAGE):  # it hit nothing that matters
            assert digest_of(into / path) == digest_of(tmp_path / "made" / path)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a backup", b"\x1f\x8b", os.urandom(4096)],
    ids=["empty", "text", "gzip", "random"],
)
def test_other_files_are_refused(target: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(BackupInvalid):
        unpack(path, target)
    assert list(target.iterdir()) == []


Hostile = Callable[[Path, bytes], list[tuple[tarfile.TarInfo, bytes]]]


def swapped(directory: Path, database: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member("moorage.db", database.swapcase())]


def linked(directory: Path, database: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        (member("moorage.db", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")[0], b""),
        member("moorage.db", database),
    ]


def hard_linked(directory: Path, database: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(member("moorage.db", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")[0], b"")]


def a_device(directory: Path, database: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(member("moorage.db", b"", type=tarfile.CHRTYPE, devmajor=1)[0], b"")]


def outside(directory: Path, database: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member("../outside", b"x"), member("moorage.db", database)]


def absolute(directory: Path, database: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(f"{directory}/outside", b"x"), member("moorage.db", database)]


def twice(directory: Path, database: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member("moorage.db", database), member("moorage.db", database)]


def longer(directory: Path, database: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member("moorage.db", database + b"more")]


def missing(directory: Path, database: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return []


def unnamed(directory: Path, database: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member("moorage.db", database), member("nonces/lock", b"")]


@pytest.mark.parametrize(
    "hostile",
    [swapped, linked, hard_linked, a_device, outside, absolute, twice, longer, missing, unnamed],
)
def test_what_the_manifest_does_not_say_is_refused(
    directory: Path, target: Path, tmp_path: Path, hostile: Hostile
) -> None:
    manifest = member(NAME, msgspec.json.encode(manifest_of(directory, "moorage.db")))
    database = (directory / "moorage.db").read_bytes()
    path = packed(target, manifest, *hostile(tmp_path, database))
    with pytest.raises(BackupInvalid):
        unpack(path, target)
    assert not (tmp_path / "outside").exists()
    assert not (target.parent / "outside").exists()


def name_of(content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """GNU tar's header for a long name of the next member."""
    return member("././@LongLink", content, type=tarfile.GNUTYPE_LONGNAME)


@pytest.mark.parametrize(
    ("names", "says"),
    [([name_of(bytes(65 * MIB))], "longer"), ([name_of(b"x")] * 1100, "damaged")],
    ids=["long", "many"],
)
def test_headers_that_cost_memory_are_refused(
    directory: Path, target: Path, names: list[tuple[tarfile.TarInfo, bytes]], says: str
) -> None:
    manifest = member(NAME, msgspec.json.encode(manifest_of(directory, "moorage.db", IMAGE)))
    hole = member(IMAGE, (directory / IMAGE).read_bytes())
    with pytest.raises(BackupInvalid, match=says):
        unpack(packed(target, manifest, hole, *names), target)


def test_first_member_that_is_no_manifest_is_refused(directory: Path, target: Path) -> None:
    path = packed(target, member("moorage.db", b"rows"))
    with pytest.raises(BackupInvalid, match="does not begin with a manifest"):
        unpack(path, target)

"""Zip archives: what is unpacked, and every trick that is refused with nothing left behind."""

import io
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidField, UploadInvalid
from moorage.uploads.room import UploadLimits
from support.clients.upload_bodies import contents, receive, received, zip_body, zipped

APP = {"package.json": b"{}", "src/index.js": b"listen()\n" * 100, "empty": b""}
END = b"PK\5\6"
CENTRAL = b"PK\1\2"
LOCAL = b"PK\3\4"


async def refusal(
    archive: bytes, tmp_path: Path, limits: UploadLimits | None = None
) -> UploadInvalid:
    """The refusal of `archive`, after which nothing is on disk; both in memory and spooled."""
    spool = tmp_path / "spool"
    with pytest.raises(UploadInvalid) as refused:
        await receive(zip_body(archive), spool, limits=limits)
    small = UploadLimits(memory_bytes=0) if limits is None else limits
    with pytest.raises(UploadInvalid, match=_escaped(refused.value.message)):
        await receive(zip_body(archive), spool, limits=small)
    assert not spool.exists() or not list(spool.iterdir())
    return refused.value


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if not char.isalnum() and char.isascii() else char for char in text)


def entry(name: str, *, mode: int = 0o100644, data: bytes = b"x", system: int = 3) -> bytes:
    info = zipfile.ZipInfo(name)
    info.filename = name  # as it is: ZipInfo cleans names
    info.create_system = system
    info.external_attr = mode << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(info, data)
    return buffer.getvalue()


def patched(archive: bytes, signature: bytes, offset: int, value: bytes, *, nth: int = 0) -> bytes:
    """`archive` with `value` at `offset` from the `nth` record with `signature`."""
    at = -1
    for _ in range(nth + 1):
        at = archive.index(signature, at + 1)
    return archive[: at + offset] + value + archive[at + offset + len(value) :]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("memory_bytes", [0, 1000, 1 << 20])
async def test_archive_becomes_its_files(tmp_path: Path, method: int, memory_bytes: int) -> None:
    limits = UploadLimits(memory_bytes=memory_bytes)
    got = await receive(zip_body(zipped(APP, method)), tmp_path, limits=limits)
    assert contents(got) == APP
    got.upload.close()
    assert not list(tmp_path.iterdir())


async def test_large_archive_is_spooled_and_unpacked(tmp_path: Path) -> None:
    files = {"a": os.urandom(400_000), "b/c": b"text" * 100_000, "small": b"s"}
    got = await receive(zip_body(zipped(files)), tmp_path)
    assert contents(got) == files
    got.upload.close()
    assert not list(tmp_path.iterdir())


@given(st.dictionaries(st.sampled_from(["a", "b/c", "b/d", "é", "x y"]), st.binary(), min_size=1))
def test_any_files_survive_the_way(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    spool = tmp_path_factory.getbasetemp() / "spool-of-archives"
    got = received(zip_body(zipped(files)), spool, limits=UploadLimits(memory_bytes=20))
    assert contents(got) == files
    got.upload.close()
    assert not spool.exists() or not list(spool.iterdir())


async def test_common_top_folder_stays(tmp_path: Path) -> None:
    got = await receive(zip_body(zipped({"app/a": b"1", "app/b": b"2"})), tmp_path)
    assert list(got.upload.paths) == ["app/a", "app/b"]


async def test_folders_are_passed_over_and_macos_leftovers_dropped(tmp_path: Path) -> None:
    files = {"a/": b"", "a/b": b"1", "__MACOSX/a/._b": b"?", "a/.DS_Store": b"?", "empty/": b""}
    got = await receive(zip_body(zipped(files)), tmp_path)
    assert contents(got) == {"a/b": b"1"}


async def test_only_the_executable_bit_of_a_mode_is_kept(tmp_path: Path) -> None:
    for mode, wanted in ((0o104755, 0o755), (0o100644, 0o644), (0o100777, 0o755), (0, 0o644)):
        got = await receive(zip_body(entry("run.sh", mode=mode)), tmp_path)
        target = tmp_path / f"out{mode}"
        target.mkdir()
        got.upload.materialise(target)
        assert stat.S_IMODE((target / "run.sh").stat().st_mode) == wanted


async def test_zip64_and_streamed_archives_are_read(tmp_path: Path) -> None:
    class Unseekable(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            self.data += data
            return len(data)

    target = Unseekable()
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a", "w", force_zip64=True) as file,
    ):
        file.write(b"data" * 10)
    got = await receive(zip_body(bytes(target.data)), tmp_path)
    assert contents(got) == {"a": b"data" * 10}


async def test_zip64_directory_is_read(tmp_path: Path) -> None:
    archive = zipped({"a": b"1"})
    at = archive.index(END)
    _, _, _, here, entries, size, offset, _ = struct.unpack_from("<4s4H2IH", archive, at)
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, here, entries, size, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    end = struct.pack("<4s4H2IH", END, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    got = await receive(zip_body(archive[:at] + record + locator + end), tmp_path)
    assert contents(got) == {"a": b"1"}


async def test_wide_fields_come_from_the_zip64_extra(tmp_path: Path) -> None:
    archive = zipped({"a": b"1"}, zipfile.ZIP_STORED)
    at = archive.index(CENTRAL)
    end_at = archive.index(END)
    extra = struct.pack("<2H2Q", 1, 16, 1, 1)
    central = bytearray(archive[at:end_at])
    struct.pack_into("<2I", central, 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", central, 30, len(extra))
    end = bytearray(archive[end_at:])
    struct.pack_into("<I", end, 12, len(central) + len(extra))
    got = await receive(zip_body(archive[:at] + bytes(central) + extra + bytes(end)), tmp_path)
    assert contents(got) == {"a": b"1"}


def bomb(files: int, size: int) -> bytes:
    return zipped({str(number): b"\0" * size for number in range(files)})


def overlapping() -> bytes:
    """Two entries over the same bytes."""
    archive = zipped({"a": b"x" * 50})
    at, end_at = archive.index(CENTRAL), archive.index(END)
    central = archive[at:end_at]
    end = bytearray(archive[end_at:])
    struct.pack_into("<2H2I", end, 8, 2, 2, 2 * len(central), at)
    return archive[:at] + central + central + bytes(end)


def quoted() -> bytes:
    """An entry whose packed data is another entry, header and all."""
    inner = zipped({"b": b"y" * 20}, zipfile.ZIP_STORED)
    local = inner[: inner.index(CENTRAL)]
    outer = zipped({"a": local}, zipfile.ZIP_STORED)
    at, end_at = outer.index(CENTRAL), outer.index(END)
    second = bytearray(inner[inner.index(CENTRAL) : inner.index(END)])
    struct.pack_into("<I", second, 42, outer.index(local))
    end = bytearray(outer[end_at:])
    struct.pack_into("<2H2I", end, 8, 2, 2, end_at - at + len(second), at)
    return outer[:at] + outer[at:end_at] + bytes(second) + bytes(end)


STORED_X = zipped({"a": b"x" * 40}, zipfile.ZIP_STORED)
DEFLATED_X = zipped({"a": os.urandom(2000)})


@pytest.mark.parametrize(
    ("archive", "problem", "path"),
    [
        (b"", "not a complete zip", "app.zip"),
        (b"<html>", "not a complete zip", "app.zip"),
        (zipped(APP)[:-1], "not a complete zip", "app.zip"),
        (zipped(APP) + b"\0", "not a complete zip", "app.zip"),
        (b"#!" + zipped(APP), "not where it should be", "app.zip"),
        (zipped(APP).replace(END, b"junk" + END), "directory is not where", "app.zip"),
        (zipped({}), "is empty", "app.zip"),
        (zipped({"a/": b""}), "no files", "app.zip"),
        (zipped({".DS_Store": b"?"}), "no files", "app.zip"),
        (patched(zipped(APP), END, 4, b"\1"), "one part of several", "app.zip"),
        (patched(zipped(APP), CENTRAL, 0, b"PK\1\1"), "header is not where", "app.zip"),
        (patched(zipped(APP), CENTRAL, 28, b"\xff\xff"), "too short", "app.zip"),
        (patched(zipped(APP), END, 8, b"\1\0\1\0"), "more than it says", "app.zip"),
        (patched(zipped(APP), END, 8, b"\4\0\4\0"), "header is not where", "app.zip"),
        (patched(STORED_X, CENTRAL, 8, b"\1"), "encrypted", "a"),
        (patched(STORED_X, LOCAL, 6, b"\1"), "two different ways", "a"),
        (patched(STORED_X, CENTRAL, 10, b"\x0e"), "method other than deflate", "a"),
        (patched(STORED_X, LOCAL, 8, b"\x0e"), "two different ways", "a"),
        (patched(STORED_X, LOCAL, 30, b"b"), "two different ways", "a"),
        (patched(STORED_X, LOCAL, 0, b"PK\3\5"), "header is not where", "app.zip"),
        (patched(STORED_X, CENTRAL, 42, b"\xff\xff\xff\x7f"), "header is not where", "app.zip"),
        (patched(STORED_X, CENTRAL, 16, b"\0\0\0\0"), "checksum", "a"),
        (patched(STORED_X, CENTRAL, 24, b"\x29"), "shorter than", "a"),
        (patched(STORED_X, CENTRAL, 24, b"\x27"), "longer than", "a"),
        (patched(STORED_X, CENTRAL, 20, b"\x27"), "shorter than", "a"),
        (patched(STORED_X, CENTRAL, 20, b"\xff\xff"), "runs into its directory", "app.zip"),
        (patched(STORED_X, CENTRAL, 20, b"\xff\xff\xff\xff"), "zip64 field", "a"),
        (patched(DEFLATED_X, CENTRAL, 20, b"\x10\0"), "ends early", "a"),
        (patched(DEFLATED_X, LOCAL, 31, b"\xff"), "inflated", "a"),
        (patched(DEFLATED_X, CENTRAL, 24, b"\xff\xff\xff\x7f"), "unpacks to more", "app.zip"),
        (entry("link", mode=stat.S_IFLNK | 0o777, data=b"/etc/passwd"), "symbolic link", "link"),
        (entry("link", mode=stat.S_IFLNK | 0o777, system=0), "symbolic link", "link"),
        (entry("dev", mode=stat.S_IFCHR | 0o600), "device", "dev"),
        (entry("disk", mode=stat.S_IFBLK | 0o600), "device", "disk"),
        (entry("pipe", mode=stat.S_IFIFO | 0o600), "special file", "pipe"),
        (entry("sock", mode=stat.S_IFSOCK | 0o600), "special file", "sock"),
        (entry("dir", mode=stat.S_IFDIR | 0o755), "file and a folder", "dir"),
        (entry("dir/", mode=stat.S_IFREG | 0o644, data=b""), "file and a folder", "dir/"),
        (entry("dir/", mode=0, data=b"data"), "file and a folder", "dir/"),
        (entry("/etc/passwd"), "absolute", "/etc/passwd"),
        (entry("../a"), "leads out", "../a"),
        (entry("a/../../b"), "leads out", "a/../../b"),
        (entry("a\\b"), "backslash", "a\\b"),
        (entry("C:/a"), "absolute", "C:/a"),
        (entry("a//b"), "empty component", "a//b"),
        (entry("../", mode=0, data=b""), "leads out", ".."),
        (entry("x" * 300), "component longer", "x" * 300),
        (entry("a/" * 70 + "b"), "deeper than", "a/" * 70 + "b"),
        (zipped({"a": b"1", "A": b"2"}), "only in letter case", "A"),
        (zipped({"a": b"1", "a/b": b"2"}), "file and a folder", "a"),
        (zipped({"a/": b"", "A": b"2"}), "file and a folder", "A"),
        (patched(zipped({"a": b"1", "b": b"2"}), b"b", 0, b"a"), "two different ways", "b"),
        (bomb(1, 20 << 20), "100 times", "0"),
        (overlapping(), "overlaps", "a"),
        (quoted(), "overlaps", "b"),
    ],
    ids=lambda value: "zip" if isinstance(value, bytes) else None,  # the same in every worker
)
async def test_archive_with_a_trick_is_refused(
    tmp_path: Path, archive: bytes, problem: str, path: str
) -> None:
    refused = await refusal(archive, tmp_path)
    assert problem in refused.message
    assert refused.path == path


async def test_name_in_a_code_page_is_refused(tmp_path: Path) -> None:
    archive = zipped({"aa": b"1"}).replace(b"aa", b"\x8e\xff")
    refused = await refusal(archive, tmp_path)
    assert "UTF-8" in refused.message
    assert refused.path == "\\x8e\\xff"


async def test_name_with_a_null_byte_is_refused(tmp_path: Path) -> None:
    refused = await refusal(zipped({"a.txt": b"1"}).replace(b"a.txt", b"a\0txt"), tmp_path)
    assert refused.path == "a\0txt"


async def test_same_name_twice_is_refused(tmp_path: Path) -> None:
    refused = await refusal(zipped({"aa": b"1", "bb": b"2"}).replace(b"bb", b"aa"), tmp_path)
    assert "is there twice" in refused.message
    assert refused.path == "aa"


async def test_data_behind_a_deflated_stream_is_refused(tmp_path: Path) -> None:
    archive = zipped({"a": b"x" * 500, "b": b""})
    at = archive.index(LOCAL, 1)
    grown = bytearray(archive[:at] + b"junk" + archive[at:])
    packed = struct.unpack_from("<I", archive, archive.index(CENTRAL) + 20)[0]
    struct.pack_into("<I", grown, grown.index(CENTRAL) + 20, packed + 4)
    struct.pack_into("<I", grown, grown.index(CENTRAL, grown.index(CENTRAL) + 1) + 42, at + 4)
    struct.pack_into("<I", grown, grown.index(END) + 16, grown.index(CENTRAL))
    refused = await refusal(bytes(grown), tmp_path)
    assert "can't be inflated" in refused.message


async def test_headers_that_lie_about_length_do_not_lift_the_caps(tmp_path: Path) -> None:
    """The directory says one byte; two megabytes of zeros come out."""
    archive = patched(bomb(1, 2 << 20), CENTRAL, 24, b"\1\0\0\0")
    assert "longer than the archive says" in (await refusal(archive, tmp_path)).message


@pytest.mark.parametrize(
    ("limits", "files", "problem"),
    [
        (UploadLimits(files=2), {"a": b"1", "b": b"2", "c": b"3"}, "more than 2 files"),
        (UploadLimits(files=2), {f"{n}/": b"" for n in range(9)}, "more than 2 files"),
        (UploadLimits(unpacked_bytes=9), {"a": b"12345", "b": b"67890"}, "more than 9 bytes"),
        (UploadLimits(path_depth=2), {"a/b/c": b""}, "deeper than 2"),
        (UploadLimits(archive_ratio=5), {"a": b"x" * (2 << 20)}, "5 times"),
    ],
)
async def test_limits_hold_for_archives(
    tmp_path: Path, limits: UploadLimits, files: dict[str, bytes], problem: str
) -> None:
    assert problem in (await refusal(zipped(files), tmp_path, limits)).message


async def test_ratio_counts_all_files_together(tmp_path: Path) -> None:
    """Each file stays below the floor of 1 MiB; together they are a bomb."""
    refused = await refusal(bomb(20, 1 << 20), tmp_path, UploadLimits(archive_ratio=10))
    assert "unpacks to more than" in refused.message


async def test_names_may_take_so_much_only(tmp_path: Path) -> None:
    archive = zipped({"a": b""})
    at, end_at = archive.index(CENTRAL), archive.index(END)
    central = bytearray(archive[at:end_at])
    struct.pack_into("<H", central, 32, 60_000)
    central += b"#" * 60_000
    end = bytearray(archive[end_at:])
    struct.pack_into("<2H2I", end, 8, 80, 80, 80 * len(central), at)
    refused = await refusal(archive[:at] + bytes(central) * 80 + bytes(end), tmp_path)
    assert "names take more" in refused.message


async def test_filename_is_checked(tmp_path: Path) -> None:
    for filename in ("", "x" * 256):
        with pytest.raises(InvalidField, match=r"upload\.filename"):
            await receive(zip_body(zipped(APP), filename), tmp_path)
    got = await receive(zip_body(zipped(APP), None), tmp_path)
    assert contents(got) == APP


@given(st.data())
def test_damaged_archive_is_refused_or_gives_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever one byte becomes: an UploadInvalid, or files whose CRC still holds."""
    spool = tmp_path_factory.getbasetemp() / "spool-of-damage"
    archive = bytearray(zipped({"a": b"hello", "b/c": b"x" * 300}))
    at = data.draw(st.integers(0, len(archive) - 1))
    archive[at] = data.draw(st.integers(0, 255))
    try:
        got = received(zip_body(bytes(archive)), spool)
    except UploadInvalid:
        return
    found = contents(got)
    assert sorted(zlib.crc32(item) for item in found.values()) in (
        sorted(map(zlib.crc32, (b"hello", b"x" * 300))),
        [zlib.crc32(b"hello")],
        [zlib.crc32(b"x" * 300)],
    )

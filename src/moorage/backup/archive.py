"""Writes and unpacks a backup's file: a compressed tar that keeps holes, the manifest first."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, cast

import msgspec

from moorage.content.store import Writer
from moorage.errors import BackupFailed, BackupInvalid
from moorage.storage.opening import DATABASE

NAME = "manifest.json"
FORMAT = 1
MAX_BYTES = 64 * 1024 * 1024
_MAX_HEADER_BYTES = 64 * 1024 * 1024  # of a file with 2.7 million holes

KEYS = ("secrets.key", "challenges.key", "relayer.key", "wallets.json")
"""Secret files that a gateway may have in its data directory."""

_TOP = frozenset((DATABASE, *KEYS, "apps", "proxy"))
_PART = re.compile(r"[A-Za-z0-9_+=,@-][A-Za-z0-9_+=,@.-]*", re.ASCII)  # no part begins with a dot
_MAX_PARTS = 16
_MAX_PATH_LENGTH = 1024


class ManifestEntry(msgspec.Struct, frozen=True):
    """One file; `digest` is made by `content.digest_of`."""

    path: str  # below the data directory
    size: Annotated[int, msgspec.Meta(ge=0)]
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A backup's contents."""

    format: int
    version: str  # of the Moorage that made it
    schema: str  # the database's revision
    created_at: str
    data_dir: str  # where the gateway had it
    secrets_key: bool  # whether it contains the key that encrypts variables
    entries: tuple[ManifestEntry, ...]
    gateway: str = ""  # the id of the gateway's data directory


def read_manifest(content: bytes) -> Manifest:
    """Returns the manifest; every path in it is below the data directory. Raises BackupInvalid."""
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BackupInvalid("It does not begin with a manifest.") from error
    if manifest.format != FORMAT:
        raise BackupInvalid(
            f"Its format is {manifest.format}; this version of Moorage reads {FORMAT}."
        )
    paths = [entry.path for entry in manifest.entries]
    if len(set(paths)) != len(paths) or DATABASE not in paths:
        raise BackupInvalid("Its manifest names a file twice, or no database.")
    for path in paths:
        _check(path)
    _check_no_file_is_a_directory(paths)
    return manifest


def _check(path: str) -> None:
    parts = path.split("/")
    fits = len(path) <= _MAX_PATH_LENGTH and len(parts) <= _MAX_PARTS and parts[0] in _TOP
    if not fits or not all(map(_PART.fullmatch, parts)):
        raise BackupInvalid(
            f"Its manifest names {path[:_MAX_PATH_LENGTH]!r}, which no gateway keeps."
        )


def _check_no_file_is_a_directory(paths: list[str]) -> None:
    directories = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    if not directories.isdisjoint(paths):
        raise BackupInvalid("Its manifest names a file as a directory as well.")


BLOCK_BYTES = 1024 * 1024
_ZEROS = bytes(BLOCK_BYTES)


class Digest:
    """SHA-256 over a file's blocks that are not all zeros, each after its number, and its size.

    So holes cost nothing, and a block of zeros counts like a hole.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, number: int, block: bytes) -> None:
        """Adds a block that is not all zeros."""
        self._hash.update(number.to_bytes(8, "big"))
        self._hash.update(block)

    def hex(self, size: int) -> str:
        """Returns the digest of a file of `size` bytes."""
        self._hash.update(size.to_bytes(8, "big"))
        return self._hash.hexdigest()


def is_zero(block: bytes) -> bool:
    """Returns whether a block of at most BLOCK_BYTES is all zeros."""
    return block == _ZEROS if len(block) == BLOCK_BYTES else not any(block)


def digest_of(path: Path) -> str:
    """Returns the digest of a file. Raises OSError."""
    digest = Digest()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number in _numbers_with_data(descriptor):
            block = os.pread(descriptor, BLOCK_BYTES, number * BLOCK_BYTES)
            if not is_zero(block):
                digest.add(number, block)
        return digest.hex(os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _numbers_with_data(descriptor: int) -> Iterator[int]:
    """Returns the numbers of all blocks that are not wholly in a hole, each once."""
    done, end = 0, 0
    while True:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole follows
                return
            raise
        end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        last = -(-end // BLOCK_BYTES)
        yield from range(max(done, begin // BLOCK_BYTES), last)
        done = max(done, last)


_COMPRESSORS = {"zstd": b"\x28\xb5\x2f\xfd", "gzip": b"\x1f\x8b"}
"""Programs in order of preference, and the bytes that their output begins with."""


def find_compressor() -> str:
    """Returns the program that compresses here. Raises BackupFailed."""
    found = next((name for name in _COMPRESSORS if shutil.which(name)), None)
    if found is None:
        raise BackupFailed("Neither zstd nor gzip is on this machine; install one.")
    return found


def write_archive(directory: Path, paths: list[str], target: Path) -> None:
    """Packs files of `directory` into `target`, atomically. Raises BackupFailed."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        draft.touch(mode=0o600)
        with draft.open("wb") as file:
            with packed(directory, paths, find_compressor()) as source:
                shutil.copyfileobj(source, file, BLOCK_BYTES)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise BackupFailed(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def packed(directory: Path, paths: list[str], compressor: str) -> Iterator[IO[bytes]]:
    """Yields the archive of files of `directory` as a stream, which must be read to its end.

    Raises BackupFailed at the end, if what was read is not all of it.
    """
    argv = [
        "tar", "--create", "--sparse", "--format=gnu", "--no-recursion", "--owner=0", "--group=0",
        "--numeric-owner", f"--use-compress-program={compressor}", "--file=-",
        f"--directory={directory}", "--null", "--verbatim-files-from", "--files-from=-",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as names, tempfile.TemporaryFile() as errors:
        names.write("".join(f"{path}\0" for path in paths).encode())
        names.seek(0)
        with subprocess.Popen(argv, stdin=names, stdout=subprocess.PIPE, stderr=errors) as process:
            try:
                yield _pipe(process.stdout)
                code = process.wait()
            finally:
                process.kill()
        if code != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()[-500:]
            raise BackupFailed(f"tar failed: {said}")


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    if end is None:
        raise BackupFailed("A program was started without a pipe.")
    return end


Feed = Callable[[Writer], object]
"""Writes an archive."""


def unpack(archive: Path, directory: Path) -> Manifest:
    """Unpacks a backup into the empty `directory`, and checks each file against the manifest.

    Creates only regular files that the manifest names. Raises BackupInvalid if the backup is
    damaged, cut short or forged; BackupFailed if the disk fails.
    """

    def feed(target: Writer) -> None:
        with archive.open("rb") as file:
            shutil.copyfileobj(file, target, BLOCK_BYTES)

    return unpack_stream(feed, _compressor_of(archive), directory)


def unpack_stream(feed: Feed, compressor: str, directory: Path) -> Manifest:
    """As `unpack`, of what `feed` writes in a thread. Raises what `feed` does, too."""
    if shutil.which(compressor) is None:
        raise BackupInvalid(f"{compressor}, which it was compressed with, is not here.")
    try:
        with _opened(feed, compressor) as (archive, limit):
            return _unpack(archive, directory, limit)
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
        raise BackupInvalid(f"It is damaged or cut short ({error}).") from error
    except OSError as error:
        raise BackupFailed(f"It cannot be unpacked: {error.strerror or error}.") from error


class _Limited:
    """Reads no more bytes than it may: the library keeps a header in memory, however long."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.allow(0)

    def allow(self, size: int) -> None:
        """Allows so many bytes of content from here on, and a header."""
        self._left = size + _MAX_HEADER_BYTES

    def read(self, size: int, /) -> bytes:
        self._left -= size
        if self._left < 0:
            raise BackupInvalid("It is longer than its manifest says.")
        return self._source.read(size)


def _unpack(packed: tarfile.TarFile, directory: Path, limit: _Limited) -> Manifest:
    first = packed.next()
    if first is None or first.name != NAME or not first.isreg() or first.size > MAX_BYTES:
        raise BackupInvalid("It does not begin with a manifest.")
    limit.allow(first.size)
    manifest = read_manifest(_content(packed, first).read())
    awaited = {entry.path: entry for entry in manifest.entries}
    while (member := packed.next()) is not None:
        entry = awaited.pop(member.name, None)
        if entry is None or not member.isreg() or member.size != entry.size:
            raise BackupInvalid(f"It holds {member.name[:200]!r}, not as its manifest says.")
        limit.allow(entry.size)
        _place(_content(packed, member), entry, directory / entry.path)
        limit.allow(0)
    if awaited:
        raise BackupInvalid(f"{len(awaited)} files are missing from it.")
    return manifest


def _content(packed: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = packed.extractfile(member)
    if content is None:
        raise BackupInvalid(f"{member.name[:200]!r} in it is no file.")
    return content


def _place(content: IO[bytes], entry: ManifestEntry, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        digest = Digest()
        for number, block in enumerate(_blocks(content)):
            if not is_zero(block):
                digest.add(number, block)
                file.seek(number * BLOCK_BYTES)
                file.write(block)
        file.truncate(entry.size)
        file.flush()
        os.fsync(file.fileno())
    if digest.hex(entry.size) != entry.digest:
        raise BackupInvalid(f"{entry.path} in it is damaged.")


def _blocks(content: IO[bytes]) -> Iterator[bytes]:
    while block := content.read(BLOCK_BYTES):
        yield block


class _Fed:
    """The decompressor's input, fed by a thread; knows why that failed, unless nobody reads on."""

    def __init__(self, feed: Feed, target: IO[bytes]) -> None:
        self._feed, self._target = feed, target
        self._broken = False
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def write(self, piece: bytes, /) -> int:
        try:
            return self._target.write(piece)
        except BrokenPipeError:
            self._broken = True
            raise

    def flush(self) -> None:
        return

    def _run(self) -> None:
        try:
            self._feed(self)
        except Exception as error:  # noqa: BLE001  (it is raised where the archive is read)
            if not self._broken:
                self.error = error
        finally:  # at last: then the reader finds the end, and the error
            with contextlib.suppress(OSError):
                self._target.close()


@contextlib.contextmanager
def _opened(feed: Feed, program: str) -> Iterator[tuple[tarfile.TarFile, _Limited]]:
    """Opens the archive as a stream from its decompressor. Raises BackupInvalid, OSError."""
    argv = [program, "--decompress", "--stdout"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        out, fed = _Limited(_pipe(process.stdout)), _Fed(feed, _pipe(process.stdin))
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", out), mode="r|", encoding="utf-8") as tar:
                yield tar, out
            while out.read(BLOCK_BYTES):
                pass
            if process.wait() != 0:
                raise BackupInvalid(f"It is damaged: {program} cannot decompress all of it.")
            fed.thread.join()
        finally:
            error = fed.error  # before its pipe is broken
            process.kill()
            fed.thread.join()
            if error is not None:
                raise error


def _compressor_of(archive: Path) -> str:
    try:
        with archive.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise BackupFailed(f"{archive} cannot be read: {error.strerror}.") from error
    for program, magic in _COMPRESSORS.items():
        if head.startswith(magic):
            return program
    raise BackupInvalid("It is no backup of a gateway.")

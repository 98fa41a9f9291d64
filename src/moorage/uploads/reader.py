"""Reads the body of one deploy from its stream; an `Upload` is the files that came with it."""

import asyncio
import errno
import hashlib
import os
from binascii import Error, a2b_base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from moorage.archive.project import (
    FILES,
    MANIFEST,
    VOLUME,
    ArchiveRefused,
    OpenArchive,
    Part,
    open_archive,
)
from moorage.errors import InvalidField, UploadInvalid
from moorage.planning.plan import Settings
from moorage.unknown_keys import MisplacedHash
from moorage.uploads.request import (
    NOT_BASE64,
    DeployRequest,
    Described,
    JsonStream,
    Parser,
    Skeleton,
    deploy_settings,
)
from moorage.uploads.room import Allowance, Content, Spool, UploadLimits
from moorage.uploads.stored import in_pieces, read_body


@dataclass(frozen=True)
class ExportedVolume:
    """The volume in an open archive of a project."""

    archive: OpenArchive
    part: Part

    def write(self, target: Path) -> None:
        """Writes it to a new file. Raises ArchiveRefused, OSError. Blocks."""
        with target.open("xb") as out:
            self.archive.copy_part(self.part, out)


class Upload:
    """A `SourceTree` over received files, kept until `close`.

    Files keep their paths: a common top folder is not removed.
    """

    def __init__(
        self, contents: dict[str, Content], spool: Spool, *, volume: ExportedVolume | None = None
    ) -> None:
        self.volume = volume
        self._contents = contents
        self._spool = spool
        self._paths: tuple[str, ...] | None = None
        self._materialised = False

    @property
    def paths(self) -> Sequence[str]:
        """Every file's path, sorted."""
        if self._paths is None:
            self._paths = tuple(sorted(self._contents))
        return self._paths

    @property
    def total_bytes(self) -> int:
        """The length of all files together."""
        return sum(content.size for content in self._contents.values())

    @property
    def on_disk(self) -> bool:
        """Whether files were spooled to disk, so that `close` may block."""
        return self._spool.on_disk

    def content(self, path: str) -> Content:
        """Returns the file's content. Raises KeyError when there is no such file."""
        return self._contents[path]

    def size(self, path: str) -> int:
        """The file's length in bytes. Raises KeyError when there is none."""
        return self._contents[path].size

    def read(self, path: str, *, limit: int = 1_048_576) -> bytes:
        """The file's first `limit` bytes. Raises KeyError when there is no such file."""
        return self._contents[path].read(limit)

    def materialise(self, destination: Path) -> None:
        """Writes every file below `destination`, an existing, empty directory; once per upload.

        Files are 0644 (0755 if an archive marked them executable), folders 0755. It blocks: run it
        in a thread. Raises OSError (disk full, destination not empty), and does not remove what it
        wrote.
        """
        if self._materialised:
            raise ValueError("this upload was materialised before")
        if any(destination.iterdir()):
            raise FileExistsError(errno.ENOTEMPTY, "the destination is not empty", str(destination))
        self._materialised = True
        made = {""}
        for path in self.paths:
            _make_folder(destination, path.rpartition("/")[0], made)
            _place(self._contents[path], destination / path)

    def leave_volume(self) -> None:
        """Drops the volume, if there is one."""
        if self.volume is not None:
            self.volume.archive.source.close()
            self.volume = None

    def close(self) -> None:
        """Drops all files and removes those on disk. Closing again does nothing."""
        self._contents = {}
        self._paths = ()
        self.leave_volume()
        self._spool.close()


def _make_folder(destination: Path, folder: str, made: set[str]) -> None:
    if folder in made:
        return
    _make_folder(destination, folder.rpartition("/")[0], made)
    made.add(folder)
    path = destination / folder
    path.mkdir()
    path.chmod(0o755)  # whatever the umask


def _place(content: Content, target: Path) -> None:
    with target.open("xb") as file:
        os.fchmod(file.fileno(), 0o755 if content.executable else 0o644)  # whatever the umask
        if content.file is None:
            file.write(content.data)
        else:
            content.file.copy(content.offset, content.size, file.fileno())


class DirectoryTree:
    """A `SourceTree` over the files of `root` that `sizes` names, by their relative paths.

    It reads no other files, and these only when `read` is called.
    """

    def __init__(self, root: Path, sizes: Mapping[str, int]) -> None:
        self._root = root
        self._sizes = sizes
        self._paths = tuple(sorted(sizes))

    @property
    def paths(self) -> Sequence[str]:
        """Every file's path, sorted."""
        return self._paths

    def size(self, path: str) -> int:
        """The file's length in bytes. Raises KeyError when there is none."""
        return self._sizes[path]

    def read(self, path: str, *, limit: int = 1_048_576) -> bytes:
        """The file's first `limit` bytes. Raises KeyError when there is no such file."""
        if path not in self._sizes:
            raise KeyError(path)
        with (self._root / path).open("rb") as file:
            return file.read(limit)


class InvalidBase64(ValueError):
    """The text is not standard base64 with padding."""


class Base64Text:
    """Decodes one base64 text after another from pieces of raw JSON strings.

    It accepts the standard alphabet with correct padding, and ignores line breaks (CR, LF). A piece
    may end anywhere except inside an escape sequence. Raises InvalidBase64 on anything else.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._padded = False

    def decode(self, piece: bytes) -> bytes:
        """Returns the bytes that `piece` completes."""
        if b"\\" in piece:
            piece = _unescaped(piece)
        if self._rest:
            piece = self._rest + piece
        if not piece:  # a line break alone
            return b""
        if self._padded:
            raise InvalidBase64
        whole = len(piece) & ~3
        if whole != len(piece):
            self._rest = piece[whole:]
            piece = piece[:whole]
        else:
            self._rest = b""
        self._padded = piece.endswith(b"=")
        try:
            return a2b_base64(piece, strict_mode=True)
        except Error:
            raise InvalidBase64 from None

    def finish(self) -> None:
        """Ends the text. Raises InvalidBase64 when its last group is incomplete."""
        if self._rest:
            raise InvalidBase64
        self._padded = False


class Intake:
    """The `TextSink` of one upload: collects its contents, in the order of the body.

    A content that is not base64 becomes `None`, because its path for the error may come later in
    the body. All contents after it are `None` too, because the upload will be refused.
    """

    def __init__(self, spool: Spool, limits: UploadLimits) -> None:
        self.contents: list[Content | None] = []
        self._spool = spool
        self._files = limits.files
        self._text = Base64Text()
        self._refused = False
        self._digest = hashlib.sha256()

    @property
    def damaged(self) -> int | None:
        """The index of the first content that is not base64, if there is one."""
        return self.contents.index(None) if self._refused else None

    def digest(self) -> bytes:
        """Returns the SHA-256 over all contents and their lengths."""
        sizes = ",".join(str(content.size) for content in self.contents if content is not None)
        self._digest.update(sizes.encode())
        return self._digest.digest()

    def begin(self) -> None:
        """Begins a content. Raises UploadInvalid when there are too many."""
        if len(self.contents) >= self._files:
            raise UploadInvalid(f"holds more than {self._files} files")

    def write(self, piece: bytes) -> None:
        """Decodes `piece` and writes the bytes to the spool."""
        if self._refused:
            return
        try:
            decoded = self._text.decode(piece)
        except InvalidBase64:
            self._refused = True
        else:
            if decoded:
                self._digest.update(decoded)
                self._spool.write(decoded)

    def end(self) -> None:
        """Ends the content."""
        try:
            self._text.finish()
        except InvalidBase64:
            self._refused = True
        self.contents.append(None if self._refused else self._spool.finish())


def _unescaped(piece: bytes) -> bytes:
    """Returns `piece` with its escapes decoded and line breaks removed, in linear time."""
    try:
        text = msgspec.json.decode(b'"%b"' % piece, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidBase64 from None
    return text.encode().replace(b"\n", b"").replace(b"\r", b"")


_STORED_PIECE = 256 * 1024

OpenStored = Callable[[str], Awaitable[BinaryIO]]
"""Opens the stored upload of that SHA-256. Raises UploadNotFound."""


class ExportSource(NamedTuple):
    """An open archive of a project; whether this gateway made it, and so need not doubt it."""

    file: BinaryIO
    is_own: bool


class Exports(NamedTuple):
    """What reads archives of projects."""

    open: Callable[[str], Awaitable[ExportSource]]
    """Opens the archive of that SHA-256. Raises UploadNotFound."""
    volume_bytes: int
    """What a volume may have."""


class ReceivedBody(msgspec.Struct, frozen=True):
    """A body that arrived whole and whose upload passed every check. The caller closes `upload`.

    `digest` is the SHA-256 of the raw body, `tree_digest` that of the files only, both in hex;
    `misplaced` a payment's hash in a field that nobody reads.
    """

    asked: DeployRequest | InvalidField
    digest: str
    tree_digest: str
    upload: Upload
    misplaced: MisplacedHash | None = None

    @property
    def request(self) -> DeployRequest:
        """The request. Raises InvalidField if it is invalid."""
        if isinstance(self.asked, InvalidField):
            raise self.asked
        return self.asked


async def read_upload(
    stream: AsyncIterator[bytes],
    *,
    content_length: int | None,
    limits: UploadLimits,
    spool_dir: Path,
    parser: Parser,
    allowance: Allowance | None = None,
    open_stored: OpenStored | None = None,
    exports: Exports | None = None,
) -> ReceivedBody:
    """Returns the body that `stream` yields, decoded as it arrives; `stream` limits the time.

    `content_length` is what the client declared, if it did. Up to `limits.memory_bytes` of contents
    stay in memory. The rest is spooled to files below `spool_dir`, which is made when needed; their
    size counts against `allowance`, which is closed with the upload. An upload that was stored
    before is read by `open_stored`; without it, none may be named. Raises

    - BodyTooLarge, before anything is read if too many bytes are declared;
    - InvalidRequest when more or fewer than `content_length` bytes arrive;
    - InvalidField for an error in the JSON, UploadInvalid for one in a file or the archive;
    - what `stream`, `allowance`, `open_stored`, the disk and the limits of `parser` raise.

    After any of these, and after cancellation, nothing is left on disk.
    """
    spool = Spool(spool_dir, memory_bytes=limits.memory_bytes, allowance=allowance)
    try:
        reader = _Reader(spool, limits, parser)
        await read_body(
            stream, reader.feed, content_length=content_length, max_bytes=limits.body_bytes
        )
        described = await reader.described()
        if described.export is not None:
            return await _read_export(described, exports, reader)
        if described.stored is None:
            return await reader.received(described)
        stored = await _read_stored(described.stored, open_stored, _Reader(spool, limits, parser))
        return msgspec.structs.replace(
            stored,
            asked=described.asked,
            digest=reader.digest.hexdigest(),
            misplaced=described.misplaced,
        )
    except BaseException:
        await _close(spool)
        raise


async def _read_stored(
    sha256: str, open_stored: OpenStored | None, reader: "_Reader"
) -> ReceivedBody:
    """Reads an upload as if it had come in the body. Raises what `open_stored` raises."""
    if open_stored is None:
        raise InvalidField("upload.type", 'must be "files" or "zip" here')
    with await open_stored(sha256) as file:
        reader.feed(b'{"upload":')
        while piece := await asyncio.to_thread(file.read, _STORED_PIECE):
            await in_pieces(piece, reader.feed)
        reader.feed(b"}")
    described = await reader.described()
    if described.stored is not None:
        raise InvalidField("upload.type", 'must be "files" or "zip" in an upload that is stored')
    return await reader.received(described)


async def _read_export(
    described: Described, exports: Exports | None, reader: "_Reader"
) -> ReceivedBody:
    """Reads the archive of a project as if its files had come in the body.

    What the request leaves at its default comes from the archive's settings. Raises what
    `exports.open` raises.
    """
    if exports is None or described.export is None:
        raise InvalidField("upload.type", 'must be "files" or "zip" here')
    source = await exports.open(described.export)
    try:
        archive = await asyncio.to_thread(open_archive, source.file)
        asked = _with_settings(described.asked, archive.manifest.settings)
        files, volume = archive.manifest.part(FILES), archive.manifest.part(VOLUME)
        if files is None:
            why = archive.manifest.left_out.get("files", "it has none")
            raise UploadInvalid(f"has no files to deploy: {why[:200]}", path=FILES)
        has_volume = isinstance(asked, DeployRequest) and bool(asked.settings.volume)
        if volume is not None and has_volume:
            await reader.check_volume(archive, volume, source, max_bytes=exports.volume_bytes)
        contents = await reader.tree_of(archive, files)
        kept = ExportedVolume(archive, volume) if volume is not None and has_volume else None
        if kept is None:
            source.file.close()
        return ReceivedBody(
            asked=asked,
            digest=reader.digest.hexdigest(),
            tree_digest=hashlib.sha256(f"export {files.sha256}".encode()).hexdigest(),
            upload=Upload(contents, reader.spool, volume=kept),
            misplaced=described.misplaced,
        )
    except ArchiveRefused as error:
        source.file.close()
        raise UploadInvalid(f"is no export: {error}") from error
    except BaseException:
        source.file.close()
        raise


def _with_settings(
    asked: DeployRequest | InvalidField, given: Mapping[str, msgspec.Raw]
) -> DeployRequest | InvalidField:
    if isinstance(asked, InvalidField):
        return asked
    default = msgspec.to_builtins(Settings())
    own = {key: it for key, it in msgspec.to_builtins(asked.settings).items() if it != default[key]}
    if asked.settings.volume is False:
        own["volume"] = False
    brought = {key: msgspec.json.decode(value) for key, value in given.items()}
    try:
        return msgspec.structs.replace(asked, settings=deploy_settings(brought | own))
    except InvalidField as error:
        raise UploadInvalid(
            f"has settings that can't be: {error.message}", path=MANIFEST
        ) from error


async def _close(spool: Spool) -> None:
    if spool.on_disk:
        await asyncio.shield(asyncio.to_thread(spool.close))
    else:
        spool.close()


class _Nowhere:
    """Takes what is only read for its digest."""

    def write(self, content: bytes) -> None:
        """Drops it."""


class _Reader:
    """Reads one body."""

    def __init__(self, spool: Spool, limits: UploadLimits, parser: Parser) -> None:
        self.spool = self._spool = spool
        self._limits = limits
        self._parser = parser
        self._intake = Intake(spool, limits)
        self._json = JsonStream(
            self._intake,
            skeleton_bytes=limits.skeleton_bytes,
            nesting_depth=limits.nesting_depth,
            containers=limits.containers,
        )
        self.digest = hashlib.sha256()

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes of the body."""
        self.digest.update(piece)
        self._json.feed(piece)

    async def described(self) -> Described:
        """Parses what arrived, without the contents of files."""
        skeleton = Skeleton(self._json.finish(), self._intake.damaged)
        return await self._parser.describe(skeleton, self._limits)

    async def received(self, described: Described) -> ReceivedBody:
        """Returns the body with its files, which it checks."""
        contents_digest = self._intake.digest()
        if described.paths is None:
            contents = await self._unpacked(described)
        else:
            contents = {
                path: content
                for path, content in zip(described.paths, self._intake.contents, strict=True)
                if path is not None and content is not None
            }
        return ReceivedBody(
            asked=described.asked,
            digest=self.digest.hexdigest(),
            tree_digest=_tree_digest(described.paths, contents_digest),
            upload=Upload(contents, self._spool),
            misplaced=described.misplaced,
        )

    async def check_volume(
        self, archive: OpenArchive, part: Part, source: ExportSource, *, max_bytes: int
    ) -> None:
        """Checks that the volume of an export can be made, unless it is this gateway's own."""
        if part.content_bytes > max_bytes:
            raise UploadInvalid(
                f"has {part.content_bytes:,} bytes; a volume has {max_bytes:,} here", path=VOLUME
            )
        if not source.is_own:
            descriptor = os.dup(source.file.fileno())
            offset = archive.offsets[VOLUME]
            await asyncio.to_thread(archive.copy_part, part, _Nowhere())
            await self._parser.check_volume(descriptor, offset=offset, max_bytes=max_bytes)

    async def tree_of(self, archive: OpenArchive, part: Part) -> dict[str, Content]:
        """Unpacks the files of an export, and returns them by path."""
        await asyncio.to_thread(archive.copy_part, part, self._spool)
        return await self._unpack(self._spool.finish(), name=None, is_tree=True)

    async def _unpacked(self, described: Described) -> dict[str, Content]:
        """Unpacks the archive, and returns its files by path."""
        (archive,) = self._intake.contents
        if archive is None:
            raise UploadInvalid(NOT_BASE64, path=described.archive_name)
        return await self._unpack(archive, name=described.archive_name)

    async def _unpack(
        self, archive: Content, *, name: str | None, is_tree: bool = False
    ) -> dict[str, Content]:
        file = self._spool.new_file()
        try:
            unpacked = await self._parser.unpack(archive, file, self._limits, is_tree=is_tree)
        except UploadInvalid as error:
            error.path = error.path or name
            raise
        self._spool.discard(archive)
        self._spool.filled(file)
        return {
            entry.path: Content(
                entry.size, b"", file=file, offset=entry.offset, executable=entry.executable
            )
            for entry in unpacked
        }


def _tree_digest(paths: list[str | None] | None, contents_digest: bytes) -> str:
    """Returns a digest in hex that is equal for the same files, or the same bytes of an archive."""
    named = "zip" if paths is None else "files" + "".join(f"\0{path or ''}" for path in paths)
    return hashlib.sha256(contents_digest + named.encode()).hexdigest()

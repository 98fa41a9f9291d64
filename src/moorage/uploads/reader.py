"""Reads one deploy's body from the request stream."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from moorage.errors import InvalidField, UploadInvalid
from moorage.misplaced_hash import MisplacedHash
from moorage.uploads.body import in_pieces, read_body
from moorage.uploads.intake import Intake
from moorage.uploads.json_stream import JsonStream
from moorage.uploads.limits import UploadLimits
from moorage.uploads.parsing import NOT_BASE64, Described, Parser, Skeleton
from moorage.uploads.request import DeployRequest
from moorage.uploads.room import Allowance
from moorage.uploads.spool import Content, Spool
from moorage.uploads.tree import Upload

_STORED_PIECE = 256 * 1024

OpenStored = Callable[[str], Awaitable[BinaryIO]]
"""Opens the stored upload of that SHA-256. Raises UploadNotFound."""


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


async def _close(spool: Spool) -> None:
    if spool.on_disk:
        await asyncio.shield(asyncio.to_thread(spool.close))
    else:
        spool.close()


class _Reader:
    """Reads one body."""

    def __init__(self, spool: Spool, limits: UploadLimits, parser: Parser) -> None:
        self._spool = spool
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

    async def _unpacked(self, described: Described) -> dict[str, Content]:
        """Unpacks the archive, and returns its files by path."""
        (archive,) = self._intake.contents
        if archive is None:
            raise UploadInvalid(NOT_BASE64, path=described.archive_name)
        file = self._spool.new_file()
        try:
            unpacked = await self._parser.unpack(archive, file, self._limits)
        except UploadInvalid as error:
            error.path = error.path or described.archive_name
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

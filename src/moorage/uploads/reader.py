"""Reads one deploy's body from the request stream."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from moorage.errors import BodyTooLarge, InvalidField, InvalidRequest, UploadInvalid
from moorage.uploads.intake import Intake
from moorage.uploads.json_stream import JsonStream
from moorage.uploads.limits import UploadLimits
from moorage.uploads.parsing import NOT_BASE64, Described, Parser, Skeleton
from moorage.uploads.request import DeployRequest
from moorage.uploads.room import Allowance
from moorage.uploads.spool import Content, Spool
from moorage.uploads.tree import Upload

_GATHERED = 16 * 1024  # smaller chunks are joined, so that no byte is scanned often
_PIECE = 16 * 1024  # bytes that are processed before other requests get their turn


class ReceivedBody(msgspec.Struct, frozen=True):
    """A body that arrived whole and whose upload passed every check. The caller closes `upload`.

    `digest` is the SHA-256 of the raw body, `tree_digest` that of the files only, both in hex.
    """

    asked: DeployRequest | InvalidField
    digest: str
    tree_digest: str
    upload: Upload

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
) -> ReceivedBody:
    """Returns the body that `stream` yields, decoded as it arrives; `stream` limits the time.

    `content_length` is what the client declared, if it did. Up to `limits.memory_bytes` of contents
    stay in memory. The rest is spooled to files below `spool_dir`, which is made when needed; their
    size counts against `allowance`, which is closed with the upload. Raises

    - BodyTooLarge, before anything is read if too many bytes are declared;
    - InvalidRequest when more or fewer than `content_length` bytes arrive;
    - InvalidField for an error in the JSON, UploadInvalid for one in a file or the archive;
    - what `stream`, `allowance`, the disk and the limits of `parser` raise.

    After any of these, and after cancellation, nothing is left on disk.
    """
    _check_declared(content_length, limits)
    spool = Spool(spool_dir, memory_bytes=limits.memory_bytes, allowance=allowance)
    try:
        reader = _Reader(spool, limits, parser)
        await reader.receive(stream, content_length)
        return await reader.received()
    except BaseException:
        await _close(spool)
        raise


def _check_declared(content_length: int | None, limits: UploadLimits) -> None:
    if content_length is None:
        return
    if content_length < 0:
        raise InvalidRequest("Content-Length must not be negative.")
    if content_length > limits.body_bytes:
        raise _too_large(limits)


def _too_large(limits: UploadLimits) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request body is too large: this gateway accepts at most {limits.body_bytes} bytes."
    )


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
        self._digest = hashlib.sha256()

    async def receive(self, stream: AsyncIterator[bytes], content_length: int | None) -> None:
        """Reads the whole stream, within the limits of size."""
        limits = self._limits
        received = 0
        chunks: list[bytes] = []
        gathered = 0
        async for chunk in stream:
            if not chunk:
                continue
            received += len(chunk)
            if received > limits.body_bytes:
                raise _too_large(limits)
            if content_length is not None and received > content_length:
                raise InvalidRequest(
                    f"The body is longer than the {content_length} bytes of its Content-Length."
                )
            chunks.append(chunk)
            gathered += len(chunk)
            if gathered >= _GATHERED:
                await self._take(b"".join(chunks))
                chunks.clear()
                gathered = 0
        if content_length is not None and received < content_length:
            raise InvalidRequest(
                f"The body ended after {received} of the {content_length} bytes of its "
                "Content-Length. Send it again."
            )
        self._feed(b"".join(chunks))

    async def _take(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            self._feed(data[start : start + _PIECE])
            await asyncio.sleep(0)

    def _feed(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._json.feed(piece)

    async def received(self) -> ReceivedBody:
        """Parses and checks what arrived, and returns it."""
        skeleton = Skeleton(self._json.finish(), self._intake.damaged)
        described = await self._parser.describe(skeleton, self._limits)
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
            digest=self._digest.hexdigest(),
            tree_digest=_tree_digest(described.paths, contents_digest),
            upload=Upload(contents, self._spool),
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

"""Reading one deploy's body off the request stream."""

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

import msgspec

from moorage.deploy.upload.description import FilesUpload, ZipUpload, read_description
from moorage.deploy.upload.intake import Intake
from moorage.deploy.upload.json_stream import JsonStream, not_json
from moorage.deploy.upload.limits import UploadLimits
from moorage.deploy.upload.paths import PathSet, is_clutter
from moorage.deploy.upload.spool import Content, Spool
from moorage.deploy.upload.tree import Upload
from moorage.deploy.upload.unpacking import unpack
from moorage.errors import BodyStalled, BodyTooLarge, InvalidField, InvalidRequest, UploadInvalid

_GATHERED = 16 * 1024  # smaller chunks wait for each other, so that no byte is looked at often
_PIECE = 64 * 1024  # what is worked on before other requests get their turn
_ASIDE_FROM = 64 * 1024  # a skeleton this long takes milliseconds to parse and check

# Few, so that the event loop seldom has to wait its turn for the interpreter.
_WORKERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="upload")

_P = ParamSpec("_P")
_T = TypeVar("_T")
_NOT_BASE64 = "is not base64: the standard alphabet, with padding"
_POSITION = re.compile(r" \(byte \d+\)$")


class ReceivedBody(msgspec.Struct, frozen=True):
    """A body that arrived whole and whose upload passed every check.

    `skeleton` is the body's JSON, strictly valid and without duplicate keys, with `""` for each
    content. `digest` is the SHA-256 of the raw body, in hex. The receiver closes `upload`.
    """

    skeleton: bytes
    digest: str
    upload: Upload


async def read_upload(
    stream: AsyncIterator[bytes],
    *,
    content_length: int | None,
    limits: UploadLimits,
    spool_dir: Path,
) -> ReceivedBody:
    """The body that `stream` yields, decoded as it arrives.

    `content_length` is what the client declared, if it did. Up to `limits.memory_bytes` of contents
    stay in memory; more goes to a directory below `spool_dir`, which is made when needed. Raises

    - BodyTooLarge, before reading when that many bytes are declared, and BodyStalled;
    - InvalidRequest when other than `content_length` bytes arrive;
    - InvalidField for what is wrong with the JSON, UploadInvalid for a file or the archive;
    - whatever `stream` and the disk raise.

    After any of these, and after cancellation, nothing is left on disk.
    """
    _check_declared(content_length, limits)
    spool = Spool(spool_dir, memory_bytes=limits.memory_bytes)
    try:
        reader = _Reader(spool, limits)
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
    """One body on its way in."""

    def __init__(self, spool: Spool, limits: UploadLimits) -> None:
        self._spool = spool
        self._limits = limits
        self._intake = Intake(spool, limits)
        self._json = JsonStream(
            self._intake, skeleton_bytes=limits.skeleton_bytes, nesting_depth=limits.nesting_depth
        )
        self._digest = hashlib.sha256()

    async def receive(self, stream: AsyncIterator[bytes], content_length: int | None) -> None:
        """Takes in every byte of the stream, within the limits of time and size."""
        limits = self._limits
        now = asyncio.get_running_loop().time
        last_moment = now() + limits.total_seconds
        received = 0
        chunks: list[bytes] = []
        gathered = 0
        try:
            async with asyncio.timeout(min(limits.stall_seconds, limits.total_seconds)) as timer:
                async for chunk in stream:
                    if not chunk:
                        continue
                    received += len(chunk)
                    if received > limits.body_bytes:
                        raise _too_large(limits)
                    if content_length is not None and received > content_length:
                        raise InvalidRequest(
                            f"The body is longer than the {content_length} bytes of its "
                            "Content-Length."
                        )
                    chunks.append(chunk)
                    gathered += len(chunk)
                    if gathered >= _GATHERED:
                        await self._take(b"".join(chunks))
                        chunks.clear()
                        gathered = 0
                    if received != content_length:
                        timer.reschedule(min(now() + limits.stall_seconds, last_moment))
        except TimeoutError:
            if timer.expired():
                raise BodyStalled from None
            raise
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
        """What arrived, once it is parsed and checked."""
        skeleton = self._json.finish()
        if len(skeleton) < _ASIDE_FROM:
            described = _described(skeleton)
        else:
            described = await _aside(_described, skeleton)
        if isinstance(described, ZipUpload):
            contents = await self._unpacked(described)
        elif len(skeleton) < _ASIDE_FROM:
            contents = _by_path(described, self._intake.contents, self._limits)
        else:
            contents = await _aside(_by_path, described, self._intake.contents, self._limits)
        return ReceivedBody(
            skeleton=skeleton,
            digest=self._digest.hexdigest(),
            upload=Upload(contents, self._spool),
        )

    async def _unpacked(self, described: ZipUpload) -> dict[str, Content]:
        """The archive's files; no thread works on them any more when this returns or raises."""
        stopped = threading.Event()
        work = _WORKERS.submit(self._unpack, stopped)
        try:
            return await asyncio.shield(asyncio.wrap_future(work))
        except UploadInvalid as error:
            error.path = error.path or described.filename
            raise
        except asyncio.CancelledError:
            stopped.set()
            if not work.cancel():
                await asyncio.gather(asyncio.wrap_future(work), return_exceptions=True)
            raise

    def _unpack(self, stopped: threading.Event) -> dict[str, Content]:
        (archive,) = self._intake.contents
        if archive is None:
            raise UploadInvalid(_NOT_BASE64)
        if archive.file is None or archive.shared:
            contents = self._files_in(BytesIO(archive.read(archive.size)), stopped)
        else:
            with archive.file.open("rb") as file:
                contents = self._files_in(file, stopped)
        self._spool.discard(archive)
        return contents

    def _files_in(self, archive: BinaryIO, stopped: threading.Event) -> dict[str, Content]:
        return unpack(archive, self._spool, self._limits, stopped.is_set)


async def _aside(work: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """What `work` gives, from a worker thread."""
    call = partial(work, *arguments, **named)
    return await asyncio.get_running_loop().run_in_executor(_WORKERS, call)


def _described(skeleton: bytes) -> FilesUpload | ZipUpload:
    """What the skeleton uploads, if it is strict JSON and no object has a key twice."""
    try:
        document = msgspec.json.decode(skeleton)
        if _may_repeat_keys(skeleton, document):
            _DISTINCT.decode(skeleton.decode())
    except msgspec.DecodeError as error:
        # The position is the skeleton's, not the body's.
        raise not_json(_POSITION.sub("", str(error)).removeprefix("JSON is malformed: ")) from None
    except UnicodeDecodeError:
        raise not_json("it is not UTF-8") from None
    return read_description(document)


def _may_repeat_keys(skeleton: bytes, document: object) -> bool:
    """False only when `document` kept every string of the skeleton, so that no key was dropped.

    Without escapes each string has two quotation marks, and nothing else has any. To count them
    costs a tenth of a parser that reports keys, which is left for the skeleton that has escapes.
    """
    if b"\\" in skeleton:
        return True
    return skeleton.count(b'"') != msgspec.json.encode(document).count(b'"')


def _distinct(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        for key, _ in members:
            if key not in found:
                raise InvalidField("body", f"has the key {key[:64]!r} twice in one object")
            del found[key]
    return found


_DISTINCT = json.JSONDecoder(object_pairs_hook=_distinct)


def _by_path(
    described: FilesUpload, contents: list[Content | None], limits: UploadLimits
) -> dict[str, Content]:
    paths = PathSet(limits)
    kept = {}
    for path, content in zip(described.paths, contents, strict=True):
        paths.add_file(path)
        if content is None:
            raise UploadInvalid(_NOT_BASE64, path=path)
        if not is_clutter(path):
            kept[path] = content
    if not kept:
        raise InvalidField("upload.files", "holds no file of an app")
    return kept

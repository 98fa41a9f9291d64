"""Bodies to upload, and a second opinion on what they hold."""

import asyncio
import base64
import io
import json
import zipfile
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from moorage.uploads.reader import ReceivedBody, read_upload
from moorage.uploads.request import Parser
from moorage.uploads.room import UploadLimits
from support.clients.parsing_in_place import InPlace


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def document(files: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    pairs = files.items() if isinstance(files, Mapping) else files
    listed = [{"path": path, "content": b64(content)} for path, content in pairs]
    return {"uniqueName": "hello", "upload": {"type": "files", "files": listed}}


def files_body(files: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    return json.dumps(document(files)).encode()


def zip_body(archive: bytes, filename: str | None = "app.zip") -> bytes:
    upload = {"type": "zip", "data": b64(archive), "filename": filename}
    return json.dumps({"uniqueName": "hello", "upload": upload}).encode()


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of always the same bytes: the time of day could be any letter in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o40775 << 16 | 0x10 if name.endswith("/") else 0o600 << 16
            archive.writestr(entry, content, compress_type=method)
    return buffer.getvalue()


async def stream(body: bytes, *, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
    yield b""  # as ASGI servers end a body


async def receive(
    body: bytes,
    spool_dir: Path,
    *,
    limits: UploadLimits | None = None,
    size: int = 65_536,
    parser: Parser | None = None,
) -> ReceivedBody:
    return await read_upload(
        stream(body, size=size),
        content_length=len(body),
        limits=limits or UploadLimits(),
        spool_dir=spool_dir,
        parser=parser or InPlace(),
    )


def received(
    body: bytes, spool_dir: Path, *, limits: UploadLimits | None = None, size: int = 65_536
) -> ReceivedBody:
    return asyncio.run(receive(body, spool_dir, limits=limits, size=size))


def contents(got: ReceivedBody) -> dict[str, bytes]:
    tree = got.upload
    return {path: tree.read(path, limit=tree.size(path) + 1) for path in tree.paths}

"""Parses a body after it has arrived: its fields, its paths, the files of its archive.

The time and memory of these parsers grow with the input, which strangers send. So a gateway runs
them in a child process (`moorage.parsers`); `InPlace` runs them in this one.
"""

import json
import math
import os
import re
from io import BytesIO
from typing import Any, NamedTuple, Protocol

import msgspec

from moorage.errors import InvalidField, UploadInvalid
from moorage.misplaced_hash import MisplacedHash
from moorage.uploads.description import (
    ExportUpload,
    FilesUpload,
    StoredUpload,
    read_description,
)
from moorage.uploads.json_stream import not_json
from moorage.uploads.limits import UploadLimits
from moorage.uploads.paths import PathSet, is_clutter
from moorage.uploads.request import DeployRequest, deploy_request, hash_in
from moorage.uploads.spool import Content, SpoolFile
from moorage.uploads.unpacking import Unpacked, check_volume, unpack, unpack_tree

NOT_BASE64 = "is not base64: the standard alphabet, with padding"


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


DOCUMENTS = msgspec.json.Decoder(float_hook=_number)
"""Decodes JSON of strangers; by itself it takes 12 µs for a number such as 1.5e300, Python 0.2."""

_POSITION = re.compile(r" \(byte \d+\)$")


class Skeleton(NamedTuple):
    """A body's JSON with `""` for each file content.

    `damaged` is the index of the first content that was not base64, from 0, in the body's order.
    """

    text: bytes
    damaged: int | None


class Described(NamedTuple):
    """A parsed body, without the contents of its files."""

    paths: list[str | None] | None
    """Each content's path, or None for a file that no app needs; None for an archive."""
    archive_name: str | None
    asked: DeployRequest | InvalidField
    """The request, or its error; errors of the files are raised before this one."""
    stored: str | None = None
    """The SHA-256 of an upload that was stored before; then `paths` says nothing."""
    misplaced: MisplacedHash | None = None
    """A payment's hash in a field that nobody reads."""
    export: str | None = None
    """The SHA-256 of a project's archive; then `paths` says nothing."""


class Parser(Protocol):
    """Parses uploads for `read_upload`."""

    async def describe(self, skeleton: Skeleton, limits: UploadLimits) -> Described:
        """Returns the parsed body. Raises InvalidField, UploadInvalid, and errors of its limits."""
        ...

    async def unpack(
        self, archive: Content, into: SpoolFile, limits: UploadLimits, *, is_tree: bool = False
    ) -> list[Unpacked]:
        """Writes the archive's files into `into` and lists them; `is_tree`: of an export.

        Raises UploadInvalid, OSError, and errors of its limits.
        """
        ...

    async def check_volume(self, descriptor: int, *, offset: int, max_bytes: int) -> None:
        """Checks the volume of an export, which begins at a place of an open file.

        Closes the descriptor. Raises UploadInvalid, OSError, and errors of its limits.
        """
        ...


class InPlace:
    """Parses in this process, and blocks it meanwhile."""

    async def describe(self, skeleton: Skeleton, limits: UploadLimits) -> Described:
        """See `Parser`."""
        return describe(skeleton, limits)

    async def unpack(
        self, archive: Content, into: SpoolFile, limits: UploadLimits, *, is_tree: bool = False
    ) -> list[Unpacked]:
        """See `Parser`."""
        unpacked = unpack_tree if is_tree else unpack
        if archive.file is None:
            return unpacked(BytesIO(archive.data), into.append, limits)
        with os.fdopen(archive.file.opened(os.O_RDONLY), "rb") as file:
            return unpacked(file, into.append, limits)

    async def check_volume(self, descriptor: int, *, offset: int, max_bytes: int) -> None:
        """See `Parser`."""
        with os.fdopen(descriptor, "rb") as file:
            check_volume(file, offset=offset, max_bytes=max_bytes)


def describe(skeleton: Skeleton, limits: UploadLimits) -> Described:
    """Returns the parsed body. It must be strict JSON without repeated keys or unsafe paths."""
    document = _document(skeleton.text)
    upload = read_description(document)
    if isinstance(upload, StoredUpload):
        return Described(None, None, _asked(document), upload.sha256, hash_in(document))
    if isinstance(upload, ExportUpload):
        misplaced = hash_in(document)
        return Described(None, None, _asked(document), None, misplaced, upload.sha256)
    paths, archive_name = None, None
    if isinstance(upload, FilesUpload):
        paths = _checked(upload.paths, skeleton.damaged, limits)
    else:
        archive_name = upload.filename
        if skeleton.damaged is not None:
            raise UploadInvalid(NOT_BASE64, path=archive_name)
    return Described(paths, archive_name, _asked(document), misplaced=hash_in(document))


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = DOCUMENTS.decode(text)
        if _may_repeat_keys(text, document):
            _DISTINCT.decode(text.decode())
    except msgspec.DecodeError as error:
        # The position is the skeleton's, not the body's.
        raise not_json(_POSITION.sub("", str(error)).removeprefix("JSON is malformed: ")) from None
    except UnicodeDecodeError:
        raise not_json("it is not UTF-8") from None
    if not isinstance(document, dict):
        raise InvalidField("body", "must be a JSON object")
    return document


def _may_repeat_keys(text: bytes, document: object) -> bool:
    """Returns False only if `document` has every string of the skeleton, so no key was dropped.

    Without escapes, each string has two quotation marks, and nothing else has any. Counting them
    costs a tenth of a parser that reports keys, which only a skeleton with escapes needs.
    """
    if b"\\" in text:
        return True
    return text.count(b'"') != msgspec.json.encode(document).count(b'"')


def _distinct(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        for key, _ in members:
            if key not in found:
                raise InvalidField("body", f"has the key {key[:64]!r} twice in one object")
            del found[key]
    return found


_DISTINCT = json.JSONDecoder(object_pairs_hook=_distinct)


def _checked(paths: list[str], damaged: int | None, limits: UploadLimits) -> list[str | None]:
    known = PathSet(limits)
    kept: list[str | None] = []
    for index, path in enumerate(paths):
        known.add_file(path)
        if index == damaged:
            raise UploadInvalid(NOT_BASE64, path=path)
        kept.append(None if is_clutter(path) else path)
    if all(path is None for path in kept):
        raise InvalidField("upload.files", "holds no file of an app")
    return kept


def _asked(document: dict[str, Any]) -> DeployRequest | InvalidField:
    try:
        return deploy_request(document)
    except InvalidField as error:
        return error

"""Parses a body after it has arrived: its fields, its paths, the files of its archive.

The time and memory of these parsers grow with the input, which strangers send. So a gateway runs
them in a child process (`moorage.parsers`); `InPlace` runs them in this one.
"""

import json
import math
import os
import re
from io import BytesIO
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from moorage.errors import BodyTooLarge, InvalidField, UploadInvalid
from moorage.misplaced_hash import MisplacedHash
from moorage.uploads.request import (
    DeployRequest,
    ExportUpload,
    FilesUpload,
    StoredUpload,
    deploy_request,
    hash_in,
    read_description,
)
from moorage.uploads.room import Content, SpoolFile, UploadLimits
from moorage.uploads.unpacking import (
    PathSet,
    Unpacked,
    check_volume,
    is_clutter,
    unpack,
    unpack_tree,
)

_STEP = re.compile(
    # What can be skipped: punctuation, numbers, and strings that are none of our keys.
    rb'[^"\[\]{}]*+(?:"(?!(?:upload|files|content|data)")[^"\\]*+"[^"\[\]{}]*+)*+'
    rb"(?:([\[{])|([\]}]++)"
    rb'|"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t\n\r]*+(:[ \t\n\r]*+)?+'  # a string; with a colon, a key
    rb'|(")'  # a string whose end has not arrived
    rb"|\Z)",
    re.DOTALL,
)
_OPENING, _CLOSING, _STRING, _KEY, _UNFINISHED = 1, 2, 3, 4, 5
_TEXT_INSIDE = re.compile(rb'[^"\\]*+(?:\\(?:u[^"\\]{4}|[^u])[^"\\]*+)*+', re.DOTALL)
_MAX_ESCAPE_BYTES = len(rb"\u0000")
_QUOTE = 0x22


class TextSink(Protocol):
    """Takes the strings that are not kept in the skeleton, one after the other."""

    def begin(self) -> None:
        """Begins a text."""
        ...

    def write(self, piece: bytes) -> None:
        """Continues the text; `piece` is raw JSON and does not end inside an escape sequence."""
        ...

    def end(self) -> None:
        """Ends the text."""
        ...


class _Place:
    """A path in the document where an object, an array or a streamed text is expected."""

    __slots__ = ("element", "members", "opening")

    def __init__(
        self,
        opening: bytes,
        *,
        members: "dict[bytes, _Place] | None" = None,
        element: "_Place | None" = None,
    ) -> None:
        self.opening = ord(opening)
        self.members = members or {}
        self.element = element


_TEXT: Final = _Place(b'"')
_FILE: Final = _Place(b"{", members={b"content": _TEXT})
_FILES: Final = _Place(b"[", element=_FILE)
_UPLOAD: Final = _Place(b"{", members={b"files": _FILES, b"data": _TEXT})
_BODY: Final = _Place(b"{", members={b"upload": _UPLOAD})
_ELSEWHERE: Final = _Place(b"{")


class JsonStream:
    """Splits one body: `feed` it pieces of any size, then `finish`.

    Raises InvalidField("body", …) for too deep nesting, too many objects and arrays, and some
    invalid JSON (the parser of the skeleton has to find the rest); BodyTooLarge for a skeleton
    larger than `skeleton_bytes`. Memory: the skeleton and a piece.
    """

    def __init__(
        self, sink: TextSink, *, skeleton_bytes: int, nesting_depth: int, containers: int
    ) -> None:
        self._sink = sink
        self._skeleton_bytes = skeleton_bytes
        self._nesting_depth = nesting_depth
        self._containers = containers
        self._opened = 0
        self._skeleton = bytearray()
        self._held = b""
        self._in_text = False
        self._place = _ELSEWHERE
        self._places = [_ELSEWHERE]  # outermost first
        self._expected: _Place | None = _BODY  # what the next bracket opens

    def feed(self, piece: bytes) -> None:
        """Processes the next bytes of the body."""
        buffer = self._held + piece if self._held else piece
        size = len(buffer)
        position = copied = 0
        while position < size:
            if self._in_text:
                position = copied = self._pass_text(buffer, position)
                if position == size or buffer[position] != _QUOTE:
                    break
                position += 1  # the closing quote belongs to the skeleton
            position = self._scan(buffer, position)
            self._skeleton += buffer[copied:position]
            copied = position
            if not self._in_text:
                break
        self._held = buffer[position:]
        if len(self._skeleton) + len(self._held) > self._skeleton_bytes:
            raise BodyTooLarge(
                "The request body is too large: besides file contents it may hold at most "
                f"{self._skeleton_bytes} bytes."
            )

    def finish(self) -> bytes:
        """Returns the skeleton, after the last `feed`. It must still be parsed strictly."""
        if self._in_text:
            raise not_json("it ends inside a string")
        return bytes(self._skeleton) + self._held

    def _scan(self, buffer: bytes, position: int) -> int:
        """Follows the structure from `position` on; returns where it stopped.

        That is after the opening quote of a text, before an incomplete token, or at the end.
        """
        size = len(buffer)
        for step in _STEP.finditer(buffer, position):
            kind = step.lastindex
            if kind == _OPENING:
                self._open()
            elif kind == _CLOSING:
                self._close(step[_CLOSING])
            elif kind is None:
                return size
            elif kind == _UNFINISHED:
                return step.start(_UNFINISHED)
            elif (end := step.end()) == size:
                return step.start(_STRING) - 1
            elif kind == _KEY and self._begins_text(step[_STRING], buffer[end]):
                return end + 1
        return size

    def _begins_text(self, key: bytes, value: int) -> bool:
        """Begins a text if `key` and its value's first byte are those of one; returns whether."""
        if b"\\" in key:
            key = _unescaped(key)
        place = self._place.members.get(key)
        if place is None or place.opening != value:
            return False
        if place is not _TEXT:
            self._expected = place
            return False
        self._in_text = True
        self._sink.begin()
        return True

    def _open(self) -> None:
        self._opened += 1
        if self._opened > self._containers:
            raise InvalidField("body", f"holds more than {self._containers} objects and arrays")
        place = self._expected or _ELSEWHERE
        self._places.append(place)
        self._place = place
        self._expected = place.element
        if len(self._places) > self._nesting_depth + 1:
            raise InvalidField("body", f"is nested deeper than {self._nesting_depth} levels")

    def _close(self, brackets: bytes) -> None:
        places = self._places
        if len(brackets) >= len(places):
            raise not_json("it closes more than it opens")
        del places[-len(brackets) :]
        self._place = place = places[-1]
        self._expected = place.element

    def _pass_text(self, buffer: bytes, position: int) -> int:
        """Passes on the text from `position`; returns its closing quote, or where to continue."""
        end = buffer.find(b'"', position)
        piece = buffer[position:] if end < 0 else buffer[position:end]
        if b"\\" in piece:
            end = self._end_of_escaped(buffer, position)
            piece = buffer[position:end]
        elif end < 0:
            end = len(buffer)
        if piece:
            self._sink.write(piece)
        if end < len(buffer) and buffer[end] == _QUOTE:
            self._in_text = False
            self._sink.end()
        return end

    def _end_of_escaped(self, buffer: bytes, position: int) -> int:
        """Returns where a text with escapes ends, or where an escape is still incomplete."""
        inside = _TEXT_INSIDE.match(buffer, position)
        end = inside.end() if inside else position
        if len(buffer) - end >= _MAX_ESCAPE_BYTES and buffer[end] != _QUOTE:
            raise not_json("a \\u escape needs four hexadecimal digits")
        return end


def not_json(problem: str) -> InvalidField:
    """Returns the error for a body that is not a JSON document."""
    return InvalidField("body", f"is not valid JSON: {problem}")


def _unescaped(key: bytes) -> bytes:
    try:
        return msgspec.json.decode(b'"%b"' % key, type=str).encode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise not_json("a key holds an invalid escape") from None


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

"""Splits a deploy's JSON body, while it arrives, into file contents and the rest.

The strings at `upload.files[*].content` and `upload.data` go to a `TextSink` in pieces. Everything
else is collected, with `""` in their place. This skeleton is valid JSON exactly when the body is,
as only strings were replaced, so parsing the skeleton strictly checks the whole body. This module
only has to find where strings begin and end, and at which path they are.
"""

import re
from typing import Final, Protocol

import msgspec

from moorage.errors import BodyTooLarge, InvalidField

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

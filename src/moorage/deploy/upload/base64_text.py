"""Base64 as it stands inside a JSON string, decoded piece by piece (RFC 4648 §4)."""

import re
from binascii import Error, a2b_base64

_ASCII_ESCAPE = re.compile(rb"\\u00([0-9a-fA-F]{2})")


class InvalidBase64(ValueError):
    """The text is not standard base64 with padding."""


class Base64Text:
    """Decodes one base64 text after another, given in pieces of JSON strings' raw insides.

    The standard alphabet with correct padding; line breaks (CR, LF) are passed over. A piece may
    end anywhere but inside an escape sequence. Raises InvalidBase64 on anything else.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._padded = False

    def decode(self, piece: bytes) -> bytes:
        """The bytes that `piece` completes."""
        if b"\\" in piece:
            piece = _unescaped(piece)
        if self._rest:
            piece = self._rest + piece
        if self._padded and piece:
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
        """Ends the text. Raises InvalidBase64 when its last group is not whole."""
        if self._rest:
            raise InvalidBase64
        self._padded = False


def _unescaped(piece: bytes) -> bytes:
    """`piece` with the escapes that base64 can hold replaced, line breaks by nothing."""
    if b"\\\\" in piece:  # an escaped backslash; without one, each backslash begins its own escape
        raise InvalidBase64
    piece = piece.replace(b"\\n", b"").replace(b"\\r", b"").replace(b"\\/", b"/")
    if b"\\u" in piece:
        piece = _ASCII_ESCAPE.sub(_character, piece)
    if b"\\" in piece:
        raise InvalidBase64
    return piece


def _character(escape: re.Match[bytes]) -> bytes:
    code = int(escape[1], 16)
    return b"" if code in b"\r\n" else bytes((code,))

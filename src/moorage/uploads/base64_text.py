"""Base64 as it stands inside a JSON string, decoded piece by piece (RFC 4648 §4)."""

from binascii import Error, a2b_base64

import msgspec


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
    """`piece` with its escapes replaced, line breaks by nothing; at once, however many it has."""
    try:
        text = msgspec.json.decode(b'"%b"' % piece, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidBase64 from None
    return text.encode().replace(b"\n", b"").replace(b"\r", b"")

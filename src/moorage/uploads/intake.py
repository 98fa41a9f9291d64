"""Decodes the streamed strings of a body from base64 (RFC 4648 §4) into a spool."""

import hashlib
from binascii import Error, a2b_base64

import msgspec

from moorage.errors import UploadInvalid
from moorage.uploads.limits import UploadLimits
from moorage.uploads.spool import Content, Spool


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

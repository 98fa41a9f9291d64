"""The streamed strings of a body, decoded from base64 into a spool."""

import hashlib

from moorage.errors import UploadInvalid
from moorage.uploads.base64_text import Base64Text, InvalidBase64
from moorage.uploads.limits import UploadLimits
from moorage.uploads.spool import Content, Spool


class Intake:
    """The `TextSink` of one upload: its contents, in the order of the body.

    A content that is not base64 is `None`, since only the end of the body may tell its path. What
    follows it is `None` too, as nothing of the upload will be used.
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
        """The first content that is not base64."""
        return self.contents.index(None) if self._refused else None

    def digest(self) -> bytes:
        """SHA-256 over all contents and their lengths."""
        sizes = ",".join(str(content.size) for content in self.contents if content is not None)
        self._digest.update(sizes.encode())
        return self._digest.digest()

    def begin(self) -> None:
        """Raises UploadInvalid when there are too many."""
        if len(self.contents) >= self._files:
            raise UploadInvalid(f"holds more than {self._files} files")

    def write(self, piece: bytes) -> None:
        """Decodes `piece` and keeps what it gives."""
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
        """Closes the content."""
        try:
            self._text.finish()
        except InvalidBase64:
            self._refused = True
        self.contents.append(None if self._refused else self._spool.finish())

"""A document as it is served: the same bytes for everybody, which clients may keep."""

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_REFUSED = re.compile(r"\s*q=0(\.0{0,3})?\s*")


@dataclass(frozen=True)
class Document:
    """An ASGI app that answers GET and HEAD with the same bytes; 304 to who has them.

    With `packs`, clients that accept gzip get it; it is made once.
    """

    body: bytes
    media_type: str
    more_headers: tuple[tuple[str, str], ...] = ()
    max_age_seconds: int = 300
    packs: bool = False

    @cached_property
    def etag(self) -> str:
        """The validator of these bytes."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    @cached_property
    def packed(self) -> bytes:
        """The same bytes, in gzip."""
        return gzip.compress(self.body, mtime=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        asked = Headers(scope=scope)
        packed = self.packs and takes_gzip(asked.get("accept-encoding", ""))
        etag = f'"{self.etag[1:-1]}-gzip"' if packed else self.etag
        headers = {
            "Cache-Control": f"max-age={self.max_age_seconds}",
            "ETag": etag,
            "X-Content-Type-Options": "nosniff",
            **dict(self.more_headers),
        }
        if self.packs:
            varies = headers.get("Vary")
            headers["Vary"] = f"{varies}, Accept-Encoding" if varies else "Accept-Encoding"
        if packed:
            headers["Content-Encoding"] = "gzip"
        if etag in asked.get("if-none-match", ""):
            response = Response(status_code=304, headers=headers)
        else:
            body = self.packed if packed else self.body
            response = Response(body, headers=headers, media_type=self.media_type)
        await response(scope, receive, send)


def takes_gzip(accepted: str) -> bool:
    """Whether a value of Accept-Encoding accepts gzip (RFC 9110, 12.5.3)."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() == "gzip":
            return _REFUSED.fullmatch(weight) is None
    return False

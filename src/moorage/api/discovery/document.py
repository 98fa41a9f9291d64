"""A document as it is served: the same bytes for everybody, which clients may keep."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


@dataclass(frozen=True)
class Document:
    """An ASGI app that answers GET and HEAD with the same bytes; 304 to who has them."""

    body: bytes
    media_type: str
    more_headers: tuple[tuple[str, str], ...] = ()
    max_age_seconds: int = 300

    @cached_property
    def etag(self) -> str:
        """The validator of these bytes."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        headers = {
            "Cache-Control": f"max-age={self.max_age_seconds}",
            "ETag": self.etag,
            "X-Content-Type-Options": "nosniff",
            **dict(self.more_headers),
        }
        if self.etag in Headers(scope=scope).get("if-none-match", ""):
            response = Response(status_code=304, headers=headers)
        else:
            response = Response(self.body, headers=headers, media_type=self.media_type)
        await response(scope, receive, send)

"""Stores uploads at the gateway, so that their bytes travel once for quote, 402 and payment."""

from collections.abc import Awaitable, Callable
from hashlib import sha256

import msgspec

from moorage.sdk.errors import ClientError, GatewayError
from moorage.sdk.request import DeployRequest, Stored

_LACKING = frozenset({404, 405})  # of a gateway that knows no such endpoint


class StoredUploads:
    """What this client has stored. An upload that can't be stored goes along with its request."""

    def __init__(self, put: Callable[[str, bytes], Awaitable[object]]) -> None:
        """`put` stores a body under its SHA-256 in hex. It raises ClientError."""
        self._put = put
        self._known: set[str] = set()
        self._is_lacking = False

    async def named(self, request: DeployRequest) -> DeployRequest:
        """Returns the request with its upload stored and named, or as it is."""
        if self._is_lacking or isinstance(request.upload, Stored):
            return request
        content = msgspec.json.encode(request.upload)
        digest = sha256(content).hexdigest()
        if digest not in self._known:
            try:
                await self._put(digest, content)
            except ClientError as error:  # the request itself tells what is wrong
                self._is_lacking = isinstance(error, GatewayError) and error.status in _LACKING
                return request
            self._known.add(digest)
        return msgspec.structs.replace(request, upload=Stored(sha256=digest))

    def forget(self) -> None:
        """Has uploads stored again: the gateway keeps them no longer."""
        self._known.clear()

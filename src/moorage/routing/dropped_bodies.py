"""Reads and discards the bodies of requests that get a page.

Many clients read no answer before they have sent everything. Slow ones must not take every
connection of the pages: beyond these limits the answer comes at once.
"""

import asyncio
import contextlib
from collections import Counter

from starlette.requests import Request

from moorage.routing.waking import Visitor

MAX_BODY_BYTES = 128 * 1024 * 1024
MAX_BODY_SECONDS = 30.0
MAX_BODIES = 500
MAX_BODIES_PER_VISITOR = 32


class DroppedBodies:
    """Discards request bodies; counts how many it is reading, in all and per visitor."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._of_visitor: Counter[str | None] = Counter()

    async def drop(self, request: Request) -> None:
        """Reads and discards the request's body, within the limits. Raises ClientDisconnect."""
        visitor = self._visitor(request.headers.get("x-real-ip", ""))
        if self._of_visitor.total() >= MAX_BODIES:
            return
        if visitor is not None and self._of_visitor[visitor] >= MAX_BODIES_PER_VISITOR:
            return
        self._of_visitor[visitor] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAX_BODY_SECONDS):
                    await _read(request)
        finally:
            self._of_visitor[visitor] -= 1
            if not self._of_visitor[visitor]:
                del self._of_visitor[visitor]


async def _read(request: Request) -> None:
    dropped = 0
    async for chunk in request.stream():
        dropped += len(chunk)
        if dropped > MAX_BODY_BYTES:
            return

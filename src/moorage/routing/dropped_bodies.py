"""Request bodies that nobody wants: read to their ends and dropped, for a while and in turn.

Many clients read no answer before they have sent everything. Those who send slowly must not have
every connection of the pages, though: beyond these bounds the answer comes at once.
"""

import asyncio
import contextlib
from collections import Counter

from starlette.requests import Request

from moorage.routing.waking import Visitor

MOST_BODY_BYTES = 128 * 1024 * 1024
MOST_BODY_SECONDS = 30.0
MOST_BODIES = 500
MOST_BODIES_PER_VISITOR = 32


class DroppedBodies:
    """The bodies that are being read now."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._of_visitor: Counter[str | None] = Counter()

    async def drop(self, request: Request) -> None:
        """Read the request's body, within the bounds. Raises ClientDisconnect."""
        visitor = self._visitor(request)
        if self._of_visitor.total() >= MOST_BODIES:
            return
        if visitor is not None and self._of_visitor[visitor] >= MOST_BODIES_PER_VISITOR:
            return
        self._of_visitor[visitor] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOST_BODY_SECONDS):
                    await _read(request)
        finally:
            self._of_visitor[visitor] -= 1
            if not self._of_visitor[visitor]:
                del self._of_visitor[visitor]


async def _read(request: Request) -> None:
    dropped = 0
    async for chunk in request.stream():
        dropped += len(chunk)
        if dropped > MOST_BODY_BYTES:
            return

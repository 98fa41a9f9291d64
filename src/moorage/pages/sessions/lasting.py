"""Answers that last long, such as a followed log: they end when their session does."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from moorage.errors import DatabaseUnavailable

ASK_SECONDS = 2.0
"""How often is asked whether the session lasts."""


class Lasting(Response):
    """An answer that is cut off once its session was ended, its link revoked, or either expired."""

    def __init__(
        self,
        answer: Response,
        lasts: Callable[[], Awaitable[bool]],
        *,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        super().__init__()
        self._answer = answer
        self._lasts = lasts
        self._ask_seconds = ask_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer, as far as it may be sent."""
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        sending = asyncio.ensure_future(self._answer(scope, receive, noted))
        try:
            while not (await asyncio.wait((sending,), timeout=self._ask_seconds))[0]:
                if has_begun and not await self._still_lasts():
                    break
        finally:
            sending.cancel()
            await asyncio.wait((sending,))
        if sending.cancelled():
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            sending.result()

    async def _still_lasts(self) -> bool:
        try:
            return await self._lasts()
        except DatabaseUnavailable:
            return True  # it is not known to have ended

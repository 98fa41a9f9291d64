"""A receiver of webhooks: a real HTTP server on loopback that does as a test says."""

import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """An HTTP server that keeps what it is sent, and answers as it is told."""

    port: int = 0
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: Answer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    @property
    def sequences(self) -> list[int]:
        return [document["sequence"] for document in self.documents]

    async def receive(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append((headers, await request.read()))
        return web.Response() if self.answer is None else await self.answer(request)


class receiving:  # noqa: N801 (reads as `async with receiving() as receiver`)
    """A Receiver on a port of its own; what it still does for a sender ends with its connection."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls

    async def __aenter__(self) -> Receiver:
        receiver = Receiver()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", receiver.receive)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        receiver.port = self.runner.addresses[0][1]
        return receiver

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

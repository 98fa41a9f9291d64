"""A proxy before a node, which counts, alters, delays or refuses."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

import aiohttp
from aiohttp import web

Alter = Callable[[str, Any], Any]
Rephrase = Callable[[dict[str, Any]], dict[str, Any]]
Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RpcProxy:
    """Serves on a free port of `host` within `async with`.

    `rephrase(call)` changes what the node is asked, `alter(method, result)` each call's result;
    `respond` answers in the node's place, unless it is None.
    """

    def __init__(self, upstream: str, *, host: str = "127.0.0.1") -> None:
        self._upstream = upstream
        self._host = host
        self.behave()
        self.requests = 0  # HTTP requests, however many calls each holds
        self.asked = asyncio.Event()

    def behave(self) -> None:
        """Pass everything on as it is."""
        self.rephrase: Rephrase = lambda call: call
        self.alter: Alter = lambda _method, result: result
        self.respond: Respond | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, 0).start()
        self._session = aiohttp.ClientSession()
        self.url = f"http://{self._host}:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        self.asked.set()
        if self.respond is not None:
            return await self.respond(request)
        return await self.forward(request)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """The node's answer, altered."""
        asked = json.loads(await request.read())
        calls = [self.rephrase(call) for call in (asked if isinstance(asked, list) else [asked])]
        async with self._session.post(self._upstream, json=calls) as response:
            answers = list(map(self._altered, calls, await response.json()))
        return web.json_response(answers if isinstance(asked, list) else answers[0])

    def _altered(self, call: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if "result" not in answer:
            return answer
        return {**answer, "result": self.alter(call["method"], answer["result"])}

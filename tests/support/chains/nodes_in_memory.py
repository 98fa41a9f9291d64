"""Nodes of one chain in memory, each at a URL, asked by the product's own client.

What a node answers may be a lie: `lies[url]` gets the method, its parameters and the honest result.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import msgspec

from moorage.chains.rpc import RpcClient
from moorage.clock import Clock
from support.chains.chain_in_memory import ChainInMemory

HONEST, LIAR = "http://honest.example/", "http://liar.example/"

Lie = Callable[[str, Sequence[Any], Any], Any]


class Silent(Exception):
    """A node does not answer."""


class Refused(Exception):
    """A node answers a call with an error."""


class _Answer:
    """An HTTP response, and its content."""

    status = 200

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.content = self

    async def read(self, _: int) -> bytes:
        body, self._body = self._body, b""
        return body


class NodesInMemory:
    """Stands in for the HTTP session of a client of `chain`."""

    def __init__(self, chain: ChainInMemory) -> None:
        self.chain = chain
        self.lies: dict[str, Lie] = {}
        self.asked: list[tuple[str, list[str]]] = []  # URL and methods of each round trip

    def client(self, clock: Clock, *urls: str) -> RpcClient:
        """A client of these URLs; of both nodes without any."""
        chain = msgspec.structs.replace(self.chain.chain, rpc_urls=urls or (HONEST, LIAR))
        return RpcClient(chain, session=cast("aiohttp.ClientSession", self), clock=clock)

    def calls(self, method: str) -> int:
        """How often nodes were asked this."""
        return sum(methods.count(method) for _, methods in self.asked)

    @asynccontextmanager
    async def post(self, url: str, *, data: bytes, **_: object) -> AsyncIterator[_Answer]:
        body = msgspec.json.decode(data)
        asked = body if isinstance(body, list) else [body]
        self.asked.append((url, [call["method"] for call in asked]))
        try:
            answers = [await self._answer(url, call) for call in asked]
        except Silent as silence:
            raise aiohttp.ClientConnectionError from silence
        yield _Answer(msgspec.json.encode(answers if isinstance(body, list) else answers[0]))

    async def _answer(self, url: str, call: dict[str, Any]) -> dict[str, Any]:
        method, params = call["method"], call["params"]
        if method == "eth_chainId":
            truth: Any = hex(self.chain.chain.chain_id)
        else:
            truth = await self.chain.call(method, params)
        try:
            result = self.lies.get(url, _truth)(method, params, truth)
        except Refused:
            return {"id": call["id"], "error": {"code": -32000, "message": "no"}}
        return {"id": call["id"], "result": result}


def _truth(_method: str, _params: Sequence[Any], result: Any) -> Any:
    return result

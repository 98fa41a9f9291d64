"""An agent that knows tools alone: a stock client of the protocol around either server."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx2
import jsonschema
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, RequestParamsMeta

from support.gateway.gateway_fixture import MOORAGE


class Tools:
    """A session; every answer is checked against what its tool says it gives."""

    def __init__(self, session: ClientSession, gives: dict[str, Any]) -> None:
        self.session = session
        self.common: dict[str, Any] = {}  # what each call takes besides
        self._gives = gives

    async def ok(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A call that does what it is to; its structured answer."""
        is_error, body = await self.call(tool, **arguments)
        assert not is_error, body
        jsonschema.validate(body, self._gives[tool])
        return body

    async def refused(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A call that is refused; what is said of it."""
        is_error, body = await self.call(tool, **arguments)
        assert is_error, body
        return body

    async def call(self, tool: str, **arguments: Any) -> tuple[bool, dict[str, Any]]:
        """Whether a call failed, and its structured answer."""
        result = await self.result(tool, **arguments)
        body = result.structured_content
        assert isinstance(body, dict)
        return result.is_error, body

    async def result(
        self, tool: str, *, meta: dict[str, Any] | None = None, **arguments: Any
    ) -> CallToolResult:
        """All that a call gives."""
        shown = cast("RequestParamsMeta | None", meta)
        return await self.session.call_tool(tool, self.common | arguments, meta=shown)

    async def until_settled(self, project: str, deployment: str) -> dict[str, Any]:
        """Its status once it is ready or failed."""
        while True:
            told = await self.ok("wait_for_deployment", project=project, deployment=deployment)
            if told["status"] != "deploying":
                return told


@asynccontextmanager
async def local_tools(url: str, **environment: str) -> AsyncIterator[Tools]:
    """`moorage mcp` as a process; `environment` without `MOORAGE_`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MOORAGE_")}
    named = {f"MOORAGE_{name.upper()}": value for name, value in environment.items()}
    server = StdioServerParameters(
        command=MOORAGE,
        args=["mcp"],
        env=clean | {"MOORAGE_GATEWAY": url} | named,
        cwd=Path(sys.prefix),
    )
    async with (
        stdio_client(server) as (incoming, outgoing),
        ClientSession(incoming, outgoing) as session,
    ):
        await session.initialize()
        yield await tools_of(session)


class _Signing(httpx2.Auth):
    """Adds to each HTTP request what `sign` gives."""

    def __init__(self, sign: Callable[[], dict[str, str]]) -> None:
        self._sign = sign

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers.update(self._sign())
        yield request


@asynccontextmanager
async def remote_tools(
    url: str, *, sign: Callable[[], dict[str, str]] = dict
) -> AsyncIterator[Tools]:
    """The gateway's own server."""
    async with (
        httpx2.AsyncClient(auth=_Signing(sign), timeout=300) as http,
        streamable_http_client(f"{url}/mcp", http_client=http) as (incoming, outgoing),
        ClientSession(incoming, outgoing) as session,
    ):
        await session.initialize()
        yield await tools_of(session)


async def tools_of(session: ClientSession) -> Tools:
    """Lists what there is, as every client does first."""
    listed = (await session.list_tools()).tools
    return Tools(session, {tool.name: tool.output_schema for tool in listed})

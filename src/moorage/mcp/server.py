"""A server of the protocol around the tools: lists them, reads their arguments, writes answers."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import mcp_types as types
import msgspec
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from moorage import __version__
from moorage.errors import InvalidRequest
from moorage.mcp.tools import (
    INSTRUCTIONS,
    Arguments,
    ArgumentsInvalid,
    Outcome,
    Tool,
    read_arguments,
    refused,
)
from moorage.money import json_of

NAME = "moorage"
TITLE = "Moorage"

_LISTS_ARE_FRESH_MS = 3_600_000

log = logging.getLogger(__name__)


class ToolCall(msgspec.Struct, frozen=True):
    """A call: `arguments` are of the tool's own type, `meta` is the client's `_meta`.

    `common` is what it holds beside the tool's own; `request` is the HTTP request that brought it.
    """

    tool: str
    arguments: Arguments
    meta: Mapping[str, Any]
    common: Mapping[str, str] = {}
    request: Any = None


Call = Callable[[ToolCall], Awaitable[Outcome]]
"""Carries a call out. An MCPError that it raises is the answer; another error is a bug."""

ReadsOnly = Callable[[Any], bool]
"""Returns whether the caller of an HTTP request is to have tools that change nothing alone."""

ArgumentsBeside = Callable[[Any], dict[str, Any] | None]
"""Returns the arguments that an HTTP request brought beside its message; None if it has its own."""


def make_server(
    tools: Sequence[Tool],
    call: Call,
    *,
    beside: ArgumentsBeside = lambda _request: None,
    reads_only: ReadsOnly = lambda _request: False,
) -> Server[Any]:
    """Returns a server of `tools`, whose calls `call` carries out."""
    by_name = {tool.name: tool for tool in tools}
    listed = [types.Tool.model_validate(tool.listed()) for tool in tools]
    reading = [each for each in listed if by_name[each.name].hints.reads]

    async def list_tools(context: ServerRequestContext[Any], _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=reading if reads_only(context.request) else listed)

    async def call_tool(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool, shown = by_name.get(params.name), listed
        if reads_only(context.request):
            tool, shown = (tool if tool and tool.hints.reads else None), reading
        if tool is None:
            names = ", ".join(each.name for each in shown)
            raise MCPError(INVALID_PARAMS, f"Unknown tool {params.name[:64]!r}. There are: {names}")
        given = beside(context.request) or params.arguments or {}
        outcome = await _outcome(tool, call, context, params, given)
        body = dict(outcome.body)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=json_of(body).decode())],
            structured_content=body,
            is_error=outcome.is_error,
            _meta=None if outcome.meta is None else dict(outcome.meta),
        )

    public = CacheHint(ttl_ms=_LISTS_ARE_FRESH_MS, scope="public")
    return Server(
        NAME,
        version=__version__,
        title=TITLE,
        instructions=INSTRUCTIONS,
        cache_hints={"tools/list": public, "server/discover": public},
        get_tool_input_schema=lambda name: (
            by_name[name].listed()["inputSchema"] if name in by_name else None
        ),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _outcome(
    tool: Tool,
    call: Call,
    context: ServerRequestContext[Any],
    params: types.CallToolRequestParams,
    given: Mapping[str, Any],
) -> Outcome:
    try:
        own, common = _split(given, tool.common)
        arguments = read_arguments(own, tool.takes)
        return await call(ToolCall(tool.name, arguments, _meta(params), common, context.request))
    except (ArgumentsInvalid, InvalidRequest) as error:
        return refused("arguments_invalid", f"{tool.name}: {error}")
    except MCPError:
        raise
    except Exception:
        log.exception("tool %s failed", tool.name)
        return refused(
            "internal_error",
            "This call failed inside the server, and what came of it is unknown. If it was to pay, "
            "do not pay again: make the same call with the same idempotency_key.",
            retryable=True,
        )


def _split(
    given: Mapping[str, Any], common: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the tool's own arguments, and those common to all. Raises ArgumentsInvalid."""
    own = {name: value for name, value in given.items() if name not in common}
    others = {name: value for name, value in given.items() if name in common}
    if wrong := [name for name, value in others.items() if not isinstance(value, str)]:
        raise ArgumentsInvalid(f"{wrong[0]} must be a string")
    return own, others


def _meta(params: types.CallToolRequestParams) -> dict[str, Any]:
    return dict(params.meta or {})

"""Starts an MCP server over HTTP, where its own start would answer at its standard input.

The transport is an option, a variable, or the argument of `run` of an object of FastMCP: that of
the package `fastmcp`, or of the official SDK, whose settings have the address.
"""

import re
from collections.abc import Iterable, Iterator
from shlex import quote
from typing import NamedTuple

from moorage.planning.python.imports import FILE_LIMIT
from moorage.planning.python.starts import Start
from moorage.planning.reading.folder import Folder

_FILES_LIMIT = 50  # sources that are looked into
_OPTION = re.compile(rb"['\"]--transport['\"]((?:[^()]|\([^()]{0,200}\)){0,400})\)")
_STDIO = re.compile(rb"default[ ]?=[ ]?['\"]stdio['\"]")
_VARIABLE = re.compile(
    rb"(?:getenv|environ\.get)\([ ]?['\"](\w{0,40}TRANSPORT\w{0,20})['\"][ ]?,[ ]?['\"]stdio['\"]"
)
_OVER_HTTP = (b"streamable-http", b"http", b"sse")  # the likeliest first
_OBJECT = re.compile(rb"^(\w{1,60})(?:[ ]?:[^=\n]{1,60})?[ ]?=[ ]?(?:\w{1,60}\.)?FastMCP\(", re.M)
_ARGUMENTS = rb"((?:[^()]|\([^()]{0,200}\)){0,300})"
_IMPORTS = re.compile(rb"^[ \t]*(?:from|import)[ ](?:fast)?mcp\b", re.M)
_OFFICIAL = re.compile(rb"^(?:from|import)[ ]mcp\.server\b", re.M)


class _Server(NamedTuple):
    module: str
    name: str
    is_official: bool
    transport: str


def over_http(folder: Folder, start: Start, read: Iterable[str]) -> Start:
    """Returns how the server is started over HTTP; `start` itself, if it is none or does so.

    `read` are the files of the upload that it reads.
    """
    if start.needs:
        return start
    names = [start.file, *sorted(set(read) - {start.file})][:_FILES_LIMIT]
    texts = {name: folder.data(name, limit=FILE_LIMIT) for name in names if folder.has(name)}
    whole = b"\n".join(texts.values())
    if b"mcp" not in whole or not _IMPORTS.search(whole):
        return start
    option = _OPTION.search(whole)
    if option is not None and _STDIO.search(option[1]):
        given = f" --transport {_named(option[1] + whole)}"
        given += " --host 0.0.0.0" if b'"--host"' in whole or b"'--host'" in whole else ""
        given += " --port $PORT" if b'"--port"' in whole or b"'--port'" in whole else ""
        return _started(start, start.command + given, f"by its option{given}")
    variable = _VARIABLE.search(whole)
    if variable is not None:
        name, value = variable[1].decode(), _named(whole)
        environment = (*start.environment, (name, value))
        return _started(start, start.command, f"as {name} is {value}", environment)
    server = next(_servers(start, texts), None)
    if server is None:
        return start
    root = "" if start.environment else start.root
    return _started(start, _command(server, root), f"by {server.name} of {server.module}")


def _started(
    start: Start, command: str, how: str, environment: tuple[tuple[str, str], ...] | None = None
) -> Start:
    return start._replace(
        command=command,
        because=f"{start.because}: an MCP server, run over HTTP {how}",
        environment=start.environment if environment is None else environment,
        is_listening=True,
    )


def _named(text: bytes) -> str:
    """Returns the name that a program has for the transport over HTTP."""
    quoted = (name for name in _OVER_HTTP if re.search(rb"['\"]%b['\"]" % name, text))
    return next(quoted, _OVER_HTTP[0]).decode()


def _servers(start: Start, texts: dict[str, bytes]) -> Iterator[_Server]:
    """Yields the objects of FastMCP at the top of modules, which run with an address of their own.

    One that the first file has is imported from there, as that also reads what adds its tools.
    """
    for file, text in texts.items():
        match = _OBJECT.search(text)
        if match is None:
            continue
        name = match[1]
        run = re.search(rb"\b%b\.run\(%b\)" % (name, _ARGUMENTS), b"\n".join(texts.values()))
        if run is None or re.search(rb"\bhost[ ]?=", match.string[match.end() :][:400] + run[1]):
            continue
        is_official = _OFFICIAL.search(text) is not None
        transport = re.search(rb"['\"](streamable-http|http|sse)['\"]", run[1])
        if transport is not None and not is_official:
            continue
        first = texts.get(start.file, b"")
        is_first = re.search(rb"\b%b\b" % name, first) and not start.file.endswith("__main__.py")
        below = (start.file if is_first else file).removeprefix(f"{start.root}/")
        module = below[:-3].removesuffix("/__init__").replace("/", ".")
        if all(part.isidentifier() for part in f"{module}.{start.root or 'a'}".split(".")):
            over = transport[1].decode() if transport else "streamable-http"
            yield _Server(module, name.decode(), is_official, over)


def _command(server: _Server, root: str) -> str:
    path = f'sys.path.insert(0, "{root}"); ' if root else ""
    listen = (
        f"it = {server.name}.settings; it.host, it.port, it.transport_security = "
        f'"0.0.0.0", int(os.environ["PORT"]), None; {server.name}.run(transport='
        f'"{server.transport}")'
        if server.is_official
        else f'{server.name}.run(transport="http", host="0.0.0.0", port=int(os.environ["PORT"]))'
    )
    named = "os, sys" if root else "os"
    code = f"import {named}; {path}from {server.module} import {server.name}; {listen}"
    return f"python -c {quote(code)}"

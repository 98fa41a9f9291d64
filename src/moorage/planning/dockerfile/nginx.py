"""Reads an nginx configuration that serves files; refuses one that does more."""

import re
from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning.reading.folder import Folder

_LIMIT = 65_536  # bytes
_TOKEN = re.compile(r"\s+|#[^\n]*|'[^']*'|\"[^\"]*\"|[{};]|[^\s{};'\"#]+|.", re.DOTALL)
_BLOCKS = ("http", "server", "events", "location", "types")
# What changes how files are sent, but not which: they are served without it.
_LEFT_OUT = frozenset(
    (
        *("add_header", "expires", "gzip", "gzip_comp_level", "gzip_min_length", "gzip_proxied"),
        *("gzip_types", "gzip_vary", "gzip_static", "gzip_disable", "gzip_buffers"),
        *("gzip_http_version", "access_log", "error_log", "log_not_found", "charset"),
        *("keepalive_timeout", "sendfile", "tcp_nopush", "tcp_nodelay", "server_tokens", "etag"),
        *("client_max_body_size", "worker_processes", "worker_connections", "user", "pid"),
        *("include", "default_type", "log_format", "types_hash_max_size", "absolute_redirect"),
        *("port_in_redirect", "server_name_in_redirect", "autoindex"),
    )
)


class FilesSite(NamedTuple):
    """A site of files, as nginx's configuration has it."""

    root: str  # in the image, "" for the image's own
    fallback: bool  # what is no file gets index.html
    left_out: tuple[str, ...]  # directives without effect here


def files_site(folder: Folder, name: str) -> FilesSite:
    """Returns the site that a configuration serves. Raises RuntimeUnsupported for anything else."""
    if not folder.has(name):
        raise _refused(name, "is a directory or is missing: only single files are planned")
    root, fallback, left_out = "", False, dict[str, None]()
    words: list[str] = []
    tokens = [t for t in _TOKEN.findall(folder.text(name, limit=_LIMIT)) if t.strip()]
    is_types = False
    for sign in (t for t in tokens if not t.startswith("#")):
        if sign not in ("{", "}", ";"):
            words.append(sign.strip("'\""))
            continue
        directive, *values = words or [""]
        words = []
        if is_types or not directive:
            is_types = is_types and sign != "}"
        elif sign == "{":
            _check_block(name, directive)
            is_types = directive == "types"
        elif directive == "root":
            root = _root(name, root, values)
        elif directive == "try_files":
            fallback = _falls_back(name, values) or fallback
        elif directive in _LEFT_OUT:
            left_out[directive] = None
        else:
            _check(name, directive, values)
    return FilesSite(root, fallback, tuple(left_out))


def _check_block(name: str, directive: str) -> None:
    if directive not in _BLOCKS:
        raise _refused(name, f"has {directive[:40]}, and only sites of files are planned")


def _root(name: str, before: str, values: list[str]) -> str:
    if len(values) != 1 or (before and before != values[0]):
        raise _refused(name, "has more than one root")
    return values[0]


def _falls_back(name: str, values: list[str]) -> bool:
    """Whether the last resort is the page; else it is an error."""
    last = values[-1] if values else ""
    if last in ("/index.html", "index.html", "/", "$document_root/index.html"):
        return True
    if re.fullmatch(r"=404|/404\.html|\$uri/?", last):
        return False
    raise _refused(name, f"has try_files with {last[:40]}")


def _check(name: str, directive: str, values: list[str]) -> None:
    """Raises RuntimeUnsupported unless the file server does the same by itself."""
    is_page = directive == "index" and values[:1] == ["index.html"]
    is_error = directive == "error_page" and values[-1:] in (
        ["/404.html"], ["/index.html"], ["/50x.html"]
    )  # fmt: skip
    is_hidden = directive == "deny" and values == ["all"]
    if directive not in ("listen", "server_name", "internal") and not (
        is_page or is_error or is_hidden
    ):
        raise _refused(name, f"has {directive[:40]}, and only sites of files are planned")


def _refused(name: str, why: str) -> RuntimeUnsupported:
    return RuntimeUnsupported("Dockerfile", f"the server's configuration {name[:100]} {why}")

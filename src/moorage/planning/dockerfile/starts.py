"""The command that starts the last stage: ENTRYPOINT and CMD, as the image would run them."""

import re
from shlex import join, quote
from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning import static
from moorage.planning.dockerfile.commands import translated
from moorage.planning.dockerfile.layout import APP, in_image
from moorage.planning.dockerfile.parser import Instruction
from moorage.planning.dockerfile.stages import Stage
from moorage.planning.languages import php
from moorage.planning.plan import Stack, quoted
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import in_place, word_set
from moorage.planning.static import serve

_LIMIT = 65_536  # bytes
_TOKEN = re.compile(r"\s+|#[^\n]*|'[^']*'|\"[^\"]*\"|[{};]|[^\s{};'\"#]+|.", re.DOTALL)
_BLOCKS = ("http", "server", "events", "location", "types")
# What changes how files are sent, but not which: they are served without it.
_LEFT_OUT = word_set(
    "add_header expires gzip gzip_comp_level gzip_min_length gzip_proxied gzip_types gzip_vary "
    "gzip_static gzip_disable gzip_buffers gzip_http_version access_log error_log "
    "log_not_found charset keepalive_timeout sendfile tcp_nopush tcp_nodelay server_tokens "
    "etag client_max_body_size worker_processes worker_connections user pid include "
    "default_type log_format types_hash_max_size absolute_redirect port_in_redirect "
    "server_name_in_redirect autoindex"
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


_SCRIPT_FILE = re.compile(r"[\w./-]+\.(?:[cm]?[jt]s|tsx)\Z")
_DENO_VERBS = ("run", "serve", "task")
_ROOTS = {"nginx": "/usr/share/nginx/html", "httpd-foreground": "/usr/local/apache2/htdocs"}
_CADDY_ROOT = "/usr/share/caddy"
_CADDYFILE = "/etc/caddy/Caddyfile"
_ENTRY = "docker-entrypoint.sh"  # of official images: runs its arguments


class Start(NamedTuple):
    """A start command, and why."""

    command: str
    because: str


def start_of(last: Stage, folder: Folder, *, given: str | None) -> Start:
    """Returns what the image would start. Raises RuntimeUnsupported, naming the line."""
    if given is not None:
        return Start(_entered(last, in_place(given)), "")
    instruction, text = _line(last)
    server = last.image.server
    if instruction is None or re.match(rf"{server or '!'}(?: |\Z)", text):
        if not server:
            raise RuntimeUnsupported("Dockerfile", "it has no CMD and no ENTRYPOINT: add one")
        return _served(last, folder, text)
    command = translated(instruction, _completed(last, text), last.scope, starts=True)
    said = f"line {instruction.line}: started by {quoted(text)}"
    return Start(_entered(last, in_place(command)), said)


def _line(last: Stage) -> tuple[Instruction | None, str]:
    """Returns ENTRYPOINT with CMD's words, or CMD, as one line of the shell."""
    entry, command = last.entrypoint, last.command
    if entry is None:
        return (command, _text(command)) if command is not None else (None, "")
    if entry.words is None:
        return entry, entry.text  # the shell form takes no arguments
    if command is None:
        return entry, join(entry.words)
    return entry, f"{join(entry.words)} {_arguments(command)}"


def _text(instruction: Instruction) -> str:
    return instruction.text if instruction.words is None else join(instruction.words)


def _arguments(command: Instruction) -> str:
    words = ("sh", "-c", command.text) if command.words is None else command.words
    return join(words)


def _completed(last: Stage, text: str) -> str:
    """Returns the line with the program that the image's own entrypoint puts before it."""
    first, _, rest = text.partition(" ")
    name = first.rpartition("/")[2]
    if name == _ENTRY and not any(one.endswith(_ENTRY) for one in last.scope.known):
        text = rest
        first = text.partition(" ")[0]
    tool = last.image.tool
    if last.entrypoint is not None and last.entrypoint.words is None:
        return text
    if last.image.stack is Stack.DENO and (first in _DENO_VERBS or first.startswith("-")):
        return f"deno {text}"
    if last.image.stack is Stack.NODE and tool and (
        first.startswith("-") or _SCRIPT_FILE.match(first)
    ):  # fmt: skip
        return f"{tool.program} {text}"
    return text


def _entered(last: Stage, command: str) -> str:
    """Returns the command in the image's working directory, with its programs on the PATH."""
    path = ":".join(last.path)
    before = f'export PATH={quote(path)}:"$PATH"\n' if path else ""
    real = last.layout.real(last.workdir)
    if not before and real == APP:
        return command
    return f"{before}cd {quote(real)} && {command}"


def _served(last: Stage, folder: Folder, text: str) -> Start:
    """Returns the server of a site of files, or of PHP's."""
    server = last.image.server
    if server == "apache2-foreground":
        directory = last.layout.real(last.environment.get("APACHE_DOCUMENT_ROOT", "/var/www/html"))
        return Start(php.serve(quote(directory)), "PHP's own server runs it, in place of Apache")
    root = _ROOTS.get(server) or _caddy_root(last, text)
    fallback, said = False, ""
    for image_path, name in last.configuration.items():
        if server == "caddy" and image_path == _CADDYFILE and folder.has(name):
            site = _caddys_site(folder, name)
            root = in_image(last.workdir, site.root) if site.root else last.workdir
            fallback = site.fallback
            if site.left_out:
                said = f"; without {', '.join(site.left_out)} of {name[:100]}"
            continue
        if server != "nginx" or not image_path.endswith((".conf", ".template")):
            raise RuntimeUnsupported(
                "Dockerfile", f"{name[:100]}: configurations of {server} are not planned here"
            )
        nginx = files_site(folder, name)
        root, fallback = nginx.root or root, fallback or nginx.fallback
        if nginx.left_out:
            said = f"; without {', '.join(nginx.left_out[:6])} of {name[:100]}"
    directory = last.layout.real(in_image("/", root) or _ROOTS.get(server, _CADDY_ROOT))
    relative = directory.removeprefix(APP).strip("/")
    return Start(serve(relative, fallback=fallback), f"{root} is served as files, by Caddy{said}")


def _caddys_site(folder: Folder, name: str) -> static.FilesSite:
    site = static.files_site(folder, name)
    if site.refused:
        raise RuntimeUnsupported(
            "Dockerfile", f"{name[:100]}: {site.refused}: only sites of files are planned"
        )
    return site


def _caddy_root(last: Stage, text: str) -> str:
    match = re.match(r"caddy file-server(?:.*(?:--root|-r)[= ](\S+))?", text)
    if match is not None:
        return in_image(last.workdir, match[1] or ".") or _CADDY_ROOT
    return _CADDY_ROOT

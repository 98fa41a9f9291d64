"""The command that starts the last stage: ENTRYPOINT and CMD, as the image would run them."""

import re
from shlex import join, quote
from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning import caddyfile
from moorage.planning.dockerfile.commands import translated
from moorage.planning.dockerfile.layout import APP, in_image
from moorage.planning.dockerfile.nginx import files_site
from moorage.planning.dockerfile.parser import Instruction
from moorage.planning.dockerfile.stages import Stage
from moorage.planning.languages import php
from moorage.planning.plan import Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.shell import in_place
from moorage.planning.recipe import quoted
from moorage.planning.static import serve

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


def _caddys_site(folder: Folder, name: str) -> caddyfile.FilesSite:
    site = caddyfile.files_site(folder, name)
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

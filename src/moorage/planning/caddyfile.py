"""Reads a Caddyfile that serves files: which, and whether what is none gets index.html."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from moorage.planning.reading.folder import Folder

FILE = "Caddyfile"
_LIMIT = 65_536  # bytes
_WORD = re.compile(r'"[^"\n]*"|`[^`\n]*`|[^\s"`]+')
_DOTFILE = re.compile(r"(?:\A|/)\.[^./]")
# What changes how files are sent, but not which: they are served without it.
_LEFT_OUT = frozenset(("encode", "header", "log", "handle_errors", "tls", "request_body", "push"))
_GUARDS = frozenset(("basic_auth", "basicauth", "forward_auth", "jwtauth", "authorize"))
_BLOCKS = frozenset(("handle", "route"))  # without a matcher they are for every request


class FilesSite(NamedTuple):
    """A site of files. With `refused`, why it is more than that, the rest counts for nothing."""

    root: str = ""  # as it is written
    fallback: bool = False
    left_out: tuple[str, ...] = ()  # directives without effect here
    refused: str = ""
    is_guarded: bool = False  # refused, as its files are not for everybody


def files_site(folder: Folder, name: str) -> FilesSite:
    """Returns the site of a Caddyfile, which has just one."""
    text = folder.data(name, limit=_LIMIT).decode(errors="replace")
    site, left_out = FilesSite(), dict[str, None]()
    guard = next(((n, w) for n, w in _lines(text) if _guards(w)), None)
    if guard is not None:
        return FilesSite(refused=f"line {guard[0]}, {guard[1][0][:40]}", is_guarded=True)
    for number, words in _site_lines(text):
        directive, *values = words
        if directive == "root" and values and values[:-1] in ([], ["*"]):
            site = site._replace(root=values[-1])
        elif directive == "try_files" and values[-1:] in (["/index.html"], ["index.html"]):
            site = site._replace(fallback=True)
        elif directive in _LEFT_OUT:
            left_out[directive] = None
        elif not _is_files(directive, values):
            return FilesSite(refused=f"line {number}, {directive[:40]}")
    return site._replace(left_out=tuple(left_out))


def _guards(words: list[str]) -> bool:
    """Whether files are kept from visitors; dotfiles are kept from them anyway."""
    hidden = words[1:] if words[0] == "hide" else []
    return not _GUARDS.isdisjoint(words) or not all(map(_DOTFILE.search, hidden))


def _is_files(directive: str, values: list[str]) -> bool:
    """Whether the file server does the same by itself."""
    if directive in _BLOCKS:
        return values == ["{"]
    if directive == "try_files":
        return all(it.startswith("{path}") or it == "=404" for it in values)
    if directive == "file_server":  # with a matcher it serves a part of the files
        return not any(it.startswith(("/", "@")) for it in values)
    return directive.startswith("@")


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the words of each line that has any, without comments."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = [word.strip('"`') for word in _WORD.findall(re.sub(r"(?:^|\s)#.*", "", line))]
        if words:
            yield number, words


def _site_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the lines of the one site, but for what is inside of a directive's own block.

    A second site, a snippet or an import is yielded as a directive that nobody knows.
    """
    depth, opened, has_site, is_global = 0, list[bool](), False, False
    for number, words in _lines(text):
        is_end, is_begin = words == ["}"], words[-1] == "{"
        if depth == 0 and not is_end:
            is_global = words == ["{"] and not has_site
            is_odd = not {"{", "}"}.isdisjoint(words[:-1]) or words[-1] == "}"
            if not is_global and (has_site or is_odd or words[0].startswith("(")):
                yield number, ["which begins something other than one site"]
            has_site = has_site or not is_global
            is_bare = not is_begin and not is_global  # one site may stand without braces
            depth, opened = (1, [True]) if is_bare or is_begin else (0, [])
            continue
        if is_end:
            depth, _ = max(depth - 1, 0), opened and opened.pop()
            continue
        if not is_global and all(opened):
            yield number, words
        if is_begin:
            depth += 1
            opened.append(words[0] in _BLOCKS)

"""Sites of files, served by Caddy on 0.0.0.0:$PORT, without dotfiles."""

import re
from collections.abc import Iterator
from shlex import quote, split
from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning.explicit import Asked, directory
from moorage.planning.plan import Recipe, Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Toolbox

FILE = "Caddyfile"
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
    text = folder.plain(name)
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
    """Yields the lines of the one site, except what is inside of a directive's own block.

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


ROOTS = ("", "public", "dist", "build", "out", "_site", "site", "www", "docs")

_FIRST_PAGES = ("index", "default", "home", "main")  # without an index.html, whatever their case

LOOKED_FOR = (
    "a Staticfile, or index.html, also in " + ", ".join(f"{root}/" for root in ROOTS if root),
)

# The site's directory reaches Caddy as a runtime placeholder, so no name in it can become
# configuration. It must be absolute: with "." Caddy cuts the leading dot of .well-known.
# `error` comes after `try_files`, so a dotfile is refused under every spelling.
_CADDYFILE = """\
{
	admin off
	auto_https off
	persist_config off
	log {
		level ERROR
	}
	servers {
		protocols h1
	}
}
http://:{$PORT} {
	bind tcp4/0.0.0.0
	root {env.SITE}
	encode%s
	@hidden {
		path */.*
		not path /.well-known/*
	}
	error @hidden 404
	try_files %s
	file_server
	handle_errors 404 {
		rewrite /404.html
		file_server
	}
}
"""
# A site whose pages link to /NAME/… begins there, and its files are at the root as well.
_BASED = """
	redir / {base}/
	redir {base} {base}/
	uri {base}/* strip_prefix {base}"""
_LIMIT = 4096  # bytes of a Staticfile, or of a function
# Where other hosts look for functions beside pages.
_FUNCTIONS = (
    ("api", "Vercel"),
    ("netlify/functions", "Netlify"),
    ("netlify/edge-functions", "Netlify"),
    ("functions", "Cloudflare Pages"),
)
_FUNCTION_ENDINGS = (".js", ".mjs", ".cjs", ".ts", ".mts", ".jsx", ".tsx", ".py", ".go")
_FUNCTIONS_LIMIT = 20  # files looked at in a directory
_HANDLES = re.compile(
    rb"\bexport\s+(?:default\s+)?(?:async\s+)?function\b[^(\n]{0,80}\(\s*_?(?:req|request|context|event)\b"
    rb"|\bexport\s+(?:async\s+function|const)\s+(?:GET|POST|PUT|PATCH|DELETE|onRequest\w*|handler)\b"
    rb"|\bexport\s+default\s+(?:async\s*)?\(\s*_?(?:req|request|context|event)\b"
    rb"|\bexports(?:\.default|\.handler)?\s*=\s*(?:async\s*)?(?:function\b[^(\n]{0,80})?\(\s*_?(?:req|request|event)\b"
    rb"|\bexports\.handler\s*=|\bserverless\s*\(\s*app\b"
    rb"|\bclass\s+handler\s*\(\s*BaseHTTPRequestHandler\b|\bfunc\s+Handler\s*\(\s*w\s+http\."
)
_ROOT_LINE = re.compile(r"^root:[ \t]*['\"]?([^'\"\s#]{1,200})", re.MULTILINE)
_IMAGES_ROOT = re.compile(r"\A/(?:srv|usr/share/caddy|var/www/html|app)(?:/|\Z)")
_FALLBACK_LINE = re.compile(
    r"^(?:index_fallback|pushstate):[ \t]*['\"]?(?:true|enabled|/?index\.html)\b", re.MULTILINE
)
_CADDY = "exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<'CADDYFILE'"
_PLAIN = "{path} {path}.html"
_FALLBACK = "{path} {path}.html {path}/index.html /200.html /index.html"


def serve(root: str, *, fallback: bool, base: str = "") -> str:
    """Returns the command that serves the directory `root` ("" is the app's own).

    `/about` finds about.html; dotfiles are 404 except /.well-known; 404.html is used if there is
    one. With `fallback`, any other path gets index.html, for apps that route in the browser.
    `base` is the path that the site was built for, such as /shop.
    """
    enter = f"cd {quote(f'./{root}')} && " if root else ""
    based = _BASED.format(base=base) if base else ""
    caddyfile = _CADDYFILE % (based, _FALLBACK if fallback else _PLAIN)
    return f"{enter}{_CADDY}\n{caddyfile}CADDYFILE"


def with_fallback(start: str) -> str:
    """Returns the command of `serve` with index.html for paths that are no files."""
    return start.replace(f"try_files {_PLAIN}\n", f"try_files {_FALLBACK}\n")


def is_site(start: str) -> bool:
    """Whether the start command is one of `serve`."""
    return start.partition("\n")[0].endswith(_CADDY)


def function_of(folder: Folder) -> tuple[str, str]:
    """Returns a function of another host in the folder, and that host; "" for none."""
    for place, host in _FUNCTIONS:
        below = folder.below(place)
        for name in below.ending(*_FUNCTION_ENDINGS)[:_FUNCTIONS_LIMIT]:
            if _HANDLES.search(below.data(name, limit=_LIMIT)):
                return below.path(name), host
    return "", ""


def said(start: str) -> str:
    """Describes a start command for a person; for one of `serve`, says what it serves."""
    if not is_site(start):
        return start or "what the image starts by itself"
    line, _, caddyfile = start.partition("\n")
    enter = split(line.removesuffix(_CADDY))
    root = f"{enter[1].removeprefix('./')}/" if enter else "the app's files"
    fallback = ", index.html for what is no file" if _FALLBACK in caddyfile else ""
    return f"serves {root} by Caddy{fallback}"


def _staticfile(folder: Folder) -> tuple[str, bool]:
    """Returns the directory of a Staticfile, and whether what is no file gets index.html."""
    text = folder.data("Staticfile", limit=_LIMIT).decode(errors="replace")
    root, fallback = _ROOT_LINE.search(text), _FALLBACK_LINE.search(text)
    place = directory("Staticfile's root", root[1] if root else "") or ""
    return place, fallback is not None


def _caddyfile(folder: Folder) -> tuple[str, bool, str] | None:
    """Returns what a Caddyfile serves: directory, fallback, why; None if it can't be followed.

    Raises RuntimeUnsupported where it asks visitors who they are.
    """
    site = files_site(folder, FILE) if folder.has(FILE) else None
    if site is not None and site.is_guarded:
        raise RuntimeUnsupported(
            folder.path(FILE),
            f"{site.refused}: can't be followed here, and without it everybody would see the files",
        )
    if site is None or site.refused:
        return None
    inside = _IMAGES_ROOT.sub("", site.root)
    if inside.startswith(("/", "{")) or ".." in inside:
        return None
    root = directory("the Caddyfile's root", inside) or ""
    if not folder.has_directory(root):
        return None
    left_out = f", without {', '.join(site.left_out)}" if site.left_out else ""
    return root, site.fallback, f"the Caddyfile names the files to serve{left_out}"


def _lone_page(folder: Folder, asked: Asked) -> Recipe | None:
    """Plans a directory without an index.html whose first page is plain: the only one, or Home."""
    pages = [name for name in folder.files() if name.lower().endswith((".html", ".htm"))]
    by_name = {name.lower().rpartition(".")[0]: name for name in reversed(pages)}
    first = next((by_name[name] for name in _FIRST_PAGES if name in by_name), None)
    page = first or (pages[0] if len(pages) == 1 else None)
    if page is None:
        return None
    copied = f"cp -n -- {quote(page)} index.html"
    return Recipe(
        stack=Stack.STATIC,
        install=asked.install,
        build=f"{asked.build}\n{copied}" if asked.build else copied,
        start=serve("", fallback=False),
        because=(f"{page} is its first page, as there is no index.html: served by Caddy",),
    )


def _is_source(folder: Folder) -> bool:
    """Whether the page is one that a bundler builds: no browser runs what it loads."""
    return _SOURCE.search(folder.source("index.html")) is not None


_SOURCE = re.compile(rb"<script[^>]{1,200}\bsrc=['\"][\w./-]{1,100}\.(?:[jt]sx|ts|vue)['\"]")


def detect(folder: Folder, asked: Asked, _toolbox: Toolbox) -> Recipe | None:
    """Plans files with an index.html, or in settings.buildDir; None when there are none."""
    if asked.run is not None:
        return None
    fallback = False
    root = asked.build_dir
    if root is None and folder.has("Staticfile"):
        root, fallback = _staticfile(folder)
        because = f"the Staticfile names the files to serve: {root or 'all of them'}"
        if not folder.has_directory(root):
            return None
    elif root is None and (found := _caddyfile(folder)) is not None:
        root, fallback, because = found
    elif root is not None and (asked.build or folder.has_directory(root)):
        source = asked.build_dir_from or "settings.buildDir"
        because = f"{source} names the files to serve: {root or 'all of them'}"
    else:
        root = next(
            (r for r in ROOTS if folder.has(f"{r}/index.html" if r else "index.html")), None
        )
        if root is None:
            return _lone_page(folder, asked)
        because = f"{root}/index.html is there" if root else "index.html is there"
        if not root and folder.has("package.json") and _is_source(folder):
            return None
        if folder.has(FILE):
            refused = files_site(folder, FILE).refused
            because = f"the Caddyfile is not followed ({refused or 'its root'}); {because}"
    return Recipe(
        stack=Stack.STATIC,
        install=asked.install,
        build=asked.build,
        start=serve(root, fallback=fallback),
        because=(f"{because}: served as files by Caddy",),
    )

"""Finds the web app object in Python sources, without running or fully parsing them.

It uses patterns rather than `ast`: the gateway's Python may be older than the app's (its parser
then refuses newer grammar), a hostile file can exhaust a recursive parser's stack, and patterns are
20 times as fast. Strings and comments are blanked first, so that examples there don't count.
"""

import re
from collections.abc import Iterable
from itertools import chain, islice
from typing import NamedTuple

from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import marks, word_set

FILES_LIMIT = 400  # Python files read, likeliest names first
FILE_LIMIT = 262_144  # bytes read of each
TOTAL_LIMIT = 4_194_304  # bytes read of all

PREFERRED = ("main", "app", "server", "api", "asgi", "wsgi", "run", "index", "application")
_RANKS = {f"{stem}.py": rank for rank, stem in enumerate(PREFERRED)}
OBJECT_NAMES = ("app", "application", "api", "server")

# The class of an app object: the package it comes from, and the server that runs it.
FRAMEWORKS = {
    "FastAPI": ("fastapi", "uvicorn"),
    "Starlette": ("starlette", "uvicorn"),
    "Litestar": ("litestar", "uvicorn"),
    "Quart": ("quart", "uvicorn"),
    "FastHTML": ("python-fasthtml", "uvicorn"),
    "fast_app": ("python-fasthtml", "uvicorn"),  # FastHTML's function, which returns two objects
    "Flask": ("flask", "gunicorn"),
    "APIFlask": ("apiflask", "gunicorn"),
    "Dash": ("dash", "gunicorn"),
    # These often run themselves; then the script is started, as it may do more.
    "Sanic": ("sanic", "sanic"),
    "Bottle": ("bottle", "gunicorn"),
    "falcon.App": ("falcon", "gunicorn"),
    "falcon.asgi.App": ("falcon", "uvicorn"),
    "web.Application": ("aiohttp", "gunicorn --worker-class aiohttp.GunicornWebWorker"),
}
_RUN_THEMSELVES = frozenset(("Sanic", "Bottle", "falcon.App", "falcon.asgi.App", "web.Application"))
_RUNS = re.compile(
    r"\brun_app[ \t]*\(|\.run[ \t]*\(|^[ \t]*run[ \t]*\(|\bserve\w*[ \t]*\(|\bmake_server\b",
    re.MULTILINE,
)

_CLASSES = "|".join(map(re.escape, FRAMEWORKS))
_FACTORIES = "create_app|make_app|build_app|get_app|(?:create|get)_application|app_factory"
_HINT = re.compile(
    rb"\b(?:%b)\s*\(|\b(?:%b)\s*\(|\.server\b" % (_CLASSES.encode(), _FACTORIES.encode())
)
# Each of FRAMEWORKS and _FACTORIES has one of these in it.
_WORDS = marks(word.encode() for word in ("_app", "app_factory", ".server", *FRAMEWORKS))
# Each branch matches wherever it starts, closed or not, so that the whole stays linear.
_STRINGS = re.compile(
    r'"""[\s\S]*?(?:"""|\Z)|"(?:[^"\\\n]|\\[\s\S])*"?'
    r"|\'\'\'[\s\S]*?(?:\'\'\'|\Z)|\'(?:[^\'\\\n]|\\[\s\S])*\'?"
    r"|#[^\n]*"
)
_OBJECT = re.compile(
    r"^([A-Za-z_]\w{0,80})[ \t]*(?:,[ \t]*\w{1,80}[ \t]*){0,8}(?::[^=\n]{1,120})?="
    r"[ \t]*(?:[A-Za-z_][\w.]{0,80}\.)?"
    rf"(?:({_CLASSES})|({_FACTORIES}))[ \t]*\(",
    re.MULTILINE,
)
_DASH_SERVER = re.compile(r"^([A-Za-z_]\w{0,80})[ \t]*=[ \t]*\w{1,80}\.server\b", re.MULTILINE)
_FACTORY = re.compile(
    rf"^def[ \t]+({_FACTORIES})[ \t]*"
    r"\(([^()]{0,400}(?:\([^()]{0,200}\)[^()]{0,200}){0,8})\)",
    re.MULTILINE,
)
_CLASS_CALL = re.compile(rf"\b({_CLASSES})[ \t]*\(")
_IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+(\.*)([A-Za-z_]\w{0,80})?", re.MULTILINE)
_ASIDE = word_set(
    "tests test docs doc examples example scripts migrations node_modules venv env "
    "site-packages __pycache__ dist build"
)


class App(NamedTuple):
    """An app object, or the factory function that makes it, and where a server finds it."""

    file: str
    module: str  # dotted, below `root`
    root: str  # the directory its imports are relative to, "" for the app's own
    attribute: str
    factory: bool  # `attribute` is a function that returns the object
    package: str  # fastapi, flask, …
    server: str  # uvicorn, gunicorn, maybe with options, or sanic


class _Found(NamedTuple):
    file: str
    text: str
    attribute: str
    factory: bool
    kind: str  # a key of FRAMEWORKS, "" when a factory elsewhere decides it


def find_app(folder: Folder, installed: frozenset[str], hint: str) -> App | None:
    """Returns the app object in the likeliest file: main.py, app.py, … near the root first.

    An object has precedence over a factory. If an app of the package `hint` (of FRAMEWORKS) is
    found, those of other packages are ignored.
    """
    found: list[_Found] = []
    budget = TOTAL_LIMIT
    for file in _candidates(folder):
        budget -= min(folder.size(file), FILE_LIMIT)
        if budget < 0:
            break
        found.extend(_scan(folder, file))
        if found and found[-1].kind and not found[-1].factory and not hint:
            break
    kind = _decided_kind(found, installed)
    resolved = [one if one.kind else one._replace(kind=kind) for one in found if one.kind or kind]
    hinted = [one for one in resolved if FRAMEWORKS[one.kind][0] == hint]
    choice = hinted or resolved
    chosen = next((one for one in choice if not one.factory), choice[0] if choice else None)
    return None if chosen is None else _located(folder, chosen)


def is_aside(name: str) -> bool:
    """Whether a file is not the app's own: a test, a library's, something hidden."""
    return "/." in f"/{name}" or not _ASIDE.isdisjoint(name.split("/")[:-1])


def _candidates(folder: Folder) -> list[str]:
    """Importable Python files that aren't tests or the like, the likeliest first."""
    depths: dict[str, int] = {}  # of directories; -1 for those aside
    preferred: list[tuple[int, int, str]] = []
    others: dict[int, list[str]] = {}  # by depth
    for name in folder.ending(".py"):
        directory, slash, file = name.rpartition("/")
        depth = depths.get(directory)
        if depth is None:
            depth = -1 if is_aside(directory + slash) else name.count("/")
            depths[directory] = depth
        if depth < 0:
            continue
        rank = _RANKS.get(file)
        if rank is None:
            others.setdefault(depth, []).append(name)
        else:
            preferred.append((depth, rank, name))
    ordered = chain((it for *_, it in sorted(preferred)), *(others[it] for it in sorted(others)))
    return [*islice(filter(_is_importable, ordered), FILES_LIMIT)]


def _is_importable(name: str) -> bool:
    stem = name.rpartition("/")[2].removesuffix(".py")
    is_test = stem.startswith("test_") or stem.endswith("_test")
    return stem.isidentifier() and not is_test and stem != "__main__"  # gunicorn has its own


def _scan(folder: Folder, file: str) -> Iterable[_Found]:
    data = folder.data(file, limit=FILE_LIMIT)
    # Finding words is much faster than the pattern, and most files have none of them.
    if not any(word in data for word in _WORDS) or _HINT.search(data) is None:
        return
    text = plain_text(data.decode(errors="replace"))
    objects = sorted(_OBJECT.finditer(text), key=lambda match: _name_rank(match[1]))
    if objects and objects[0][2] in _RUN_THEMSELVES:
        package, _ = FRAMEWORKS[objects[0][2]]
        if _RUNS.search(text) or package.encode() not in data:  # as Tornado's web.Application
            return
    for match in objects[:1]:
        kind = match[2] or _factory_kind(text)
        server = _DASH_SERVER.search(text)
        if kind != "Dash":
            yield _Found(file, text, match[1], False, kind)
        elif server is not None:  # without it, only Dash's newest versions are an app themselves
            yield _Found(file, text, server[1], False, kind)
    if objects:
        return
    server = _DASH_SERVER.search(text)
    if server is not None and server[1] in OBJECT_NAMES:  # of another module's Dash
        yield _Found(file, text, server[1], False, "")
        return
    for match in _FACTORY.finditer(text):
        kind = _CLASS_CALL.search(text, match.end())
        is_run = _RUNS.search(text) or b"tornado" in data  # whose app has the name of aiohttp's
        if kind is not None and kind[1] in _RUN_THEMSELVES and is_run:
            return
        if kind is not None and _callable_without_arguments(match[2]):
            yield _Found(file, text, match[1], True, kind[1])
            return


def plain_text(source: str) -> str:
    """Returns a source without what its strings and comments hold."""
    return _STRINGS.sub('""', source.replace("\r\n", "\n"))


def _name_rank(name: str) -> int:
    return OBJECT_NAMES.index(name) if name in OBJECT_NAMES else len(OBJECT_NAMES)


def _factory_kind(text: str) -> str:
    match = _CLASS_CALL.search(text)
    return match[1] if match else ""


def _callable_without_arguments(parameters: str) -> bool:
    while "(" in parameters:  # innermost first; at most eight, by the pattern
        parameters = re.sub(r"\([^()]*\)", "", parameters)
    parameters = re.sub(r"\[[^\[\]]*\]", "", parameters)
    return all(
        not part.strip() or "=" in part or part.strip()[0] in "*/" for part in parameters.split(",")
    )


def _decided_kind(found: list[_Found], installed: frozenset[str]) -> str:
    """Returns the kind of an object that another module's factory makes: found, else installed."""
    elsewhere = next((one.kind for one in found if one.kind), "")
    return elsewhere or next((k for k, (name, _) in FRAMEWORKS.items() if name in installed), "")


def _located(folder: Folder, found: _Found) -> App:
    root = _import_root(folder, found)
    below = found.file[len(root) + 1 :] if root else found.file
    module = below[:-3].replace("/", ".").removesuffix(".__init__")
    package, server = FRAMEWORKS[found.kind]
    return App(found.file, module, root, found.attribute, found.factory, package, server)


def _import_root(folder: Folder, found: _Found) -> str:
    """The directory from which the file's own imports work."""
    *directories, _ = found.file.split("/")
    if not directories:
        return ""
    here = "/".join(directories)
    imports = [(match[1], match[2] or "") for match in _IMPORT.finditer(found.text)]
    absolute = {name for dots, name in imports if not dots and name}
    relative = any(dots for dots, _ in imports)
    package = folder.has(f"{here}/__init__.py")
    if not all(directory.isidentifier() for directory in directories):
        return _outermost_package(folder, directories) if package or relative else here
    if directories[0] in absolute:
        return ""
    if not relative and any(_is_module(folder, f"{here}/{name}") for name in absolute):
        return here
    return _outermost_package(folder, directories) if package or relative else ""


def _is_module(folder: Folder, name: str) -> bool:
    return folder.has(f"{name}.py") or folder.has(f"{name}/__init__.py")


def _outermost_package(folder: Folder, directories: list[str]) -> str:
    """The directory that holds the outermost package around the file."""
    depth = len(directories) - 1
    while depth > 0 and folder.has(f"{'/'.join(directories[:depth])}/__init__.py"):
        depth -= 1
    return "/".join(directories[:depth])

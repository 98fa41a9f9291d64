"""Finds what a program imports, by reading it and the files of the upload that it imports.

Node installs nothing by itself: a package that a program imports, and no package.json names, is
installed under its name. Files are read by pattern, up to a limit, and nothing is run.
"""

import posixpath
import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from moorage.planning.node.builds import path_aliases, without_comments
from moorage.planning.node.package_json import LISTENS, PACKAGES, PackageJson
from moorage.planning.plan import Risk, RiskCode, Stops
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import by_word, word_set

_FILES_LIMIT = 200
_BYTES_LIMIT = 131_072  # read in all
_SOURCES_LIMIT = 1_048_576  # bytes of sources in which a listener is looked for
_NAMES_LIMIT = 500  # imported names of which the use is looked for
ENDINGS = (".js", ".ts", ".mjs", ".mts", ".cjs", ".cts", ".jsx", ".tsx")

_BUILTINS = word_set(
    "assert async_hooks buffer bun child_process cluster console constants crypto dgram "
    "diagnostics_channel dns domain events fs http http2 https inspector module net os path "
    "perf_hooks process punycode querystring readline repl stream string_decoder sys timers "
    "tls trace_events tty url util v8 vm wasi worker_threads zlib"
)
_REQUIRED: dict[str, str] = PACKAGES["required"]
# Code for an older version: a pattern of it, and the last major version that takes it.
_OLDER = (
    (
        "express",
        re.compile(r"""\.(?:all|get|options|post|use)\(\s{0,40}['"`](?:[\w/.-]{0,80}/)?\*['"`]"""),
        "4",
    ),
)
# Packages that a program names without importing them.
_NAMED = (
    re.compile(r"""['"]view engine['"]\s{0,20},\s{0,20}['"](ejs|pug|hbs|nunjucks|eta)['"]"""),
    re.compile(r"""target\s{0,20}:\s{0,20}['"](pino-pretty)['"]"""),
    re.compile(r"""client\s{0,20}:\s{0,20}['"](pg|mysql2|sqlite3|better-sqlite3)['"]"""),
)
_SCOPES = frozenset(PACKAGES["scopes"].split())
_PORTLESS = by_word(PACKAGES["portless"])
_SOCKETS: dict[str, list[str]] = PACKAGES["sockets"]
_SERVERS = frozenset(PACKAGES["servers"].split())
_MAY_LISTEN = re.compile(
    rb"\.listen\s*\(|createServer\s*\(|\bserve\s*\(|\bPORT\b|[wW]ebhook|StreamableHTTP|SSEServer"
)
_RUNS_FILE = re.compile(
    r"(?:^|[\s;&(])(?:node|bun|tsx|ts-node)"
    r"(?:[ \t]+(?:run|(?:--import|--require|-r)[ \t]+\S+|-[\w=/.:-]+))*+"
    r"[ \t]+'?(?:\./)?([\w@/.-]{1,200})'?(?=[\s;&)]|\Z)"
)
_NAME = re.compile(r"(?:@[a-z0-9][\w.-]{0,100}/)?[a-zA-Z0-9][\w.-]{0,213}")
_ALIASES = ("@/", "~", "#", "$", "/")

_STRING = r"""['"`](?P<{}>[^'"`\n]{{1,200}})['"`]"""
# Each begins with a word, which is looked for fast; what must be before it is checked afterwards.
_STATEMENT = re.compile(
    r"(?:import|export)\b\s*+(?:(?P<names>[\w*{}\s,$]{0,600}?)(?<![\w$])from\s*+)?"
    + _STRING.format("source")
)
_CALL = re.compile(r"(?P<word>import|require)\s*+\(\s*+" + _STRING.format("source") + r"\s*+\)")
_WORDS = (("import", _STATEMENT), ("export", _STATEMENT), ("import", _CALL), ("require", _CALL))
_TYPE = re.compile(r"type\b(?!\s*(?:from\b|,|\Z))")
_TRIED = re.compile(r"try\s*+\{[^{}]{0,400}\}")  # what is optional
_BUNDLED = ("__webpack_require__", "__commonJS(", "__toESM(")
"""What bundlers write into files that have their packages in them."""

_COMMON = re.compile(r"(?:require\s*\(|__dirname\b|__filename\b|module\.exports\b)")
_BUN = re.compile(r"\bBun\.\w|\bfrom\s*+['\"]bun(?::\w+)?['\"]")
_FETCH = re.compile(
    r"export\s+default\s*+(?:\{[^;]{0,400}?\bfetch\b"
    r"|\w+\s*+;?\s*+\Z|\w+\s+satisfies\b|<[^>\n]{0,80}>\s*+\{[^;]{0,400}?\bfetch\b)"
)
_ROUTERS = frozenset(("hono", "itty-router", "elysia", "h3"))
# What Node refuses when it only removes types (Node's documentation, Modules: TypeScript).
_COMPILED = re.compile(
    r"^[ \t]*+(?:export[ \t]+)?(?:const[ \t]+)?enum\b"
    r"|^[ \t]*+(?:export[ \t]+)?(?:namespace|module)[ \t]+\w+[ \t]*+\{"
    r"|^[ \t]*+import[ \t]+\w+[ \t]*+=|^[ \t]*+export[ \t]*+=|^[ \t]*+@\w"
    r"|\bconstructor\s*+\([^)]{0,400}?\b(?:public|private|protected|readonly)\b",
    re.MULTILINE,
)


class Imports(NamedTuple):
    """What a program imports, and what it can be run by."""

    packages: tuple[str, ...] = ()  # name@version, sorted
    absent: str = ""  # a sentence, if it imports a file that the upload lacks
    uses_bun: bool = False
    is_fetch: bool = False  # it exports what answers requests, and listens nowhere itself
    is_module: bool = False  # written as an ES module, and not as CommonJS as well
    is_plain: bool = False  # whether Node can run it by removing types alone

    @property
    def names(self) -> tuple[str, ...]:
        """The packages without their versions."""
        return tuple(name_of(package) for package in self.packages)

    @property
    def unknown(self) -> str:
        """A package that may be an owner's alone, "" if none may."""
        scoped = (name for name in self.names if name.startswith("@"))
        return next((name for name in scoped if name[1:].partition("/")[0] not in _SCOPES), "")


def name_of(package: str) -> str:
    """Returns the name in name@version."""
    return package.rpartition("@")[0]


def entry(folder: Folder, command: str) -> str:
    """Returns the file of the upload that a command gives to a runtime, "" for none."""
    match = _RUNS_FILE.search(command)
    name = posixpath.normpath(match[1]) if match is not None else ""
    places = (name, *(f"{name}{ending}" for ending in ENDINGS), f"{name}/index.js")
    return (folder.first(*places) or "") if name else ""


def imported(folder: Folder, entry: str) -> Imports:
    """Reads a program from its first file on."""
    aliases = (*_ALIASES, *path_aliases(folder))
    texts: dict[str, str] = {}
    packages: dict[str, str] = {}
    checked, absent = 0, ""
    is_plain, left, size = entry.endswith("ts"), [entry], 0
    while left and len(texts) < _FILES_LIMIT and size < _BYTES_LIMIT:
        file = left.pop()
        if file in texts or not file.endswith(ENDINGS):
            continue
        data = folder.data(file, limit=_BYTES_LIMIT - size)
        size += len(data)
        text = texts[file] = without_comments(data.decode(errors="replace"))
        is_plain = is_plain and not file.endswith("x") and not _COMPILED.search(text)
        if any(mark in text for mark in _BUNDLED):
            continue
        for match in _statements(_TRIED.sub("", text)):
            source, is_required = match["source"], match[0].startswith("require")
            names = match["names"] or "" if match.re is _STATEMENT else ""
            if _is_type(names):
                continue
            checked += names.count(",") + 1
            is_plain = (
                is_plain and checked < _NAMES_LIMIT and _are_values(names, text, match.span())
            )
            near = _local(folder, file, source, aliases)
            if near is not None:
                left.append(near)
                exact = posixpath.normpath(posixpath.join(posixpath.dirname(file), source))
                is_plain = is_plain and source.startswith(".") and exact == near
            elif source.startswith(("./", "../")) and _is_absent(folder, file, source):
                absent = absent or f"{file} imports {source}, which is not in the upload."
            elif (name := _package(source, aliases)) and not _is_own(folder, name):
                packages.setdefault(name, _version(name, text, is_required=is_required))
        for pattern in _NAMED:
            packages.update((name, "latest") for name in pattern.findall(text))
    first, whole = texts.get(entry, ""), "\n".join(texts.values())
    return Imports(
        packages=tuple(sorted(f"{name}@{version}" for name, version in packages.items())),
        absent=absent,
        uses_bun=("Bun." in whole or "bun" in whole) and _BUN.search(whole) is not None,
        is_fetch=_is_fetch(first, whole, packages),
        is_module="import" in whole and _COMMON.search(whole) is None,
        is_plain=is_plain and bool(texts),
    )


def absent_file(sentence: str, stops: Stops = Stops.START) -> tuple[Risk, ...]:
    """Returns the risk of a file that is imported and not in the upload, if a sentence tells it."""
    return (Risk(RiskCode.FILE_ABSENT, stops, sentence),) if sentence else ()


def absent_from_pages(folder: Folder, manifest: PackageJson) -> str:
    """Returns a sentence of a file that pages import and the upload lacks, "" for none.

    Bundlers end with it. Pages are read from the files on where Vite, Next.js and React Scripts
    begin; what a step of the build may make first is left out.
    """
    if any(_MAKES.search(manifest.scripts.get(name, "")) for name in _BEFORE):
        return ""
    names = list(islice(folder.names(), _PATHS_LIMIT))
    left, read, size, looked = _page_entries(folder, manifest, names), set[str](), 0, 0
    while left and len(read) < _FILES_LIMIT and size < _BYTES_LIMIT and len(names) < _PATHS_LIMIT:
        file = left.pop(0)
        if file in read or not file.endswith(ENDINGS):
            continue
        read.add(file)
        data = folder.data(file, limit=_BYTES_LIMIT - size)
        size += len(data)
        text = _TRIED.sub("", without_comments(data.decode(errors="replace")))
        for match in _statements(text):
            imports = match["names"] or "" if match.re is _STATEMENT else ""
            source = match["source"].partition("?")[0]
            if not source.startswith(("./", "../", "@/")) or _is_type(imports):
                continue
            near = _local(folder, file, source, _ALIASES)
            if near is not None:
                left.append(near)
                continue
            looked += 1
            if looked > _LACKING_LIMIT:
                return ""
            if _is_lacking(folder, file, source, names) and (
                not imports or _is_used(imports, text.replace(match[0], ""))
            ):
                return f"{file} imports {source}, which is not in the upload."
    return ""


def _page_entries(folder: Folder, manifest: PackageJson, names: list[str]) -> list[str]:
    if manifest.depends_on("next"):
        return [name for name in names if _NEXT_PAGE.fullmatch(name)][:_FILES_LIMIT]
    if manifest.depends_on("react-scripts"):
        return [name for name in names if _REACT_SCRIPTS_PAGE.fullmatch(name)]
    if manifest.depends_on("vite") and folder.has("index.html"):
        page = folder.data("index.html", limit=_BYTES_LIMIT).decode(errors="replace")
        return [name for name in _MODULE.findall(page) if folder.has(name)]
    return []


def _is_lacking(folder: Folder, file: str, source: str, names: list[str]) -> bool:
    """Whether no file of the upload can be what is imported, and nothing makes it."""
    is_named = source.startswith("@/")
    place = source[2:] if is_named else posixpath.join(posixpath.dirname(file), source)
    place = _SCRIPT.sub("", posixpath.normpath(place))
    if _MADE.search(place) or place.startswith(".."):
        return False
    begins = tuple(f"{place}{end}" for end in (".", "/"))
    if not is_named:
        return not any(name == place or name.startswith(begins) for name in names)
    whole = next(iter([*folder.parents()][::-1]), folder)
    paths = (f"/{name}" for name in islice(whole.names(), _PATHS_LIMIT))
    return not any(f"/{it}" in path for path in paths for it in (*begins, place))


def _is_used(imports: str, text: str) -> bool:
    """Whether an imported name is used as a value: bundlers remove imports of types alone."""
    words = (part.strip().rpartition(" ")[2] for part in re.split(r"[{},]", imports))
    values = r"(?<![\w)])<{0}\b|\b{0}\s*[.(]|[=({{,?]\s*{0}\s*[;,)}}]"
    return any(
        re.search(values.format(re.escape(word)), text) is not None for word in words if word
    )


_PATHS_LIMIT = 5_000
_LACKING_LIMIT = 50  # imports of which no file is where it should be
_NEXT_PAGE = re.compile(r"(?:src/)?(?:app/(?:.+/)?(?:page|layout|route)|pages/.+)\.[jt]sx?")
_REACT_SCRIPTS_PAGE = re.compile(r"src/index\.[jt]sx?")
_MODULE = re.compile(r"""<script\b[^>]{0,200}?\bsrc=['"](?:\./|/)?([\w./-]{1,200})['"]""")
_SCRIPT = re.compile(r"\.[cm]?jsx?\Z")
_MADE = re.compile(
    r"(?:^|/)[._]|gen\b|generated|types?\b|gql|graphql|paraglide|styled-system|pkg|wasm|prisma"
    r"|(?:^|/)(?:dist|build|out)(?:/|\Z)|\.json\Z"
)
"""Of a path: what steps of builds make."""
_BEFORE = ("build", "prebuild", "postinstall", "prepare")
_MAKES = re.compile(
    r"\b(?:node|tsx|ts-node|bun|deno|python\d?|sh|bash|make|codegen|cp|wasm-pack)\s"
)


def portless(folder: Folder, manifest: PackageJson) -> str:
    """Returns what a package is that certainly listens on no port; "" for any other."""
    for package, (mark, kind) in _SOCKETS.items():
        is_socket = package in manifest.dependencies and has_in_sources(
            folder, re.compile(re.escape(mark.encode()))
        )
        if is_socket and not has_in_sources(folder, LISTENS):
            return f"{folder.path('package.json')} has {package}: this is {kind}"
    what = next((it for it in _PORTLESS if it in manifest.dependencies), "")
    what = what or ("electron" if "electron" in manifest.dev_dependencies else "")
    if not what or may_listen(folder, manifest):
        return ""
    return f"{folder.path('package.json')} has {what}: this is {_PORTLESS[what]}"


def has_in_sources(folder: Folder, pattern: re.Pattern[bytes]) -> bool:
    """Whether a source of the package has the pattern."""
    names = (it for it in folder.ending(*ENDINGS) if "node_modules/" not in it)
    return any(
        pattern.search(folder.data(name, limit=_BYTES_LIMIT)) is not None
        for name in islice(names, _FILES_LIMIT)
    )


def may_listen(folder: Folder, manifest: PackageJson) -> bool:
    """Whether a package depends on a server, or a source of it may listen on a port."""
    if not _SERVERS.isdisjoint(manifest.dependencies):
        return True
    left = _SOURCES_LIMIT
    for name in folder.ending(*ENDINGS):
        if "node_modules/" in name:
            continue
        data = folder.data(name, limit=_BYTES_LIMIT)
        left -= len(data)
        if left < 0 or len(data) == _BYTES_LIMIT or _MAY_LISTEN.search(data):
            return True
    return False


def _statements(text: str) -> Iterator[re.Match[str]]:
    """Yields what imports: statements at the beginnings of lines, and calls anywhere."""
    for word, pattern in _WORDS:
        place = text.find(word)
        while place >= 0:
            match = pattern.match(text, place)
            before = text[max(place - 200, 0) : place]
            is_whole = not before[-1:].isidentifier() and before[-1:] not in ("$", ".")
            if pattern is _STATEMENT:
                is_whole = before.rstrip(" \t")[-1:] in ("", "\n", ";")
            if match is not None and is_whole:
                yield match
            place = text.find(word, place + len(word))


def _is_fetch(first: str, whole: str, packages: dict[str, str]) -> bool:
    match = _FETCH.search(first)
    is_object = match is not None and "fetch" in match[0]
    is_router = match is not None and not _ROUTERS.isdisjoint(packages)
    return (is_object or is_router) and LISTENS.search(whole.encode()) is None


def _is_type(names: str) -> bool:
    """Whether an import is of types alone, which are not there when the program runs."""
    if _TYPE.match(names):
        return True
    inside = names.strip()
    listed = [it for it in inside[1:-1].split(",") if it.strip()] if inside[:1] == "{" else []
    return bool(listed) and all(_TYPE.match(it.strip()) for it in listed)


def _are_values(names: str, text: str, place: tuple[int, int]) -> bool:
    """Whether each imported name is used as a value: Node removes no import of a type."""
    inside = names.partition("{")[2].partition("}")[0]
    rest = text[: place[0]] + text[place[1] :]
    for name in inside.split(","):
        word = name.strip().rpartition(" ")[2]
        if not word[:1].isupper() or _TYPE.match(name.strip()):
            continue
        before = r"(?:\bnew\s+|[=(,\[{!?&|]\s*|\breturn\s+|\.\.\.)"
        if not re.search(rf"{before}{word}\b(?!\s*[<\w>])|\b{word}\s*[.(]", rest):
            return False
    return True


def _local(folder: Folder, file: str, source: str, aliases: tuple[str, ...]) -> str | None:
    """Returns the upload's file that is imported, None for another."""
    if source.startswith(("./", "../")) or source in (".", ".."):
        places = [posixpath.join(posixpath.dirname(file), source)]
    elif source.startswith(aliases):
        alias = max((it for it in aliases if source.startswith(it)), key=len)
        rest = source.removeprefix(alias).lstrip("/")
        places = [f"src/{rest}", rest]
    else:
        return None
    for place in map(posixpath.normpath, places):
        if place.startswith((".", "/")):
            continue
        stem = place.removesuffix(".js")
        ends = (
            place,
            *(f"{place}{e}" for e in (*ENDINGS, ".json", ".node")),
            f"{stem}.ts",
            f"{stem}.tsx",
        )
        found = folder.first(*ends, *(f"{place}/index{e}" for e in ENDINGS))
        if found is not None:
            return found
    return None


def _is_absent(folder: Folder, file: str, source: str) -> bool:
    place = posixpath.normpath(posixpath.join(posixpath.dirname(file), source))
    return not place.startswith("..") and not folder.has_directory("" if place == "." else place)


def _package(source: str, aliases: tuple[str, ...]) -> str:
    """Returns the package that is imported, "" if it is none."""
    if ":" in source or source.startswith((".", *aliases)):
        return ""
    match = _NAME.match(source)
    if match is None or source[match.end() : match.end() + 1] not in ("", "/"):
        return ""
    return "" if match[0] in _BUILTINS else match[0]


def _is_own(folder: Folder, name: str) -> bool:
    """Whether it is a directory of the upload, which tsconfig.json's baseUrl makes importable."""
    is_configured = folder.first("tsconfig.json", "jsconfig.json") is not None
    return is_configured and any(folder.has_directory(place) for place in (name, f"src/{name}"))


def _version(name: str, text: str, *, is_required: bool) -> str:
    older = next((v for it, pattern, v in _OLDER if it == name and pattern.search(text)), "")
    return older or (_REQUIRED.get(name, "") if is_required else "") or "latest"

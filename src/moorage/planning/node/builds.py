"""Finds what builds a package without a build script: its framework, or TypeScript."""

import json
import posixpath
import re
from collections.abc import Collection
from itertools import islice
from typing import NamedTuple

from moorage.planning.clients import handed
from moorage.planning.node.package_json import (
    NEXT_START,
    PACKAGES,
    SCRIPT_FILES,
    PackageJson,
    command_of,
    is_development_server,
    server_file,
)
from moorage.planning.plan import Risk, Stops, risk_of
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import word_tuple

_OBJECT_LIMIT = 8_192  # characters looked at around a key
_ENDINGS = ("js", "ts", "mjs", "mts", "cjs", "json")
_NEXT_EXPORT = re.compile(r"""\boutput\s*:\s*['"`]export['"`]""")
_NO_SSR = re.compile(r"\bssr\s*:\s*false\b")
_TSC = re.compile(r"tsc(?=[ \t]|\Z)")
_OUT_DIR = re.compile(r"--outDir[ \t=]+([\w./-]{1,100})")
_NO_EMIT = re.compile(r"\bnoEmit\"\s*:\s*true\b")
_PATHS = re.compile(r"\"paths\"\s*:\s*\{([^}]{0,4096})\}")
_PATHS_KEY = re.compile(r"\"([^\"*]{0,100})\*?\"\s*:")
_PATH = (
    r"\s*:\s*(?P<absolute>(?:path\.)?(?:resolve|join)\(\s*(?:__dirname|import\.meta\.dirname)\s*,\s*)?"
    r"""['"`](?P<path>[\w./-]{1,100})['"`]"""
)
_VITE_ROOT = re.compile(rf"\broot{_PATH}")
_VITE_LIB = re.compile(r"\blib\s*:\s*\{")
_VITE_OUT = re.compile(rf"\boutDir{_PATH}")
# Comments, and the strings they may seem to begin in; each branch matches closed or not.
_COMMENT = re.compile(
    r"""("(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?|`(?:[^`\\]|\\[\s\S])*`?)"""
    r"|//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)"
)


def vite_output(folder: Folder, build: str) -> str:
    """Returns Vite's output directory: --outDir of the build's command, else `build.outDir`.

    Both are relative to root unless made absolute.
    """
    text = config_text(folder, "vite.config")
    root = _VITE_ROOT.search(text)
    out = next((m for m in _VITE_OUT.finditer(text) if _is_in(text, m.start(), "build")), None)
    option = _OUT_DIR.search(build)
    if option is not None:
        output = posixpath.normpath(posixpath.join(root["path"] if root else "", option[1]))
        return "dist" if output.startswith(("..", "/")) or output == "." else output
    base = "" if root is None or (out is not None and out["absolute"]) else root["path"]
    output = posixpath.normpath(posixpath.join(base, out["path"] if out is not None else "dist"))
    return "dist" if output.startswith(("..", "/")) or output == "." else output


def is_library(folder: Folder) -> bool:
    """Whether Vite is configured to build a library instead of pages."""
    text = config_text(folder, "vite.config")
    return any(_is_in(text, it.start(), "build") for it in _VITE_LIB.finditer(text))


def bundler_output(folder: Folder, manifest: PackageJson, usual: str) -> str:
    """Returns the directory of the pages of Webpack, Rollup or Gulp.

    Where none of their plugins makes a page, that is where the upload has one, around their output.
    """
    text = "".join(config_text(folder, name) for name in _BUNDLER_FILES)
    found = _BUNDLER_OUT.search(text)
    output = posixpath.normpath(
        (found["path"] or found["dest"] or found["file"]) if found else usual
    )
    output = usual if output.startswith(("..", "/")) or output == "." else output
    if found is not None and found["file"]:
        output = posixpath.dirname(output) or usual
    if found is not None and found["dest"]:
        output = output.partition("/")[0]
    if any(manifest.depends_on(name) for name in _PAGE_PLUGINS) or "gulp" in text:
        return output
    place = output
    while place and not folder.has(f"{place}/index.html"):
        place = posixpath.dirname(place)
    if place:
        return place
    return "." if folder.has("index.html") else output


_BUNDLER_FILES = word_tuple(
    "webpack.config webpack.prod webpack.config.prod webpack.common rspack.config rollup.config "
    "gulpfile"
)
_BUNDLER_OUT = re.compile(
    rf"\bpath{_PATH}|\bdest\(\s*['\"`](?:\./)?(?P<dest>[\w./-]{{1,100}})['\"`]"
    r"|\bfile\s*:\s*['\"`](?:\./)?(?P<file>[\w./-]{1,100})['\"`]"
)
_PAGE_PLUGINS = ("html-webpack-plugin", "@rollup/plugin-html", "html-bundler-webpack-plugin")


def _is_in(text: str, place: int, key: str) -> bool:
    """Whether the innermost object around a place of a text is the value of this key."""
    depth = 0
    for index in range(place - 1, max(place - _OBJECT_LIMIT, -1), -1):
        depth += {"}": 1, "{": -1}.get(text[index], 0)
        if depth < 0:
            before = text[max(index - 40, 0) : index]
            return re.search(rf"\b{key}['\"]?\s*:\s*\Z", before) is not None
    return False


def names_package(folder: Folder, config: str, package: str) -> bool:
    """Whether a configuration file imports a package, or a part of it."""
    pattern = rf"""['"]{re.escape(package)}(?:/[^'"]{{0,100}})?['"]"""
    return re.search(pattern, config_text(folder, config)) is not None


def configured_directory(folder: Folder, config: str, key: str) -> str:
    """Returns the directory that a configuration file sets under a key, "" for none."""
    pattern = rf"""\b{key}['"]?\s*:\s*['"`]([\w./-]{{1,100}})['"`]"""
    match = re.search(pattern, config_text(folder, config))
    if match is None or ".." in match[1]:
        return ""
    directory = posixpath.normpath(match[1]).lstrip("/")
    return "" if directory == "." else directory


def compiled_file(folder: Folder, source: str, *, build: str) -> str:
    """Returns the file that tsc compiles a source to, by its options; "" if none."""
    text = config_text(folder, "tsconfig")
    if not text or not _TSC.match(build) or _NO_EMIT.search(text):
        return ""
    option = _OUT_DIR.search(build)
    out = option[1] if option else configured_directory(folder, "tsconfig", "outDir")
    root = configured_directory(folder, "tsconfig", "rootDir") or posixpath.dirname(source)
    relative = source.removeprefix(f"{root}/") if out else source
    return posixpath.normpath(posixpath.join(out, f"{relative.removesuffix('.ts')}.js"))


def next_exports(folder: Folder) -> bool:
    """Whether Next.js is configured to export files instead of a server."""
    return _NEXT_EXPORT.search(config_text(folder, "next.config")) is not None


def is_without_server(folder: Folder) -> bool:
    """Whether React Router or Remix is configured to build files instead of a server."""
    text = config_text(folder, "react-router.config") + config_text(folder, "vite.config")
    return _NO_SSR.search(text) is not None


def config_text(folder: Folder, name: str) -> str:
    """Returns a configuration file's text without comments, "" if there is no file."""
    file = folder.first(*(f"{name}.{ending}" for ending in _ENDINGS))
    text = folder.plain(file)
    return without_comments(text)


def without_comments(text: str) -> str:
    """Returns a text of JavaScript or JSON without its comments."""
    return _COMMENT.sub(lambda match: match[1] or "", text)


def path_aliases(folder: Folder) -> tuple[str, ...]:
    """Returns how names begin that tsconfig.json's `paths` gives to the app's own files."""
    paths = _PATHS.search(config_text(folder, "tsconfig"))
    found = _PATHS_KEY.findall(paths[1]) if paths else []
    return tuple(key for key in found if key)


class AngularOutput(NamedTuple):
    """The output directories of Angular's build."""

    base: str
    files: str  # where the pages are
    is_server: bool


def angular_output(folder: Folder) -> AngularOutput | None:
    """Returns where angular.json's first application is built; None when it doesn't say."""
    if not folder.has("angular.json"):
        return None
    try:
        document = json.loads(folder.source("angular.json"))
        name, project = next(
            (name, project)
            for name, project in document["projects"].items()
            if project.get("projectType", "application") == "application"
        )
        target = project.get("architect", project.get("targets", {}))["build"]
        return angular_target(str(name), target["builder"], target.get("options", {}))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, StopIteration):
        return None


def angular_target(name: str, builder: str, options: dict[str, object]) -> AngularOutput | None:
    """Returns a target's output: the application builder adds browser/, the older one doesn't."""
    path = options.get("outputPath", f"dist/{name}")
    base = path.get("base", f"dist/{name}") if isinstance(path, dict) else path
    pages = path.get("browser", "browser") if isinstance(path, dict) else "browser"
    base = posixpath.normpath(str(base))
    files = posixpath.normpath(f"{base}/{pages}")
    if any(
        path.startswith(("/", "..")) or not re.fullmatch(r"[\w./@-]{1,200}", path)
        for path in (base, files)
    ):
        return None
    if not builder.endswith(":application"):
        return AngularOutput(base, base, False)
    is_server = options.get("outputMode") == "server" or bool(options.get("ssr"))
    return AngularOutput(base, files, is_server and options.get("outputMode") != "static")


# Variables that builds of pages read, by the beginnings that frameworks demand.
_VARIABLE = re.compile(
    rb"\b(?:import\.meta|process)\.env\.((?:EXPO_PUBLIC|GATSBY|NEXT_PUBLIC|PUBLIC|REACT_APP|VITE"
    rb"|VUE_APP)_[A-Z0-9_]{1,80})\b(?!\s*(?:\|\||\?))"
)
# One that names the server which the page calls, with each visitor's own machine to fall back on.
_FALLS_BACK = re.compile(
    rb"\b(?:import\.meta|process)\.env\.((?:EXPO_PUBLIC|GATSBY|NEXT_PUBLIC|PUBLIC|REACT_APP|VITE"
    rb"|VUE_APP)_(?:[A-Z0-9]{1,20}_){0,4}(?:API|BACKEND|SERVER|SOCKET|WS)(?:_[A-Z0-9]{1,20}){0,4})"
    rb"\s{0,40}(?:\|\||\?\?)\s{0,40}['\"`](?:https?|wss?)://(?:localhost|127\.0\.0\.1)[:/'\"`]"
)
_ON_VISITORS = re.compile(
    rb"['\"`]((?:https?|wss?)://(?:localhost|127\.0\.0\.1):(?!11434|1234\b)\d{2,5})"
)
_CALLS = re.compile(
    rb"(?:\b(?:fetch|axios(?:\.\w{1,12})?|io|WebSocket|EventSource)\(\s{0,9}|\bbaseURL[ ]?:[ ]?"
    rb"|\b(?P<word>\w{1,40})(?:[ ]?:[ ]?string)?[ ]?=[ ]?)\Z"
)
_OF_SERVERS = (b"api", b"base", b"backend", b"server")
_BY_PLACE = (b"hostname", b"location.host", b"NODE_ENV", b"env.DEV", b"env.PROD", b"env.MODE")
_PAGES = (".jsx", ".tsx", ".vue", ".svelte", ".html")
_NOT_PAGES = re.compile(
    r"(?:^|/)(?:tests?|__tests__|e2e|mocks?|scripts?|node_modules|dist|server|backend|api|examples?|docs?)/"
    r"|\.(?:config|test|spec|stories|min)\."
)
_SET = re.compile(rb"^[ \t]*(?:export[ \t]+)?([A-Z][A-Z0-9_]{0,100})[ \t]*=", re.MULTILINE)
_ENV_FILES = (".env", ".env.production", ".env.local", ".env.production.local")
_SOURCES = (".js", ".mjs", ".jsx", ".ts", ".mts", ".tsx", ".vue", ".svelte", ".astro")
_SOURCES_LIMIT = 400
_SOURCES_BYTES = 1_048_576  # read in all
_ADDRESSES_LIMIT = 20  # of this machine in a source
_NAMED_LIMIT = 5  # variables in a sentence
_NODE_FILE = re.compile(r"node(?:[ \t]+-[\w=/.-]+)*[ \t]+(?:\./)?([\w./-]{1,200})(?=[ \t]|\Z)")
_COMPILES = ("compile", "build:ts", "build:server", "tsc")


class Implied(NamedTuple):
    """A command or a script that builds a package without a build script, and why."""

    because: str
    command: str = ""
    script: str = ""


def implied_build(folder: Folder, manifest: PackageJson) -> Implied | None:
    """Returns what builds a package without a build script; None when it needs no build."""
    start = command_of(manifest, "start")
    if not manifest.script("start") or is_development_server(manifest):
        if server_file(folder, SCRIPT_FILES) is not None:
            return None
        return _by_framework(folder, manifest)
    return (
        _by_framework(folder, manifest) if NEXT_START.match(start) else _compiled(folder, manifest)
    )


def has_next_app(folder: Folder) -> bool:
    """Whether Next.js finds pages in the folder: in a workspace of nx they are below apps/."""
    return any(folder.has_directory(name) for name in ("app", "pages", "src/app", "src/pages"))


def _by_framework(folder: Folder, manifest: PackageJson) -> Implied | None:
    found = next(
        (build for package, build in PACKAGES["builds"].items() if manifest.depends_on(package)),
        None,
    )
    if found == "next build" and not has_next_app(folder):
        return None
    if found is None and manifest.depends_on("vite") and folder.has("index.html"):
        found = "vite build"
    return Implied(f"package.json has no build script: {found}", found) if found else None


def _compiled(folder: Folder, manifest: PackageJson) -> Implied | None:
    """Returns TypeScript's compiler if the start script runs a file that doesn't exist yet."""
    match = _NODE_FILE.match(command_of(manifest, "start"))
    if match is None or manifest.script("prestart") or not folder.has("tsconfig.json"):
        return None
    name = match[1].rstrip("/")
    if folder.first(name, f"{name}.js", f"{name}.cjs", f"{name}.mjs") or folder.has_directory(name):
        return None
    script = next((name for name in _COMPILES if manifest.script(name)), "")
    if script:
        return Implied(f"{name} is not in the upload: the {script} script makes it", script=script)
    if not manifest.depends_on("typescript"):
        return None
    return Implied(f"{name} is not in the upload: tsc makes it", "tsc")


def unset_variables(folder: Folder, given: Collection[str]) -> tuple[Risk, ...]:
    """Returns the variables that the build puts into pages, and neither a file nor `given` sets.

    A variable with a value to fall back on is left out.
    """
    found: dict[str, str] = {}
    connecting: set[str] = set()
    size = 0
    for name in islice(filter(_is_own, folder.ending(*_SOURCES)), _SOURCES_LIMIT):
        data = folder.source(name)
        if b".env." in data:
            found |= {it.decode(): name for it in _read_by(name, data) if it.decode() not in found}
            if b"NEXT_PUBLIC_" in data:  # Next.js' build loads the module, and ends with it
                connecting |= {it.variable for it in handed([(name, data)]) if it.connects}
        size += len(data)
        if size >= _SOURCES_BYTES:
            break
    known = set(given)
    for file in _ENV_FILES if found else ():
        text = folder.source(file)
        known |= {name.decode() for name in _SET.findall(text)}
    missing = sorted(set(found) - known)
    if not missing:
        return ()
    names, file = tuple(missing[:_NAMED_LIMIT]), found[missing[0]]
    stops = Stops.REQUESTS if connecting.isdisjoint(missing) else Stops.BUILD
    return (risk_of("build_reads", folder.path(file), names, stops, file=file),)


def of_visitors_machine(folder: Folder, *, is_site: bool) -> tuple[Risk, ...]:
    """Returns the address of a visitor's own machine that a page calls, where no server does."""
    endings, size = (*_PAGES, ".js", ".ts") if is_site else _PAGES[:-1], 0
    pages = (it for it in folder.ending(*endings) if not _NOT_PAGES.search(it))
    for name in islice(pages, _SOURCES_LIMIT):
        data = folder.source(name)
        size += len(data)
        if size >= _SOURCES_BYTES:
            break
        address = _called(data) if b"://localhost:" in data or b"://127." in data else ""
        if not address or any(word in data for word in _BY_PLACE) or _is_on_server(name, data):
            continue
        return (risk_of("visitors_machine", folder.path(name), file=name, address=address),)
    return ()


def _called(data: bytes) -> str:
    for match in islice(_ON_VISITORS.finditer(data), _ADDRESSES_LIMIT):
        line = data[
            max(data.rfind(b"\n", 0, match.start()) + 1, match.start() - 200) : match.start()
        ]
        call = _CALLS.search(line[-60:])
        if call is None or b"?" in line or line.lstrip().startswith((b"//", b"*", b"#", b"<!--")):
            continue
        word = (call["word"] or b"").lower()
        if not word or any(part in word for part in _OF_SERVERS):
            return match[1].decode()
    return ""


def _is_on_server(name: str, data: bytes) -> bool:
    """Whether a component may be one of Next.js' that run on the server."""
    is_of_next = re.search(r"(?:^|/)app/.+\.[jt]sx\Z", name) is not None
    return is_of_next and b"use client" not in data


def _read_by(name: str, data: bytes) -> set[bytes]:
    """Returns the variables that a source makes the build read."""
    data = _COMMENTED.sub(b"", data)
    found = {*_VARIABLE.findall(data), *_FALLS_BACK.findall(data)}
    if name.startswith("gatsby-config."):
        found.update(_OPTION.findall(data))
    if name.endswith(".astro"):
        found.update(_OF_ASTRO.findall(data))
    if b"import.meta.env.PUBLIC_URL" not in data:  # of process.env it is React Scripts' own
        found.discard(b"PUBLIC_URL")
    return found - _OWN


_COMMENTED = re.compile(rb"^[ \t]*(?://|\*).*", re.MULTILINE)
_OWN = {b"NODE_ENV", b"MODE", b"DEV", b"PROD", b"SSR", b"BASE_URL", b"SITE", b"ASSETS_PREFIX"}
_OPTION = re.compile(rb":\s*process\.env\.([A-Z][A-Z0-9_]{1,80})\b(?!\s*(?:\|\||\?|===?|!==?))")
_OF_ASTRO = re.compile(
    rb"\bimport\.meta\.env\.([A-Z][A-Z0-9_]{1,80})\b(?!\s*(?:\|\||\?|&&|===?|!==?))"
)


def _is_own(name: str) -> bool:
    return "node_modules/" not in name and ".test." not in name

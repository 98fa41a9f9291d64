"""Finds what builds a package without a build script: its framework, or TypeScript."""

import re
from collections.abc import Collection
from itertools import islice
from typing import NamedTuple

from moorage.planning.node.files import SCRIPT_FILES, server_file
from moorage.planning.node.package_json import PackageJson
from moorage.planning.node.scripts import NEXT_START, command_of, is_development_server
from moorage.planning.reading.folder import Folder

# The build commands of packages that have only a development script, or none.
_BY_FRAMEWORK = (
    ("next", "next build"),
    ("nuxt", "nuxt build"),
    ("astro", "astro build"),
    ("gatsby", "gatsby build"),
    ("@docusaurus/core", "docusaurus build"),
    ("react-scripts", "react-scripts build"),
    ("expo", "expo export --platform web"),
    ("@11ty/eleventy", "eleventy"),
)
# Variables that builds of pages read, by the beginnings that frameworks demand.
_VARIABLE = re.compile(
    rb"\b(?:import\.meta|process)\.env\.((?:EXPO_PUBLIC|GATSBY|NEXT_PUBLIC|PUBLIC|REACT_APP|VITE"
    rb"|VUE_APP)_[A-Z0-9_]{1,80})\b(?!\s*(?:\|\||\?))"
)
_SET = re.compile(rb"^[ \t]*(?:export[ \t]+)?([A-Z][A-Z0-9_]{0,100})[ \t]*=", re.MULTILINE)
_ENV_FILES = (".env", ".env.production", ".env.local", ".env.production.local")
_SOURCES = (".js", ".mjs", ".jsx", ".ts", ".mts", ".tsx", ".vue", ".svelte", ".astro")
_SOURCES_LIMIT = 400
_SOURCES_BYTES = 1_048_576  # read in all
_SOURCE_LIMIT = 65_536  # bytes of one
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
    found = next((build for package, build in _BY_FRAMEWORK if manifest.depends_on(package)), None)
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


def unset_variables(folder: Folder, given: Collection[str]) -> str:
    """Says which variables the build puts into pages, and neither a file nor `given` sets; or "".

    A variable with a value to fall back on is left out.
    """
    found: dict[str, str] = {}
    size = 0
    for name in islice(filter(_is_source, folder.names()), _SOURCES_LIMIT):
        data = folder.data(name, limit=_SOURCE_LIMIT)
        for variable in _VARIABLE.findall(data) if b".env." in data else ():
            found.setdefault(variable.decode(), name)
        size += len(data)
        if size >= _SOURCES_BYTES:
            break
    known = set(given)
    for file in _ENV_FILES if found else ():
        text = folder.data(file, limit=_SOURCE_LIMIT) if folder.has(file) else b""
        known |= {name.decode() for name in _SET.findall(text)}
    missing = sorted(set(found) - known)
    if not missing:
        return ""
    names = ", ".join(missing[:_NAMED_LIMIT])
    return (
        f"its build reads {names} ({found[missing[0]]}), and no .env file of the upload sets "
        f"{'it' if len(missing) == 1 else 'them'}: without settings.buildVars the pages have none"
    )


def _is_source(name: str) -> bool:
    return name.endswith(_SOURCES) and "node_modules/" not in name and ".test." not in name

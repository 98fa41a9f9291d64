"""Finds what builds a package without a build script: its framework, or TypeScript."""

import re
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

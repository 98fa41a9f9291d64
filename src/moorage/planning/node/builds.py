"""What builds a package: its script, or where it has none, what its framework builds with."""

import re
from typing import NamedTuple

from moorage.planning.folder import Folder
from moorage.planning.node.files import SCRIPT_FILES, server_file
from moorage.planning.node.package_json import PackageJson
from moorage.planning.node.scripts import NEXT_START, command_of, is_development_server

# What builds a package that only has a script to write it with, or none at all.
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
    """A command, or a script's name, that builds what no build script does, and why."""

    because: str
    command: str = ""
    script: str = ""


def implied_build(folder: Folder, manifest: PackageJson) -> Implied | None:
    """What a package without a build script has to be built with; None when it needs nothing."""
    start = command_of(manifest, "start")
    if not manifest.script("start") or is_development_server(manifest):
        if server_file(folder, SCRIPT_FILES) is not None:
            return None
        return _by_framework(folder, manifest)
    return (
        _by_framework(folder, manifest) if NEXT_START.match(start) else _compiled(folder, manifest)
    )


def _by_framework(folder: Folder, manifest: PackageJson) -> Implied | None:
    found = next((build for package, build in _BY_FRAMEWORK if manifest.depends_on(package)), None)
    if found is None and manifest.depends_on("vite") and folder.has("index.html"):
        found = "vite build"
    return Implied(f"package.json has no build script: {found}", found) if found else None


def _compiled(folder: Folder, manifest: PackageJson) -> Implied | None:
    """TypeScript's compiler, where the start script runs a file that isn't there yet."""
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

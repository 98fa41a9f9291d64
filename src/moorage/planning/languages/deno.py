"""Deno apps: a start task, or a main module."""

import re
from collections.abc import Mapping

from moorage.planning.explicit import Asked, find_tool
from moorage.planning.plan import Recipe, Stack, in_app
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import json_document
from moorage.planning.static import serve
from moorage.planning.toolbox import Toolbox

LOOKED_FOR = ("deno.json with a start task, or main.ts, server.ts, … beside it",)

_MODULES = tuple(
    f"{directory}{name}.{ending}"
    for directory in ("", "src/")
    for name in ("main", "server", "mod", "index", "app")
    for ending in ("ts", "tsx", "js", "mjs")
)
_EXPORTS_FETCH = re.compile(rb"export\s+default\s*\{\s*(?:async\s+)?fetch\b")

_USES_DENO = re.compile(
    rb"\bDeno\.(?:serve|env|listen|openKv|readTextFile)\b"
    rb"|\bfrom\s+['\"](?:jsr:|npm:|https://(?:deno\.land|esm\.sh|jsr\.io)/)"
)


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """deno.json, deno.lock or a module for Deno, without a package.json; None without.

    Raises RuntimeUnsupported.
    """
    configuration = folder.first("deno.json", "deno.jsonc")
    file = configuration or folder.first("deno.lock")
    module = folder.first(*_MODULES)
    if asked.program != "deno" and folder.has("package.json"):
        return None
    if asked.program != "deno" and file is None:
        if asked.program or module is None or not _USES_DENO.search(folder.data(module)):
            return None
        file = module
    found_tasks = json_document(folder, configuration).get("tasks") if configuration else None
    tasks = found_tasks if isinstance(found_tasks, dict) else {}
    start = asked.run or _start(folder, tasks, module)
    output = _site(folder, configuration) if start is None and "build" in tasks else ""
    start = serve(output, fallback=False) if output else start
    if start is None:
        missing = "Deno's files are there, but no start task and no main.ts"
        return Recipe(Stack.DENO, missing=missing)
    found = find_tool(toolbox, "deno", asked.version_of("deno"), file=file or "upload")
    # Imports are downloaded once, into the directory that the app reads them from.
    cache = (("DENO_DIR", in_app(folder.path(".deno"))), ("DENO_NO_UPDATE_CHECK", "1"))
    install = "deno install" if module is None else f"deno cache {module}"
    if module is not None and _has_modules_directory(folder, configuration):
        install = f"deno install && {install}"
    build = "deno task build" if "build" in tasks else None
    because = (f"{file or 'settings.runtime'}: run by {found.tool}", found.because)
    made = None if output else install  # the build of a site fetches what it runs
    own = Recipe(Stack.DENO, made, build, start, because, cache, build_env=cache)
    return asked.over(own._replace(tools=(found.tool,)))


def _site(folder: Folder, configuration: str | None) -> str:
    """Returns the directory that a generator of sites leaves; "" without one."""
    imports = json_document(folder, configuration).get("imports") if configuration else None
    names = imports if isinstance(imports, dict) else {}
    return next((output for name, output in _SITES.items() if name in names), "")


_SITES = {"lume/": "_site", "pagic": "dist"}


def _has_modules_directory(folder: Folder, configuration: str | None) -> bool:
    """Whether packages of npm are to be in node_modules, where tasks find their programs."""
    document = json_document(folder, configuration) if configuration else {}
    return document.get("nodeModulesDir") in ("manual", "auto", True)


def _start(folder: Folder, tasks: Mapping[str, object], module: str | None) -> str | None:
    task = tasks.get("start")
    if isinstance(task, str) and not re.search(r"--watch|vite(?: dev)?\Z", task):
        return "deno task --quiet start"
    if module is None:
        return None
    if _EXPORTS_FETCH.search(folder.source(module)):
        return f"deno serve --allow-all --host 0.0.0.0 --port $PORT {module}"
    return f"deno run --allow-all {module}"

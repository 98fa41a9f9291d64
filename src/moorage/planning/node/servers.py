"""What frameworks' builds leave, where no start script says how it is started."""

import json
import posixpath
import re
from typing import NamedTuple

from moorage.planning.folder import Folder
from moorage.planning.frameworks import SITES, Framework
from moorage.planning.node.engines import allows_from
from moorage.planning.node.package_json import PackageJson
from moorage.planning.plan import Stack
from moorage.planning.semver import Version

CONFIG_LIMIT = 65_536  # bytes read of a framework's configuration
TANSTACK_START = "@tanstack/react-start"
_WITHOUT_NITRO = Version(1, 132, 0)  # its first version that brings none
SERVER_FILES = ("server.js", "server.mjs", "server.cjs")

_NEXT_EXPORT = re.compile(r"""\boutput\s*:\s*['"`]export['"`]""")
_NO_SSR = re.compile(r"\bssr\s*:\s*false\b")
_VITE_OUT_DIR = re.compile(r"""\boutDir\s*:\s*['"`]([\w./-]{1,100})['"`]""")
# What adapter-auto goes by; the variable says Cloud Run, where adapter-node is what it takes.
_ADAPTER_NODE = (("GCP_BUILDPACKS", "moorage"),)
_ENDINGS = ("js", "ts", "mjs", "mts", "cjs")


class Server(NamedTuple):
    """A framework's own server: the command, which runs in the app's directory."""

    command: str
    because: str
    build_env: tuple[tuple[str, str], ...] = ()


def built_server(folder: Folder, manifest: PackageJson) -> Server | None:
    """The server that a framework's build leaves; None when it leaves none that is known."""
    has = manifest.depends_on
    if has("next") and not _next_exports(folder):
        return Server("next start --port $PORT", "Next.js without a start script: next start")
    if has("nuxt") and "generate" not in manifest.script("build"):
        return Server(
            "node .output/server/index.mjs",
            "Nuxt without a start script: its build leaves .output/server/index.mjs",
        )
    if has("@sveltejs/adapter-node"):
        return Server("node build", "SvelteKit's adapter-node leaves a server in build/")
    if has("@sveltejs/adapter-auto") and not has("@sveltejs/adapter-static"):
        return Server(
            "node build",
            "SvelteKit's adapter-auto is told to take adapter-node: a server in build/",
            build_env=_ADAPTER_NODE,
        )
    if has("astro") and has("@astrojs/node"):
        return Server(
            "node dist/server/entry.mjs", "Astro's Node adapter leaves dist/server/entry.mjs"
        )
    if has("@nestjs/core") and not manifest.script("start:prod"):
        return Server("node dist/main", "Nest's build leaves dist/main.js")
    return _router_server(folder, manifest) or _nitro_server(manifest) or _angular_server(folder)


def _router_server(folder: Folder, manifest: PackageJson) -> Server | None:
    """React Router's framework mode, and Remix, whose server it became."""
    if manifest.depends_on("@react-router/dev") and not _is_without_server(folder):
        if not manifest.depends_on("@react-router/serve"):
            return None
        return Server(
            "react-router-serve ./build/server/index.js", "React Router's build leaves a server"
        )
    if manifest.depends_on("@remix-run/serve") and not _is_without_server(folder):
        return Server("remix-serve ./build/server/index.js", "Remix's build leaves a server")
    return None


def _nitro_server(manifest: PackageJson) -> Server | None:
    brings = ("vinxi", "@solidjs/start", *(() if needs_nitro(manifest) else (TANSTACK_START,)))
    for package in ("nitro", "nitropack", *brings):
        if manifest.depends_on(package):
            return Server(
                "node .output/server/index.mjs",
                f"{package} builds a server into .output/server/index.mjs",
            )
    return None


def needs_nitro(manifest: PackageJson) -> bool:
    """Whether it is a TanStack Start that leaves a handler of requests and no server."""
    versions = {**manifest.dev_dependencies, **manifest.dependencies}
    return allows_from(versions.get(TANSTACK_START, "0"), _WITHOUT_NITRO)


def _angular_server(folder: Folder) -> Server | None:
    output = _angular_output(folder)
    if output is None or not output.is_server:
        return None
    return Server(
        f"node {output.base}/server/server.mjs", "Angular's build leaves a server: angular.json"
    )


def site(folder: Folder, manifest: PackageJson, wanted: Framework | None) -> Framework | None:
    """The site generator whose output is served; `wanted` where the dependencies name none."""
    has = manifest.depends_on
    if has("next"):
        return Framework("Next.js with output: 'export'", Stack.NODE, output="out")
    if has("nuxt"):
        return Framework("nuxt generate", Stack.NODE, output=".output/public")
    if has("@react-router/dev") or has("@remix-run/dev"):
        return (
            Framework("React Router without a server", Stack.NODE, "", "build/client", True)
            if _is_without_server(folder)
            else None
        )
    if has("@sveltejs/kit"):
        static = has("@sveltejs/adapter-static")
        return Framework("SvelteKit", Stack.NODE, "", "build", True) if static else None
    if has(TANSTACK_START):
        return None
    found = next((site for site in SITES if has(site.package)), None)
    if found is None:
        found = wanted if wanted is not None and wanted.output else None
    if found is None or folder.first(*SERVER_FILES) is not None:
        return None
    if found.name == "angular":
        output = _angular_output(folder)
        return found._replace(output=output.files) if output is not None else None
    return _with_vite_directory(folder, found) if found.name == "vite" else found


def _with_vite_directory(folder: Folder, vite: Framework) -> Framework:
    match = _VITE_OUT_DIR.search(_config(folder, "vite.config"))
    if match is None or ".." in match[1]:
        return vite
    output = posixpath.normpath(match[1]).lstrip("/")
    return vite._replace(output=output) if output != "." else vite


def _next_exports(folder: Folder) -> bool:
    return _NEXT_EXPORT.search(_config(folder, "next.config")) is not None


def _is_without_server(folder: Folder) -> bool:
    text = _config(folder, "react-router.config") + _config(folder, "vite.config")
    return _NO_SSR.search(text) is not None


def _config(folder: Folder, name: str) -> str:
    """A configuration file's text, "" without one."""
    file = folder.first(*(f"{name}.{ending}" for ending in _ENDINGS))
    return folder.data(file, limit=CONFIG_LIMIT).decode(errors="replace") if file else ""


class _AngularOutput(NamedTuple):
    base: str
    files: str  # where the pages are
    is_server: bool


def _angular_output(folder: Folder) -> _AngularOutput | None:
    """Where angular.json's first application is built to; None when it doesn't say."""
    if not folder.has("angular.json"):
        return None
    try:
        document = json.loads(folder.data("angular.json", limit=CONFIG_LIMIT))
        name, project = next(
            (name, project)
            for name, project in document["projects"].items()
            if project.get("projectType", "application") == "application"
        )
        target = project.get("architect", project.get("targets", {}))["build"]
        return _angular_target(str(name), target["builder"], target.get("options", {}))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, StopIteration):
        return None


def _angular_target(name: str, builder: str, options: dict[str, object]) -> _AngularOutput | None:
    """The application builder puts pages into browser/, the older one where it is told."""
    path = options.get("outputPath", f"dist/{name}")
    base = path.get("base", f"dist/{name}") if isinstance(path, dict) else path
    pages = path.get("browser", "browser") if isinstance(path, dict) else "browser"
    base = posixpath.normpath(str(base))
    if base.startswith(("/", "..")) or not re.fullmatch(r"[\w./@-]{1,200}", base):
        return None
    if not builder.endswith(":application"):
        return _AngularOutput(base, base, False)
    files = posixpath.normpath(f"{base}/{pages}")
    is_server = options.get("outputMode") == "server" or bool(options.get("ssr"))
    return _AngularOutput(base, files, is_server and options.get("outputMode") != "static")

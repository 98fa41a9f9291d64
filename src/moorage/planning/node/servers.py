"""What frameworks' builds leave, where no start script says how it is started."""

import re
from typing import NamedTuple

from moorage.planning.folder import Folder
from moorage.planning.node.configured import angular_output, is_without_server, next_exports
from moorage.planning.node.engines import allows_from
from moorage.planning.node.package_json import PackageJson
from moorage.planning.node.scripts import NEXT_START
from moorage.planning.semver import Version

QWIK_CITY = ("@builder.io/qwik-city", "@qwik.dev/router")
TANSTACK_START = "@tanstack/react-start"
_WITHOUT_NITRO = Version(1, 132, 0)  # its first version that brings none

_ADONIS_START = "node bin/server.js"
_ROUTER_SERVE = re.compile(r"(?:react-router|remix)-serve\b")
# What adapter-auto goes by; the variable says Cloud Run, where adapter-node is what it takes.
_ADAPTER_NODE = (("GCP_BUILDPACKS", "moorage"),)


class Server(NamedTuple):
    """A framework's own server: the command, which runs in the app's directory."""

    command: str
    because: str
    build_env: tuple[tuple[str, str], ...] = ()
    run_env: tuple[tuple[str, str], ...] = ()


def lacks_server(folder: Folder, manifest: PackageJson, command: str) -> str:
    """What a start command needs and the build is set not to leave; "" if nothing is known."""
    if NEXT_START.match(command) and next_exports(folder):
        return "needs a server, and output: 'export' leaves files alone"
    if _ROUTER_SERVE.match(command) and is_without_server(folder):
        return "needs a server, and ssr: false leaves files alone"
    if manifest.depends_on("@adonisjs/core") and command.startswith(_ADONIS_START):
        return "is for the directory that its build makes"
    return ""


def built_server(folder: Folder, manifest: PackageJson) -> Server | None:
    """The server that a framework's build leaves; None when it leaves none that is known."""
    has = manifest.depends_on
    if has("next") and not next_exports(folder):
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
    return (
        _compiled_server(manifest)
        or _router_server(folder, manifest)
        or _nitro_server(manifest)
        or _angular_server(folder)
    )


def _compiled_server(manifest: PackageJson) -> Server | None:
    """Adonis's, Nest's, and the one of Qwik's adapters, which its serve script starts."""
    if manifest.depends_on("@adonisjs/core"):
        return Server(f"cd build && exec {_ADONIS_START}", "Adonis's build leaves an app in build/")
    if is_qwik_city(manifest) and manifest.script("serve").startswith("node server/"):
        return Server(manifest.script("serve"), "Qwik's adapter leaves a server: its serve script")
    if manifest.depends_on("@nestjs/core") and not manifest.script("start:prod"):
        return Server("node dist/main", "Nest's build leaves dist/main.js")
    return None


def _router_server(folder: Folder, manifest: PackageJson) -> Server | None:
    """React Router's framework mode, and Remix, whose server it became."""
    if manifest.depends_on("@react-router/dev") and not is_without_server(folder):
        if not manifest.depends_on("@react-router/serve"):
            return None
        return Server(
            "react-router-serve ./build/server/index.js", "React Router's build leaves a server"
        )
    if manifest.depends_on("@remix-run/serve") and not is_without_server(folder):
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


def server_environment(manifest: PackageJson) -> tuple[tuple[str, str], ...]:
    """What servers have to be told behind a proxy that lets only the app's own hosts through."""
    found: list[tuple[str, str]] = []
    if manifest.depends_on("@angular/ssr"):
        found.append(("NG_ALLOWED_HOSTS", "*"))  # else 400 for whoever asks
    if manifest.depends_on("@sveltejs/kit") and not manifest.depends_on("@sveltejs/adapter-static"):
        found.append(("PROTOCOL_HEADER", "x-forwarded-proto"))  # else forms are refused over HTTP
    return tuple(found)


def is_qwik_city(manifest: PackageJson) -> bool:
    """Whether it is Qwik's framework, whose build leaves no page by itself."""
    return any(manifest.depends_on(package) for package in QWIK_CITY)


def needs_nitro(manifest: PackageJson) -> bool:
    """Whether it is a TanStack Start that leaves a handler of requests and no server."""
    versions = {**manifest.dev_dependencies, **manifest.dependencies}
    return allows_from(versions.get(TANSTACK_START, "0"), _WITHOUT_NITRO)


def _angular_server(folder: Folder) -> Server | None:
    output = angular_output(folder)
    if output is None or not output.is_server:
        return None
    return Server(
        f"node {output.base}/server/server.mjs", "Angular's build leaves a server: angular.json"
    )

"""Finds the servers that frameworks' builds make, and builds that are sites of files."""

import posixpath
import re
from shlex import quote
from typing import NamedTuple

from moorage.planning.frameworks import SITES, Framework
from moorage.planning.node.builds import (
    angular_output,
    bundler_output,
    config_text,
    configured_directory,
    is_library,
    is_without_server,
    names_package,
    next_exports,
    vite_output,
)
from moorage.planning.node.package_json import (
    NEXT_START,
    PACKAGES,
    SERVER_FILES,
    PackageJson,
    build_script,
    command_of,
)
from moorage.planning.node.package_managers import allows_from
from moorage.planning.plan import Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import Version

QWIK_CITY = frozenset(("@builder.io/qwik-city", "@qwik.dev/router"))
TANSTACK_START = "@tanstack/react-start"
_WITHOUT_NITRO = Version(1, 132, 0)  # TanStack Start's first version without Nitro

# Plugins of other platforms, with which its build makes something else.
CLOUDFLARE = "@cloudflare/vite-plugin"
_WORKER = re.compile(r"\bmain['\"]?\s*[:=]")
_FOREIGN_PLUGINS = (CLOUDFLARE, "@netlify/vite-plugin-tanstack-start")
_HANDLER = "dist/server/server.js"
_NO_HANDLER = (
    f"The build left no {_HANDLER}, which srvx serves: add nitro and its plugin, or a start script."
)
_SRVX = ".srvx"  # apart from the app's packages, whichever package manager installs these

_ADONIS_START = "node bin/server.js"
_ROUTER_SERVE = re.compile(r"(?:react-router|remix)-serve\b")
# SvelteKit's adapter-auto takes this variable for Cloud Run, where it uses adapter-node.
_ADAPTER_NODE = (("GCP_BUILDPACKS", "moorage"),)


class Server(NamedTuple):
    """A framework's own server: the command, which runs in the app's directory."""

    command: str
    because: str
    build_env: tuple[tuple[str, str], ...] = ()
    after_build: str = ""  # a command that adds what the build doesn't make


def lacks_server(folder: Folder, manifest: PackageJson, command: str) -> str:
    """Returns what a start command needs and the build is configured not to make; "" if unknown."""
    if NEXT_START.match(command) and next_exports(folder):
        return "needs a server, and output: 'export' leaves files alone"
    if _ROUTER_SERVE.match(command) and is_without_server(folder):
        return "needs a server, and ssr: false leaves files alone"
    if manifest.depends_on("@adonisjs/core") and command.startswith(_ADONIS_START):
        return "is for the directory that its build makes"
    return ""


def built_server(folder: Folder, manifest: PackageJson) -> Server | None:
    """Returns the server that a framework's build makes; None when none is known."""
    has = manifest.depends_on
    if has("next") and not next_exports(folder):
        return Server("next start --port $PORT", "Next.js without a start script: next start")
    if has("nuxt") and "generate" not in manifest.script("build"):
        return Server(
            "node .output/server/index.mjs",
            "Nuxt without a start script: its build leaves .output/server/index.mjs",
        )
    if has("@sveltejs/adapter-node"):
        out = configured_directory(folder, "svelte.config", "out") or "build"
        return Server(f"node {quote(out)}", f"SvelteKit's adapter-node leaves a server in {out}/")
    if has("@sveltejs/adapter-auto") and not has("@sveltejs/adapter-static"):
        return Server(
            "node build",
            "SvelteKit's adapter-auto is told to take adapter-node: a server in build/",
            build_env=_ADAPTER_NODE,
        )
    if has("@analogjs/platform") and not _ANALOG_SITE.search(config_text(folder, "vite.config")):
        return Server("node dist/analog/server/index.mjs", "Analog's build leaves a server")
    if has("astro") and has("@astrojs/node"):
        return Server(
            "node dist/server/entry.mjs", "Astro's Node adapter leaves dist/server/entry.mjs"
        )
    return (
        _compiled_server(manifest)
        or _router_server(folder, manifest)
        or _nitro_server(manifest)
        or _handler_server(manifest)
        or _angular_server(folder)
    )


_FOREIGN = tuple(PACKAGES["adapters"].split())
_HONOS = tuple(name for name in _FOREIGN if name.startswith("@hono/"))


_ANALOG_SITE = re.compile(r"\bstatic\s*:\s*true\b")
_PRESET = re.compile(r"\bpreset\s*:\s*['\"`]([\w-]{1,40})['\"`]")
_OWN_PRESETS = frozenset(
    ("node", "node-server", "node-cluster", "node_server", "node_cluster", "bun", "static")
)


def preset_environment(folder: Folder, manifest: PackageJson) -> tuple[tuple[str, str], ...]:
    """Returns the variable that makes Nuxt and SolidStart build Node's server after all."""
    name = "nuxt.config" if manifest.depends_on("nuxt") else "app.config"
    if name == "app.config" and not manifest.depends_on("@solidjs/start"):
        return ()
    found = _PRESET.search(config_text(folder, name))
    if found is None or found[1] in _OWN_PRESETS or found[1].startswith("github"):
        return ()
    return (("NITRO_PRESET", "node-server"),)


def foreign_adapter(folder: Folder, manifest: PackageJson) -> str:
    """Returns which configuration takes an adapter for another platform; "" if none does."""
    config = "vite.config"
    for name in _HONOS:
        if manifest.depends_on("@hono/vite-build") and names_package(folder, config, name):
            return f"its configuration takes {name} (take @hono/vite-build/node here)"
    found = next((name for name in _FOREIGN if manifest.depends_on(name)), "")
    if found == CLOUDFLARE:
        instead = "a server of Node's with the same routes"
    elif found.startswith("@astrojs/"):
        config, instead = "astro.config", "@astrojs/node"
    else:
        config, instead = "svelte.config", "@sveltejs/adapter-node"
    if not found or not names_package(folder, config, found):
        return ""
    if found == CLOUDFLARE and not _WORKER.search(config_text(folder, "wrangler")):
        return ""  # files alone
    return f"its configuration takes {found} (take {instead} here)"


def _compiled_server(manifest: PackageJson) -> Server | None:
    """Returns the server of Adonis, Nest, or a Qwik adapter (started by its serve script)."""
    if manifest.depends_on("@adonisjs/core"):
        return Server(f"cd build && exec {_ADONIS_START}", "Adonis's build leaves an app in build/")
    if is_qwik_city(manifest) and manifest.script("serve").startswith("node server/"):
        return Server(manifest.script("serve"), "Qwik's adapter leaves a server: its serve script")
    if manifest.depends_on("@nestjs/core") and not manifest.script("start:prod"):
        return Server("node dist/main", "Nest's build leaves dist/main.js")
    return None


def _router_server(folder: Folder, manifest: PackageJson) -> Server | None:
    """Returns the server of React Router's framework mode, or of Remix, its predecessor."""
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


def is_handler_served(manifest: PackageJson) -> bool:
    """Whether the build makes a handler of requests, and srvx is installed to serve it."""
    is_handler = needs_nitro(manifest) and _nitro_server(manifest) is None
    return is_handler and not any(manifest.depends_on(plugin) for plugin in _FOREIGN_PLUGINS)


def _handler_server(manifest: PackageJson) -> Server | None:
    if not is_handler_served(manifest):
        return None
    return Server(
        f"{_SRVX}/node_modules/.bin/srvx serve --prod --static ../client {_HANDLER}",
        "TanStack Start's build leaves a handler without a server: srvx is added to serve it",
        after_build=f"{{ test -f {_HANDLER} || {{ echo {quote(_NO_HANDLER)} >&2; exit 1; }}; }} && "
        f"npm install --no-audit --no-fund --loglevel=error --prefix {_SRVX} srvx@1",
    )


def server_environment(manifest: PackageJson) -> tuple[tuple[str, str], ...]:
    """Returns variables that servers need behind our proxy, which passes only the app's hosts."""
    found: list[tuple[str, str]] = []
    if manifest.depends_on("@angular/ssr"):
        found.append(("NG_ALLOWED_HOSTS", "*"))  # else 400 for whoever asks
    if manifest.depends_on("@sveltejs/kit") and not manifest.depends_on("@sveltejs/adapter-static"):
        found.append(("PROTOCOL_HEADER", "x-forwarded-proto"))  # else forms are refused over HTTP
    names = (*manifest.dependencies, *manifest.dev_dependencies)
    if any(it == "next-auth" or it.startswith("@auth/") for it in names):
        found.append(("AUTH_TRUST_HOST", "true"))  # else sign-in ends with UntrustedHost
    return tuple(found)


def is_qwik_city(manifest: PackageJson) -> bool:
    """Whether it is Qwik City, whose build makes no page by itself."""
    return manifest.depends_on_any(QWIK_CITY)


def needs_nitro(manifest: PackageJson) -> bool:
    """Whether it is a TanStack Start whose build makes a request handler but no server."""
    if not manifest.depends_on(TANSTACK_START):
        return False
    versions = {**manifest.dev_dependencies, **manifest.dependencies}
    return allows_from(versions[TANSTACK_START], _WITHOUT_NITRO)


def _angular_server(folder: Folder) -> Server | None:
    output = angular_output(folder)
    if output is None or not output.is_server:
        return None
    return Server(
        f"node {output.base}/server/server.mjs", "Angular's build leaves a server: angular.json"
    )


_BASE = re.compile(r"/[\w.~-]{1,60}(?:/[\w.~-]{1,60}){0,3}", re.ASCII)
_BASE_OPTION = re.compile(r"--base(?:-href)?[= \t]+['\"]?(/[\w./~-]{1,100})")
# Also the first of two, between which a condition decides.
_BASE_VALUE = r"""['"]?\s*+:\s*+(?:[^,\n?]{1,80}\?\s*+)?['"`](/[\w./~-]{1,100})['"`]"""
_ORIGIN = re.compile(r"https?://[^/]*")
_WITH_SERVERS = frozenset(
    (
        *("nuxt", "@sveltejs/kit", "@react-router/dev", "@remix-run/dev", TANSTACK_START),
        *QWIK_CITY,
    )
)
_OF_SITES = frozenset(site.package for site in SITES)
_DOCUMENTS = re.compile(r"(?:vitepress|vuepress)[ \t]+build(?:[ \t]+([\w./-]{1,100}))?(?=[ \t]|\Z)")


def site(folder: Folder, manifest: PackageJson, wanted: Framework | None) -> Framework | None:
    """Returns the site generator whose output is served; `wanted` if the dependencies name none."""
    has = manifest.depends_on
    if has("next"):
        return _next_site(folder)
    if manifest.depends_on_any(_WITH_SERVERS):
        return _without_server(folder, manifest)
    found = None
    if manifest.depends_on_any(_OF_SITES):
        found = next(site for site in SITES if has(site.package))
    else:
        found = wanted if wanted is not None and wanted.output else None
    if found is None or folder.first(*SERVER_FILES) is not None:
        return None
    if found.name in ("vitepress", "vuepress"):
        return found._replace(output=f"{_documents(manifest)}{found.output}")
    return _configured(folder, manifest, found)


def site_base(folder: Folder, manifest: PackageJson, found: Framework) -> str:
    """Returns the path that a site is built for, such as /shop on GitHub Pages; "" for none."""
    command = command_of(manifest, build_script(manifest))
    option = _BASE_OPTION.search(command)
    text = str(manifest.homepage) if found.base == "homepage" else ""
    if option is None and found.base and found.config:
        (file,) = found.config
        file = f"{found.output.removesuffix('dist')}{file}" if file == "config" else file
        given = re.search(rf"\b{found.base}{_BASE_VALUE}", config_text(folder, file))
        text = given[1] if given else ""
    base = (option[1] if option else _ORIGIN.sub("", text)).rstrip("/")
    return base if _BASE.fullmatch(base) else ""


def _without_server(folder: Folder, manifest: PackageJson) -> Framework | None:
    """Returns the output of a framework with servers, if the app is configured without one."""
    has = manifest.depends_on
    if has("nuxt"):
        return _configured_base("nuxt generate", ".output/public", "nuxt.config", "baseURL")
    if has("@sveltejs/adapter-static"):
        found = _configured_base("SvelteKit", "build", "svelte.config", "base")
        return found._replace(fallback=True)
    if has("@react-router/dev") or has("@remix-run/dev"):
        found = Framework("React Router without a server", Stack.NODE, "", "build/client", True)
        return found if is_without_server(folder) else None
    if is_qwik_city(manifest) and folder.has_directory("adapters/static"):
        return Framework("Qwik's static adapter", Stack.NODE, output="dist")
    return None


def _next_site(folder: Folder) -> Framework:
    output = configured_directory(folder, "next.config", "distDir")
    output = "out" if output in ("", ".next") else output
    return _configured_base("Next.js with output: 'export'", output, "next.config", "basePath")


def _configured_base(name: str, output: str, config: str, base: str) -> Framework:
    return Framework(name, Stack.NODE, output=output, config=(config,), base=base)


def _documents(manifest: PackageJson) -> str:
    """Returns the directory below which VitePress or VuePress builds, from the script."""
    match = _DOCUMENTS.match(command_of(manifest, build_script(manifest)))
    directory = posixpath.normpath(match[1] or ".") if match is not None else "."
    return "" if directory.startswith((".", "/")) else f"{directory}/"


_BUNDLERS = ("webpack", "rspack", "gulp", "rollup")


def _configured(folder: Folder, manifest: PackageJson, found: Framework) -> Framework | None:
    """Returns the generator with the output directory of its configuration."""
    if found.name == "angular":
        angular = angular_output(folder)
        return found._replace(output=angular.files) if angular is not None else None
    if found.name == "vite":
        command = command_of(manifest, build_script(manifest))
        if manifest.is_published and is_library(folder):
            return None
        output = vite_output(folder, command)
        files = f"{output}/client" if manifest.depends_on(CLOUDFLARE) else output
        return found._replace(output=files)
    if found.name in _BUNDLERS:
        return found._replace(output=bundler_output(folder, manifest, found.output))
    if not found.setting:
        return found
    outputs = (configured_directory(folder, file, found.setting) for file in found.config)
    return found._replace(output=next(filter(None, outputs), found.output))

"""Finds sites: the directories of files that frameworks' builds make."""

import posixpath
import re

from moorage.planning.frameworks import SITES, Framework
from moorage.planning.node.configured import (
    angular_output,
    configured_directory,
    is_without_server,
    vite_output,
)
from moorage.planning.node.files import SERVER_FILES
from moorage.planning.node.package_json import PackageJson
from moorage.planning.node.scripts import build_script, command_of
from moorage.planning.node.servers import QWIK_CITY, TANSTACK_START, is_qwik_city
from moorage.planning.plan import Stack
from moorage.planning.reading.folder import Folder

# The files and the key that configure another directory than the default.
_OUTPUTS = {
    "astro": (("astro.config",), "outDir"),
    "eleventy": (("eleventy.config", ".eleventy"), "output"),
}
_WITH_SERVERS = (
    *("nuxt", "@sveltejs/kit", "@react-router/dev", "@remix-run/dev", TANSTACK_START),
    *QWIK_CITY,
)
_DOCUMENTS = re.compile(r"(?:vitepress|vuepress)[ \t]+build(?:[ \t]+([\w./-]{1,100}))?(?=[ \t]|\Z)")


def site(folder: Folder, manifest: PackageJson, wanted: Framework | None) -> Framework | None:
    """Returns the site generator whose output is served; `wanted` if the dependencies name none."""
    has = manifest.depends_on
    if has("next"):
        return _next_site(folder)
    if any(has(package) for package in _WITH_SERVERS):
        return _without_server(folder, manifest)
    found = next((site for site in SITES if has(site.package)), None)
    if found is None:
        found = wanted if wanted is not None and wanted.output else None
    if found is None or folder.first(*SERVER_FILES) is not None:
        return None
    if found.name in ("vitepress", "vuepress"):
        return found._replace(output=f"{_documents(manifest)}{found.output}")
    return _configured(folder, manifest, found)


def _without_server(folder: Folder, manifest: PackageJson) -> Framework | None:
    """Returns the output of a framework with servers, if the app is configured without one."""
    has = manifest.depends_on
    if has("nuxt"):
        return Framework("nuxt generate", Stack.NODE, output=".output/public")
    if has("@sveltejs/adapter-static"):
        return Framework("SvelteKit", Stack.NODE, "", "build", True)
    if has("@react-router/dev") or has("@remix-run/dev"):
        found = Framework("React Router without a server", Stack.NODE, "", "build/client", True)
        return found if is_without_server(folder) else None
    if is_qwik_city(manifest) and folder.has_directory("adapters/static"):
        return Framework("Qwik's static adapter", Stack.NODE, output="dist")
    return None


def _next_site(folder: Folder) -> Framework:
    output = configured_directory(folder, "next.config", "distDir")
    output = "out" if output in ("", ".next") else output
    return Framework("Next.js with output: 'export'", Stack.NODE, output=output)


def _documents(manifest: PackageJson) -> str:
    """Returns the directory below which VitePress or VuePress builds, from the script."""
    match = _DOCUMENTS.match(command_of(manifest, build_script(manifest)))
    directory = posixpath.normpath(match[1] or ".") if match is not None else "."
    return "" if directory.startswith((".", "/")) else f"{directory}/"


def _configured(folder: Folder, manifest: PackageJson, found: Framework) -> Framework | None:
    """Returns the generator with the output directory of its configuration."""
    if found.name == "angular":
        angular = angular_output(folder)
        return found._replace(output=angular.files) if angular is not None else None
    if found.name == "vite":
        command = command_of(manifest, build_script(manifest))
        return found._replace(output=vite_output(folder, command))
    if found.name not in _OUTPUTS:
        return found
    files, key = _OUTPUTS[found.name]
    output = next((o for file in files if (o := configured_directory(folder, file, key))), "")
    return found._replace(output=output or found.output)

"""Sites: the files that frameworks' builds leave to be served, and where."""

from moorage.planning.folder import Folder
from moorage.planning.frameworks import SITES, Framework
from moorage.planning.node.configured import (
    angular_output,
    configured_directory,
    is_without_server,
)
from moorage.planning.node.package_json import PackageJson
from moorage.planning.node.servers import SERVER_FILES, TANSTACK_START
from moorage.planning.plan import Stack

# Where another directory than the usual one is configured: the file and its key.
_OUTPUTS = {"vite": ("vite.config", "outDir")}


def site(folder: Folder, manifest: PackageJson, wanted: Framework | None) -> Framework | None:
    """The site generator whose output is served; `wanted` where the dependencies name none."""
    has = manifest.depends_on
    if has("next"):
        return _next_site(folder)
    if has("nuxt"):
        return Framework("nuxt generate", Stack.NODE, output=".output/public")
    if has("@react-router/dev") or has("@remix-run/dev"):
        return (
            Framework("React Router without a server", Stack.NODE, "", "build/client", True)
            if is_without_server(folder)
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
    return _configured(folder, found)


def _next_site(folder: Folder) -> Framework:
    output = configured_directory(folder, "next.config", "distDir")
    output = "out" if output in ("", ".next") else output
    return Framework("Next.js with output: 'export'", Stack.NODE, output=output)


def _configured(folder: Folder, found: Framework) -> Framework | None:
    """The generator with the directory that its configuration names."""
    if found.name == "angular":
        angular = angular_output(folder)
        return found._replace(output=angular.files) if angular is not None else None
    if found.name not in _OUTPUTS:
        return found
    output = configured_directory(folder, *_OUTPUTS[found.name])
    return found._replace(output=output or found.output)

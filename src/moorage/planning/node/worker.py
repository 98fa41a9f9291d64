"""Finds a Cloudflare Worker that Bun can serve, and refuses one that only Cloudflare can run."""

import json
import posixpath
import re
from collections.abc import Mapping
from shlex import quote
from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning.node.imports import ENDINGS
from moorage.planning.node.package_json import PACKAGES, PackageJson, build_script, command_of
from moorage.planning.node.servers import built_server, site
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import json_document, toml_document
from moorage.planning.toolbox import Toolbox

_FILES = ("wrangler.toml", "wrangler.jsonc", "wrangler.json")
_BINDINGS: dict[str, str] = PACKAGES["bindings"]
_WRANGLER = re.compile(r"wrangler\b")
_OLD = re.compile(r"\baddEventListener\(\s{0,20}['\"]fetch['\"]")
_ONLY_THERE = re.compile(
    r"['\"]cloudflare:\w+['\"]|\bextends\s+(?:WorkerEntrypoint|DurableObject)\b"
)
_DEFAULT = re.compile(r"\bexport\s+default\b|\bexport\s*\{[^}]{0,200}\bas\s+default\b")
_VARIABLE = re.compile(r"[A-Za-z_]\w{0,127}")
_SOURCE_LIMIT = 262_144  # bytes
_SERVES = (
    "import worker from {main}; "
    "const context = {{ waitUntil() {{}}, passThroughOnException() {{}} }}; {env} "
    'Bun.serve({{ hostname: "0.0.0.0", port: process.env.PORT, '
    "fetch: async (request) => {first}worker.fetch(request, env, context) }});"
)
# As Cloudflare serves them: a file before the Worker, pages also without their ending.
_ASSETS = """
const file = async (request, page) => {
  const path = decodeURIComponent(new URL(request.url).pathname);
  if (!["GET", "HEAD"].includes(request.method) || /[/][.]/.test(path)) return;
  for (const name of [path, path + ".html", path + "/index.html", ...(page ? ["/index.html"] : [])])
    if (await Bun.file(ROOT + name).exists()) return new Response(Bun.file(ROOT + name));
};
const asset = async (request) =>
  (await file(request, ANY)) ?? new Response("Not found", { status: 404 });
const isPage = (request) => ANY && request.headers.get("sec-fetch-mode") === "navigate";
const env = { ...process.env, BINDING: { fetch: (...it) => asset(new Request(...it)) } };
"""


class Worker(NamedTuple):
    """A Worker that Bun can serve."""

    main: str
    start: str
    because: str
    variables: tuple[tuple[str, str], ...]


def worker(folder: Folder, manifest: PackageJson | None, toolbox: Toolbox) -> Worker | None:
    """Returns the Worker that wrangler's file names; None if the upload is another app.

    Raises RuntimeUnsupported for one that runs at Cloudflare alone, or on a gateway without Bun.
    """
    file = folder.first(*_FILES)
    if file is None or (manifest is not None and _is_other(folder, manifest)):
        return None
    document: Mapping[str, object] = (
        toml_document(folder, file) if file.endswith(".toml") else json_document(folder, file)
    )
    main = document.get("main")
    main = posixpath.normpath(main) if isinstance(main, str) else ""
    if not main.endswith(ENDINGS) or not folder.has(main):
        return None
    _refuse(folder, file, main, document, toolbox)
    variables = document.get("vars")
    given = variables.items() if isinstance(variables, dict) else ()
    env, first = _assets(folder, document) or ("const env = process.env;", "")
    served = _SERVES.format(main=json.dumps(f"./{main}"), env=env, first=first)
    return Worker(
        main,
        f"exec bun -e {quote(served)}",
        f"{file} names {main}, a Worker: Bun serves it, with variables as its env"
        + (", and its assets" if first else ""),
        tuple((n, v) for n, v in given if isinstance(v, str) and _VARIABLE.fullmatch(n)),
    )


def _assets(folder: Folder, document: Mapping[str, object]) -> tuple[str, str] | None:
    """Returns what serves a Worker's files, and what asks it first; None without such files."""
    assets = document.get("assets")
    named = assets.get("directory") if isinstance(assets, dict) else None
    root = posixpath.normpath(named) if isinstance(named, str) else ""
    if not isinstance(assets, dict) or not folder.has_directory(root):
        return None
    is_spa = assets.get("not_found_handling") == "single-page-application"
    binding = json.dumps(str(assets.get("binding", "ASSETS")))
    env = _ASSETS.replace("ROOT", json.dumps(f"./{root}")).replace("ANY", json.dumps(is_spa))
    is_last = assets.get("run_worker_first") is True
    first = "" if is_last else "(await file(request, isPage(request))) ?? "
    return env.replace("BINDING", binding), first or " "


def _is_other(folder: Folder, manifest: PackageJson) -> bool:
    """Whether the package is started by a script of its own, or by its framework's build."""
    start = command_of(manifest, "start")
    if start and not _WRANGLER.match(start):
        return True
    if not build_script(manifest) or _WRANGLER.match(command_of(manifest, "build")):
        return False
    return site(folder, manifest, None) is not None or built_server(folder, manifest) is not None


def _refuse(
    folder: Folder, file: str, main: str, document: Mapping[str, object], toolbox: Toolbox
) -> None:
    text = folder.data(main, limit=_SOURCE_LIMIT).decode(errors="replace")
    others = sorted(_BINDINGS, key=lambda it: (it == "assets", it))
    if _assets(folder, document):
        others.remove("assets")
    used = next((key for key in others if document.get(key)), None)
    problem = ""
    if used is not None:
        problem = f"it uses {used}, which only Cloudflare has: take {_BINDINGS[used]} instead"
    elif _ONLY_THERE.search(text):
        problem = f"{main} imports what only Cloudflare has: export an object with fetch instead"
    elif _OLD.search(text) or not _DEFAULT.search(text):
        problem = f"{main} exports no fetch: write `export default {{ fetch(request, env) … }}`"
    elif not toolbox.has("bun"):
        problem = "Bun would serve this Worker, but this gateway has no bun: listen on PORT instead"
    if problem:
        raise RuntimeUnsupported(folder.path(file), problem)

"""Finds the file that starts a package without a start script."""

import re

from moorage.planning.reading.folder import Folder

SERVER_FILES = ("server.js", "server.mjs", "server.cjs")
ENDINGS = (".js", ".mjs", ".cjs")
SCRIPT_FILES = tuple(
    f"{name}.{ending}"
    for name in ("index", "server", "app", "main")
    for ending in ("js", "mjs", "cjs")
)
TYPESCRIPT_FILES = ("index.ts", "server.ts", "app.ts", "main.ts")
IN_SRC = tuple(f"src/{name}" for name in SCRIPT_FILES)
TYPESCRIPT = (*TYPESCRIPT_FILES, *(f"src/{name}" for name in TYPESCRIPT_FILES))
LISTENS = re.compile(rb"\.listen\s*\(|createServer\s*\(|\bserve\s*\(")
"""What a program calls to listen: Node's servers, Bun.serve, Deno.serve, Hono's serve."""


def server_file(folder: Folder, names: tuple[str, ...]) -> str | None:
    """Returns the first name that is a file; beside a web page it must look like a server."""
    return next((name for name in names if folder.has(name) and serves(folder, name)), None)


def serves(folder: Folder, name: str) -> bool:
    """Whether a file is the app's; beside an index.html it may be the page's script."""
    if name in SERVER_FILES or not folder.has("index.html"):
        return True
    return LISTENS.search(folder.data(name, limit=262_144)) is not None

"""`moorage export`: fetch an archive of a project."""

import asyncio
import hashlib
import os
from pathlib import Path

from moorage.archive.project import new_key
from moorage.cli.commands import Exit
from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.projects import find_project
from moorage.cli.screen import Screen
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientMisconfigured
from moorage.sdk.exports import read_export
from moorage.wire.exports import ExportItem

_POLL_SECONDS = 1.0
_WAIT_SECONDS = 1800


def export(project: str, file: Path | None = None, /, *, options: Options = DEFAULTS) -> int:
    """Fetch an archive of a project: files, volume, logs, and variables for a new key.

    The key is written beside it, as FILE.key: keep it to yourself. `moorage deploy FILE --name
    OTHER` deploys it, on whichever gateway, with the variables that the key opens.

    Parameters
    ----------
    project
        The project's name or id.
    file
        The file to write, which must not exist; NAME.tar in this directory if not given.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)
    target = file or Path(f"{project}.tar")
    if target.exists():
        raise ClientMisconfigured(f"{target} is there already: name another file")
    private, public = new_key()

    async def fetch() -> ExportItem:
        async with connection.signed_client() as client:
            found = await _ready(client, await find_project(client, project), public)
            await _write(client, found, target)
            return found

    made = asyncio.run(fetch())
    manifest = read_export(target).manifest
    if manifest.sealed_to is not None:
        _write_key(Path(f"{target}.key"), private)
    screen.document(made)
    for what, why in manifest.left_out.items():
        screen.warn(f"{what}: not in the archive: {why}")
    screen.result(f"{target}: {made.bytes:,} bytes, sha256 {made.sha256}")
    screen.result(f"Next: moorage deploy {target} --name NAME")
    return Exit.OK


async def _ready(client: Client, project_id: str, public_key: str) -> ExportItem:
    async with asyncio.timeout(_WAIT_SECONDS):
        while True:
            found = await client.export(project_id, public_key=public_key)
            if found.state == "ready":
                return found
            if found.state == "failed":
                raise ClientMisconfigured(f"the export could not be made: {found.reason}")
            await asyncio.sleep(_POLL_SECONDS)


async def _write(client: Client, export: ExportItem, target: Path) -> None:
    """Writes the archive; the file gets its name once it is whole."""
    draft, digest = target.with_name(f"{target.name}.part"), hashlib.sha256()
    with draft.open("wb") as out:
        os.fchmod(out.fileno(), 0o600)
        async for piece in client.fetch_export(export):
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != export.sha256:
        raise ClientMisconfigured(f"{draft} came otherwise than it was sent: run this again")
    draft.replace(target)


def _write_key(path: Path, private_key: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(f"{private_key}\n")

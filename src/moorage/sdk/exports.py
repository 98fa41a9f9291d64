"""Exports on this machine: archives of projects, which can be deployed again."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from moorage.archive.project import VARIABLES, ArchiveRefused, Manifest, open_archive, unseal
from moorage.sdk.errors import DirectoryInvalid

MAX_UPLOAD_BYTES = 50 * 1024 * 1024
"""A larger archive is deployed where it was made, by its digest alone."""


class OpenExport(NamedTuple):
    """An archive on this machine."""

    content: bytes | None  # None: too large to be sent
    sha256: str
    manifest: Manifest
    run: dict[str, str]  # values of variables, if their key lies beside it
    build: dict[str, str]


def read_export(path: Path) -> OpenExport:
    """Reads an archive, and the variables that the key beside it opens.

    Raises DirectoryInvalid if it is no archive of a project, or the key opens nothing of it.
    """
    try:
        with path.open("rb") as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
            archive = open_archive(source)
            part, key = archive.manifest.part(VARIABLES), Path(f"{path}.key")
            values: dict[str, dict[str, str]] = {}
            if part is not None and key.exists():
                sealed = bytearray()
                archive.copy_part(part, _Into(sealed))
                values = msgspec.json.decode(
                    unseal(bytes(sealed), key.read_text().strip()), type=dict[str, dict[str, str]]
                )
    except (OSError, ArchiveRefused, ValueError, msgspec.MsgspecError) as error:
        raise DirectoryInvalid(f"{path} can't be deployed: {error}") from error
    small = path.stat().st_size <= MAX_UPLOAD_BYTES
    return OpenExport(
        content=path.read_bytes() if small else None,
        sha256=sha256,
        manifest=archive.manifest,
        run=values.get("run", {}),
        build=values.get("build", {}),
    )


class _Into:
    def __init__(self, content: bytearray) -> None:
        self._content = content

    def write(self, piece: bytes) -> None:
        self._content += piece

"""Reads and checks the manifest, the first file in a backup, which lists the others."""

import re
from pathlib import PurePosixPath
from typing import Annotated

import msgspec

from moorage.errors import BackupInvalid
from moorage.storage.opening import DATABASE

NAME = "manifest.json"
FORMAT = 1
MAX_BYTES = 64 * 1024 * 1024

KEYS = ("secrets.key", "challenges.key", "relayer.key", "wallets.json")
"""Secret files that a gateway may have in its data directory."""

_TOP = frozenset((DATABASE, *KEYS, "apps", "proxy"))
_PART = re.compile(r"[A-Za-z0-9_+=,@-][A-Za-z0-9_+=,@.-]*", re.ASCII)  # no part begins with a dot
_MAX_PARTS = 16
_MAX_PATH_LENGTH = 1024


class ManifestEntry(msgspec.Struct, frozen=True):
    """One file; `digest` is made by `content.digest_of`."""

    path: str  # below the data directory
    size: Annotated[int, msgspec.Meta(ge=0)]
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A backup's contents."""

    format: int
    version: str  # of the Moorage that made it
    schema: str  # the database's revision
    created_at: str
    data_dir: str  # where the gateway had it
    secrets_key: bool  # whether it contains the key that encrypts variables
    entries: tuple[ManifestEntry, ...]


def read_manifest(content: bytes) -> Manifest:
    """Returns the manifest; every path in it is below the data directory. Raises BackupInvalid."""
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BackupInvalid("It does not begin with a manifest.") from error
    if manifest.format != FORMAT:
        raise BackupInvalid(
            f"Its format is {manifest.format}; this version of Moorage reads {FORMAT}."
        )
    paths = [entry.path for entry in manifest.entries]
    if len(set(paths)) != len(paths) or DATABASE not in paths:
        raise BackupInvalid("Its manifest names a file twice, or no database.")
    for path in paths:
        _check(path)
    _check_no_file_is_a_directory(paths)
    return manifest


def _check(path: str) -> None:
    parts = path.split("/")
    fits = len(path) <= _MAX_PATH_LENGTH and len(parts) <= _MAX_PARTS and parts[0] in _TOP
    if not fits or not all(map(_PART.fullmatch, parts)):
        raise BackupInvalid(
            f"Its manifest names {path[:_MAX_PATH_LENGTH]!r}, which no gateway keeps."
        )


def _check_no_file_is_a_directory(paths: list[str]) -> None:
    directories = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    if not directories.isdisjoint(paths):
        raise BackupInvalid("Its manifest names a file as a directory as well.")

"""The manifest: the first thing in a backup, which says what else is in it."""

import re
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec

from moorage.errors import BackupInvalid

NAME = "manifest.json"
FORMAT = 1
MOST_BYTES = 64 * 1024 * 1024

DATABASE = "moorage.db"
KEYS = ("secrets.key", "challenges.key", "relayer.key", "wallets.json")
"""What a gateway may keep in its data directory that nobody else must have."""

_TOP = frozenset((DATABASE, *KEYS, "apps", "proxy"))
_PART = re.compile(r"[A-Za-z0-9_+=,@-][A-Za-z0-9_+=,@.-]*", re.ASCII)  # no part begins with a dot
_MOST_PARTS = 16
_LONGEST = 1024


class ManifestEntry(msgspec.Struct, frozen=True):
    """One file; `digest` is that of `content`."""

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
    secrets_key: bool  # whether the key that variables are sealed with is in it
    entries: tuple[ManifestEntry, ...]


def read_manifest(content: bytes) -> Manifest:
    """The manifest, checked: every path stays below the data directory. Raises BackupInvalid."""
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
    fits = len(path) <= _LONGEST and len(parts) <= _MOST_PARTS and parts[0] in _TOP
    if not fits or not all(map(_PART.fullmatch, parts)):
        raise BackupInvalid(f"Its manifest names {path[:_LONGEST]!r}, which no gateway keeps.")


def _check_no_file_is_a_directory(paths: list[str]) -> None:
    directories = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    if not directories.isdisjoint(paths):
        raise BackupInvalid("Its manifest names a file as a directory as well.")


def is_kept(path: Path) -> bool:
    """Whether a file below the data directory, as a relative path, may be in a backup."""
    try:
        _check(path.as_posix())
    except BackupInvalid:
        return False
    return True

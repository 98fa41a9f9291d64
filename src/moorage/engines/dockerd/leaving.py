"""Takes an app's own files out of its image, to be built on another engine.

The archive is the daemon's, of files that a hostile build may have made. Only directories and
files are made of it, below one new directory, so that no link leads anywhere. Blocking.
"""

import contextlib
import shutil
import tarfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import IO

from moorage.engines.disks.trees import no_long_paths
from moorage.engines.dockerd.builder import Builder
from moorage.engines.failure import not_apart
from moorage.engines.images.recipe import APP
from moorage.engines.images.registry import Credentials
from moorage.errors import DeployFailed, FailureCause
from moorage.threads import in_thread

_MAX_DEPTH = 64
_ARCHIVE_BYTES = 256 * 1024**2  # that an archive may have beside its files
_TOO_LARGE = "the app's files can't be moved: with one file under several names they are too large"


async def export_app(
    builder: Builder,
    image: str,
    target: Path,
    *,
    without: Collection[str],
    max_bytes: int,
    credentials: Credentials | None = None,
) -> None:
    """Copies what an image has in `/app` into the new directory `target`.

    As `unpack_files`. Raises BuilderFailed, and DeployFailed where there is no such directory.
    """
    archive, most = target.with_suffix(".tar"), max_bytes + _ARCHIVE_BYTES
    try:
        await builder.copy_files(image, f"{APP}/", archive, max_bytes=most, credentials=credentials)
        await in_thread(unpack_files, archive, target, without=without, max_bytes=most)
    finally:
        archive.unlink(missing_ok=True)


def unpack_files(archive: Path, target: Path, *, without: Collection[str], max_bytes: int) -> None:
    """Writes the files below the archive's one directory into the new directory `target`.

    Links are left out, except second names of files, and directories with a name in `without`.
    Raises DeployFailed for more than `max_bytes`, or directories that are nested too deeply;
    OSError.
    """
    target.mkdir(mode=0o700)
    with no_long_paths(), tarfile.open(archive) as tar:
        if tar.next() is None:
            raise not_apart()
        for entry in tar:
            parts = PurePosixPath(entry.name).parts[1:]
            directories = parts if entry.isdir() else parts[:-1]
            if not parts or ".." in parts or set(directories) & set(without):
                continue
            if len(parts) > _MAX_DEPTH:
                raise DeployFailed(
                    FailureCause.BUILD_FAILED,
                    "the app's directories are nested too deeply to be moved",
                )
            path = target.joinpath(*parts)
            if entry.isdir():
                path.mkdir(mode=0o755, parents=True, exist_ok=True)
            elif entry.isreg() or entry.islnk():
                max_bytes -= _write(tar, entry, path, max_bytes)


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path, max_bytes: int) -> int:
    """Writes one file; returns its size, 0 for one that the archive lacks."""
    content: IO[bytes] | None = None
    with contextlib.suppress(KeyError):  # its first name is outside the directory
        content = tar.extractfile(entry)
    if content is None:
        return 0
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with content, path.open("xb") as writing:
        shutil.copyfileobj(content, writing)
        size = writing.tell()
    if size > max_bytes:
        raise DeployFailed(FailureCause.OUT_OF_DISK, _TOO_LARGE)
    path.chmod(0o755 if entry.mode & 0o100 else 0o644)
    return size

"""What a volume is described by while it goes from one engine to another.

Standard library alone, as it is used in pods.
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class VolumeContent:
    """How much is in a volume."""

    size_bytes: int  # that its files take on a disk, without holes
    files: int  # directories and links as well


@dataclass(frozen=True, kw_only=True)
class NewVolume:
    """A volume that an engine is to have."""

    volume_id: str
    owner: str  # the wallet whose apps use it
    deployment_id: str  # whose app is to use it first; its build is on the same engine
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class VolumeArchive:
    """A volume's files, as `images.layer` writes them."""

    path: Path
    digest: str  # sha256:…


def lack_of_room(status: os.statvfs_result, needed: VolumeContent) -> str:
    """Returns why a file system has no room for so much; "" if it has.

    One that says how many files it can have only as 0 has as many as fit.
    """
    free = status.f_bavail * status.f_frsize
    if needed.size_bytes > free:
        return f"its files take {_mib(needed.size_bytes)} MiB, and {_mib(free)} MiB fit"
    if status.f_files and needed.files > status.f_ffree:
        return f"it has {needed.files:,} files, and {status.f_ffree:,} fit"
    return ""


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:,.0f}"

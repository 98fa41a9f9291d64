"""Checks what an image is built from: an upload has files and directories alone.

A link would be kept in the image, where it leads to other files than here. Blocking.
"""

import os
from pathlib import Path

from moorage.errors import DeployFailed, FailureCause


def require_files(source: Path) -> None:
    """Raises DeployFailed if anything below `source` is neither a file nor a directory."""
    below = [source]
    while below:
        with os.scandir(below.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    name = str(Path(entry.path).relative_to(source))
                    raise DeployFailed(
                        FailureCause.UPLOAD_INVALID, f"{name!r} is not a regular file"
                    )

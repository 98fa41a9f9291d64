"""What runs in the pod of a volume.

`python3 -m moorage.engines.kubernetes.carrying.program PLACE NAME WHAT …`; PLACE has the volume.

| WHAT | more words | does |
|---|---|---|
| `content` | | says how many bytes and files there are |
| `room` | BYTES FILES | looks whether so much has room |
| `pack` | BYTES | hands the files over as an archive of at most so many bytes |
| `fill` | BYTES DIGEST | fetches such an archive, of this digest, and unpacks it |

The variable NAME has the URL for an archive. Standard library alone.
"""

import errno
import os
import sys
from functools import partial
from pathlib import Path

from moorage.engines.carried import VolumeContent, lack_of_room
from moorage.engines.disks.unpacking import (
    ArchiveBounds,
    ArchiveRefused,
    empty,
    unpack,
)
from moorage.engines.images.layer import LEFT_BY_MKFS, LayerBounds, Place
from moorage.engines.kubernetes.building.pod.pack import pack
from moorage.engines.kubernetes.building.pod.program import (
    TOO_LARGE,
    Failed,
    answered,
    connected,
    patiently,
    run,
    unreadable,
)

_BLOCK_BYTES = 512


def content(data: Path) -> str:
    """Returns how many bytes the files below a directory take, and how many there are."""
    size, files = 0, 0
    for parent, directories, names in os.walk(data, onerror=_unreadable):
        if parent == str(data) and LEFT_BY_MKFS in directories:
            directories.remove(LEFT_BY_MKFS)
        for name in (*directories, *names):
            try:
                size += os.lstat(os.path.join(parent, name)).st_blocks * _BLOCK_BYTES  # noqa: PTH118
            except FileNotFoundError:  # an app is running
                continue
            except PermissionError as error:
                raise _refused(parent) from error
            files += 1
    return f"{size} {files}"


def room(data: Path, needed: VolumeContent) -> str:
    """Raises Failed if there is no room for so much."""
    if why := lack_of_room(os.statvfs(data), needed):
        raise Failed(TOO_LARGE, why)
    return ""


def fill(url: str, data: Path, bounds: ArchiveBounds, digest: str) -> str:
    """Unpacks the archive at the URL, in place of what an earlier attempt has left."""
    empty(data)
    with connected(url) as (connection, path):
        connection.request("GET", path)
        try:
            unpack(answered(connection), data, bounds, digest=digest)
        except ArchiveRefused as error:
            raise OSError(f"the archive came incomplete: {error}") from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise Failed(TOO_LARGE, "its files do not fit into the new one") from error
    return ""


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise _refused(error.filename) from error


def _refused(directory: str) -> Failed:
    owner = os.lstat(directory).st_uid
    return unreadable(owner, f"{directory!r}: its owner may not read it")


def main(data: Path, url: str, what: str, *words: str) -> None:
    """Does what the words say."""
    if what == "content":
        run(partial(content, data))
    elif what == "room":
        needed = VolumeContent(size_bytes=int(words[0]), files=int(words[1]))
        run(partial(room, data, needed))
    elif what == "pack":
        bounds = LayerBounds(max_bytes=int(words[0]), is_image=False)
        place = Place(data, data.name, os.getuid())
        run(lambda: patiently(lambda: pack(url, [place], bounds)))
    else:
        size, digest = words
        allowed = ArchiveBounds(max_bytes=int(size))
        run(lambda: patiently(lambda: fill(url, data, allowed, digest)))


if __name__ == "__main__":
    _, place, variable, *rest = sys.argv
    main(Path(place), os.environ.get(variable, ""), *rest)

"""A program in a build's pod: fetches the files, and what the build runs on.

`python3 -m moorage.engines.kubernetes.building.pod.fetch NAME ROOT PLACE…`: the variable NAME has
the URL, and below ROOT the archive is unpacked. What is in the PLACEs before is listed for the
program that packs them, and what is unpacked for the one that keeps the install. Standard library
alone.
"""

import os
import sys
import tarfile
import zlib
from pathlib import Path

from moorage.engines.images.beneath import Beneath, found_in
from moorage.engines.kubernetes.building.pod.program import (
    FILES,
    INSTALLED,
    answered,
    connected,
    patiently,
    run,
)


def fetch(url: str, root: Path) -> str:
    """Unpacks the archive at the URL, over what an earlier attempt has left; lists its files."""
    names: dict[str, None] = {}
    with connected(url) as (connection, path):
        connection.request("GET", path)
        answer = answered(connection)
        try:
            with tarfile.open(fileobj=answer, mode="r|gz") as archive:
                for entry in archive:
                    names[entry.name] = None
                    _unpack(archive, entry, root)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise OSError(f"the files came incomplete: {error}") from error
    lists = root / FILES
    lists.parent.mkdir(parents=True, exist_ok=True)
    Beneath(names).write(lists)
    return ""


def _unpack(archive: tarfile.TarFile, entry: tarfile.TarInfo, root: Path) -> None:
    target = root / entry.name
    if entry.isdir():
        target.mkdir(exist_ok=True)  # mounted, of others: neither mode nor time can be set
        return
    target.unlink(missing_ok=True)
    archive.extract(entry, root, filter="data")


if __name__ == "__main__":
    _, variable, top, *places = sys.argv
    laid = found_in([(Path(it), it.strip("/")) for it in places], but=Beneath())
    laid.write(Path(top) / INSTALLED)
    run(lambda: patiently(lambda: fetch(os.environ[variable], Path(top))))

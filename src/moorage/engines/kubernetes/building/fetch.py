"""The first program in a build's pod: fetches the files, and what the build runs on.

`python3 -m moorage.engines.kubernetes.building.fetch NAME ROOT`: the variable NAME has the URL, and
below ROOT the archive is unpacked. Standard library alone.
"""

import os
import sys
import tarfile
import zlib
from pathlib import Path

from moorage.engines.kubernetes.building.pod_program import answered, connected, patiently, run


def fetch(url: str, root: Path) -> str:
    """Unpacks the archive at the URL, over what an earlier attempt has left."""
    with connected(url) as (connection, path):
        connection.request("GET", path)
        answer = answered(connection)
        try:
            with tarfile.open(fileobj=answer, mode="r|gz") as archive:
                for entry in archive:
                    _unpack(archive, entry, root)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise OSError(f"the files came incomplete: {error}") from error
    return ""


def _unpack(archive: tarfile.TarFile, entry: tarfile.TarInfo, root: Path) -> None:
    target = root / entry.name
    if entry.isdir():
        target.mkdir(exist_ok=True)  # mounted, of others: neither mode nor time can be set
        return
    target.unlink(missing_ok=True)
    archive.extract(entry, root, filter="data")


if __name__ == "__main__":
    _, name, place = sys.argv
    run(lambda: patiently(lambda: fetch(os.environ[name], Path(place))))

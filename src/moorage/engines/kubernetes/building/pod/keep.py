"""A program in a build's pod: hands over what the install has made, for later builds as well.

`python3 -m moorage.engines.kubernetes.building.pod.keep NAME BYTES UID PLACE…`, as `pack`. Files of
the upload are left out. It says what is topmost in its layer, as a list in JSON: an upload that has
one of them itself needs an install of its own. Standard library alone.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from moorage.engines.images.beneath import found_in, read
from moorage.engines.images.layer import LayerBounds, Place
from moorage.engines.kubernetes.building.pod.pack import pack
from moorage.engines.kubernetes.building.pod.program import (
    FILES,
    INSTALLED,
    MAX_SAID_BYTES,
    REFUSED,
    TOO_LARGE,
    Failed,
    patiently,
    run,
)


def keep(url: str, places: Sequence[Place], bounds: LayerBounds, lists: Path) -> str:
    """Sends the layer, and lists what is in it; returns its topmost names, "" if too many.

    What can't be kept as it is may become an image yet, by what the build does with it.
    """
    uploaded = read(lists / FILES)
    installed = found_in([(it.source, it.name) for it in places], but=uploaded)
    try:
        patiently(lambda: pack(url, places, bounds, uploaded))
    except Failed as failed:
        if failed.code not in (REFUSED, TOO_LARGE):
            raise
        return ""
    installed.write(lists / INSTALLED)
    said = json.dumps(installed.roots())
    return said if len(said) <= MAX_SAID_BYTES else ""


if __name__ == "__main__":
    _, name, size, uid, *directories = sys.argv
    found = [Place(Path(it), it.strip("/"), int(uid)) for it in directories]
    allowed = LayerBounds(max_bytes=int(size))
    run(lambda: keep(os.environ[name], found, allowed, Path("/")))

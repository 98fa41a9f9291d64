"""The last program in a build's pod: hands what was built to the gateway, as a layer of an image.

`python3 -m moorage.engines.kubernetes.building.pod.pack NAME BYTES UID PLACE…`: the variable NAME
has the URL, BYTES is how much may be unpacked from the layer, and each PLACE is a directory. What
is as the install's layer has it is left out. What install and build left is a stranger's, but none
of their processes runs any more, and the directories are mounted read-only. Standard library alone.
"""

import os
import sys
from collections.abc import Sequence
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path

from moorage.engines.images.beneath import Beneath, read
from moorage.engines.images.layer import (
    LayerBounds,
    LayerRefused,
    LayerTooLarge,
    LayerUnreadable,
    Place,
    write_layer,
)
from moorage.engines.kubernetes.building.pod.program import (
    INSTALLED,
    REFUSED,
    TOO_LARGE,
    Failed,
    answered,
    connected,
    patiently,
    run,
    unreadable,
)

_PIECE_BYTES = 256 * 1024


class Body:
    """The body of a request, in chunks (RFC 9112 §7.1)."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection
        self._waiting = BytesIO()

    def write(self, content: bytes) -> None:
        """Takes content, and sends it when it is worth a chunk."""
        self._waiting.write(content)
        if self._waiting.tell() >= _PIECE_BYTES:
            self._send()

    def end(self) -> None:
        """Sends the rest, and the mark without which the gateway takes nothing of it."""
        self._send()
        self._connection.send(b"0\r\n\r\n")

    def _send(self) -> None:
        content = self._waiting.getvalue()
        self._waiting = BytesIO()
        if content:
            self._connection.send(b"%x\r\n%b\r\n" % (len(content), content))


def pack(
    url: str, places: Sequence[Place], bounds: LayerBounds, over: Beneath | None = None
) -> str:
    """Sends the layer that is laid `over` others; returns what is to be said about it."""
    with connected(url) as (connection, path):
        connection.putrequest("PUT", path)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        body = Body(connection)
        try:
            layer = write_layer(places, body, bounds, over=over)
        except LayerTooLarge as error:
            raise Failed(TOO_LARGE, str(error)) from error
        except LayerUnreadable as error:
            raise unreadable(error.owner, str(error)) from error
        except LayerRefused as error:
            raise Failed(REFUSED, str(error)) from error
        body.end()
        answered(connection)
    return f"{layer.left_out} sockets, pipes or devices are left out" if layer.left_out else ""


if __name__ == "__main__":
    _, name, size, uid, *directories = sys.argv
    found = [Place(Path(it), it.strip("/"), int(uid)) for it in directories]
    allowed = LayerBounds(max_bytes=int(size))
    installed = read(Path("/") / INSTALLED)
    run(lambda: patiently(lambda: pack(os.environ[name], found, allowed, installed)))

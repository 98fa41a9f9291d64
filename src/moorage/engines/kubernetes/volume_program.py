"""What runs in the pod of a volume: it hands the volume's files over, or takes them.

`python3 -m moorage.engines.kubernetes.volume_program PLACE read BYTES` or
`… PLACE write BYTES DIGEST`; PLACE has the volume. The gateway connects to PORT and sends the token
that the variable TOKEN has; then an archive of the files goes one way or the other until the sender
is done. How it ended is in the pod's status, by the kubelet. Standard library alone.
"""

import errno
import hmac
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from moorage.archive.tree import TreeRefused, TreeUnreadable, empty, read_tree, stream_tree

PORT = 8405
TOKEN = "MOORAGE_TOKEN"  # noqa: S105 (a variable's name)
TOKEN_LENGTH = 64

REFUSED, INTERRUPTED, ANOTHERS = 10, 12, 13
"""Exit codes: the files are not taken as they are; the connection was lost; only another user,
whose number is the message, may read them.
"""

_TERMINATION_LOG = "/dev/termination-log"
_SILENCE_SECONDS = 60.0
_MAX_MESSAGE_BYTES = 2000  # the kubelet takes 4096


def main(data: Path, what: str, *words: str) -> None:
    """Does what the words say, and ends with its code."""
    with _connected(os.environ[TOKEN]) as connection:
        if what == "read":
            code, message = ended(lambda: read(connection, data, max_bytes=int(words[0])))
        else:
            size, digest = words
            code, message = ended(
                lambda: write(connection, data, max_bytes=int(size), digest=digest)
            )
        Path(_TERMINATION_LOG).write_bytes(message.encode(errors="replace")[:_MAX_MESSAGE_BYTES])
    sys.exit(code)


def ended(work: Callable[[], str]) -> tuple[int, str]:
    """Does the work; returns the exit code, and the digest or why it failed."""
    try:
        return 0, work()
    except TreeUnreadable as error:
        if error.owner in (0, os.getuid()):  # no pod runs as root
            return REFUSED, str(error)
        return ANOTHERS, str(error.owner)
    except TreeRefused as error:
        return REFUSED, str(error)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return REFUSED, "its files do not fit into the new one"
        return INTERRUPTED, repr(error)


def read(connection: socket.socket, data: Path, *, max_bytes: int) -> str:
    """Sends the files; returns the digest of what was sent, how many bytes and files they are."""
    with connection.makefile("wb") as out:
        found = stream_tree(data, cast("IO[bytes]", out), max_bytes=max_bytes)
    connection.shutdown(socket.SHUT_WR)
    return " ".join(map(str, found))


def write(connection: socket.socket, data: Path, *, max_bytes: int, digest: str) -> str:
    """Receives an archive of this digest, and makes its files in place of what is there."""
    empty(data)
    with connection.makefile("rb") as source:
        read_tree(source, data, digest=digest, max_bytes=max_bytes)
    return digest


def _connected(token: str) -> socket.socket:
    """Waits for who knows the token; others are sent away."""
    with socket.create_server(("", PORT)) as server:
        while True:
            connection, _ = server.accept()
            connection.settimeout(_SILENCE_SECONDS)
            if hmac.compare_digest(_first(connection), token.encode()):
                return connection
            connection.close()


def _first(connection: socket.socket) -> bytes:
    content = b""
    try:
        while len(content) < TOKEN_LENGTH:
            piece = connection.recv(TOKEN_LENGTH - len(content))
            if not piece:
                break
            content += piece
    except OSError:
        return b""
    return content


if __name__ == "__main__":
    _, place, *rest = sys.argv
    main(Path(place), *rest)

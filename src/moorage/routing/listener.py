"""Makes unix sockets to serve on, at paths of any length."""

import contextlib
import os
import socket
from pathlib import Path


def listen_unix(path: Path) -> socket.socket:
    """Returns a listening, non-blocking unix socket at `path`, for this user; replaces an old one.

    It is bound through its open directory (`/proc/self/fd/N/name`), as a path of more than 107
    bytes, common below a data directory, does not fit into `sun_path` (unix(7)).
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        path.chmod(0o600)
        listener.listen(1024)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener

"""The named pipes to which builds and apps write their output, two for each log.

Apps can't reach their directory. An app's descriptors are open for reading too, so that SIGPIPE
does not kill it while there is no collector. An app that reads them loses only lines of its own
log.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Self

from moorage.engines.logs.store import ERR, OUT

STREAMS = {"out": OUT, "err": ERR}

_PIPE_BYTES = 1024 * 1024  # that an app can write before the collector reads again
# An app may reopen /dev/stdout for writing. It must not be the owner, who could change the mode.
_MODE = 0o602


def pipe_path(pipes: Path, kind: str, stream: str) -> Path:
    """Returns the path of the pipe of one stream of one log."""
    return pipes / f"{kind}.{stream}"


class Pipes:
    """Descriptors for a command's stdout and stderr; a context manager that closes them."""

    def __init__(self, pipes: Path, kind: str) -> None:
        """Opens pipes in the directory `pipes`, making what is missing. Raises OSError."""
        pipes.mkdir(mode=0o700, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self.out, self.err = (_open(pipe_path(pipes, kind, name), stack) for name in STREAMS)
            self._opened = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def _open(path: Path, stack: contextlib.ExitStack) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, _MODE)
    path.chmod(_MODE)  # whatever the umask
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    with contextlib.suppress(OSError):  # the machine allows less; then apps wait sooner
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return descriptor

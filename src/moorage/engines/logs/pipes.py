"""The named pipes that builds and apps write their output to, two for each log.

They lie where no app can get. An app's descriptors are open for reading too, so that it need not
end (SIGPIPE) while nobody collects; what it reads back itself is missing from its own log alone.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Self

from moorage.engines.logs.store import ERR, OUT

STREAMS = {"out": OUT, "err": ERR}

_PIPE_BYTES = 1024 * 1024  # what an app may write before the collector looks again
# An app may reopen /dev/stdout for writing. It owns nothing here: an owner could change the mode.
_MODE = 0o602


def pipe_path(pipes: Path, kind: str, stream: str) -> Path:
    """The pipe of one stream of one log."""
    return pipes / f"{kind}.{stream}"


class Pipes:
    """Descriptors to be a command's stdout and stderr. A context that closes them."""

    def __init__(self, pipes: Path, kind: str) -> None:
        """Below the directory `pipes`, which is made. Raises OSError."""
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
    with contextlib.suppress(OSError):  # the machine allows less: then apps wait sooner
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return descriptor

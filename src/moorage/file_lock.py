"""A lock on a file, which the kernel releases when the process ends, however it ends (flock(2))."""

import fcntl
import os
from pathlib import Path


class FileLock:
    """A lock on a file, which is made where it is missing; its directory has to exist."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def lock(self, *, shared: bool = False) -> bool:
        """Takes the lock until `unlock`, unless another process has it; returns whether it did.

        With `shared`, others may have it the same way.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Releases the lock."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Closes the file, which releases the lock."""
        os.close(self._fd)

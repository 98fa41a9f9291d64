"""What builds of a wallet leave for its later ones: downloads, and layers of installed packages.

All of a wallet's lies in a directory of its own and is never used for another: a build can poison
only its own wallet's later builds. Each thing is one file, which gets its name when it is whole;
when there is too much, what was not used for longest goes first. Blocking; call from a thread.
"""

import contextlib
import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from moorage.clock import Clock


@dataclass(frozen=True, kw_only=True)
class Caches:
    """The caches of all wallets. The caps are on what the files really take."""

    directory: Path
    wallet_bytes: int
    total_bytes: int
    clock: Clock

    def of(self, owner: str) -> Path | None:
        """A wallet's directory, made if need be; None when nothing may be kept."""
        if not owner or not self.wallet_bytes:
            return None
        directory = self.directory / hashlib.sha256(owner.encode()).hexdigest()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return directory

    def use(self, file: Path) -> None:
        """Have a file count as used now."""
        now_ns = self.clock.now_ms() * 1_000_000
        os.utime(file, ns=(now_ns, now_ns))

    def sweep(self) -> None:
        """Remove what a crash left half made, and directories that hold nothing."""
        for draft in self.directory.glob("*/*.draft"):
            draft.unlink()
        for directory in self.directory.glob("*"):
            with contextlib.suppress(OSError):  # not empty
                directory.rmdir()

    def collect(self) -> None:
        """Remove what was not used for longest, until each wallet, and all, keep to their caps.

        What a build has open stays its until the end.
        """
        wallets: dict[Path, list[_Kept]] = defaultdict(list)
        for file in self.directory.glob("*/*.img"):
            with contextlib.suppress(FileNotFoundError):
                wallets[file.parent].append(_Kept.of(file))
        stay = [kept for files in wallets.values() for kept in _trim(files, self.wallet_bytes)]
        _trim(stay, self.total_bytes)


@dataclass(frozen=True, order=True)
class _Kept:
    used_at_ns: int
    path: Path
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> "_Kept":
        status = path.stat()
        return cls(status.st_mtime_ns, path, status.st_blocks * 512)


def _trim(files: list[_Kept], most_bytes: int) -> list[_Kept]:
    """Remove what does not fit into `most_bytes`, the most recently used first; what stays."""
    taken, stay = 0, []
    for file in sorted(files, reverse=True):
        if taken + file.size_bytes <= most_bytes:
            taken += file.size_bytes
            stay.append(file)
        else:
            file.path.unlink(missing_ok=True)
    return stay

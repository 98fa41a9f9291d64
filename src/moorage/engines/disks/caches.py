"""Keeps files that a wallet's builds leave for its later builds: downloads and layers.

Each wallet has its own directory, so that a build can harm only later builds of the same wallet.
Each cache is one file, which gets its name when it is complete. If there is too much, the least
recently used files are removed first. Blocking; call from a thread.
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
    """The caches of all wallets. The limits are on the disk space that the files really take."""

    directory: Path
    wallet_bytes: int
    total_bytes: int
    clock: Clock

    def of(self, owner: str) -> Path | None:
        """Returns a wallet's directory, after making it if needed; None if nothing may be kept."""
        if not owner or not self.wallet_bytes:
            return None
        directory = self.directory / hashlib.sha256(owner.encode()).hexdigest()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return directory

    def use(self, file: Path) -> None:
        """Marks a file as used now."""
        now_ns = self.clock.now_ms() * 1_000_000
        os.utime(file, ns=(now_ns, now_ns))

    def sweep(self) -> None:
        """Removes unfinished files of a crash, and empty directories."""
        for draft in self.directory.glob("*/*.draft"):
            draft.unlink()
        for directory in self.directory.glob("*"):
            with contextlib.suppress(OSError):  # not empty
                directory.rmdir()

    def collect(self) -> None:
        """Removes the least recently used files until each wallet, and all, keep the limits.

        A build that has a removed file open can use it to the end.
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


def _trim(files: list[_Kept], max_bytes: int) -> list[_Kept]:
    """Removes files that do not fit into `max_bytes`; returns the rest, last used first."""
    taken, stay = 0, []
    for file in sorted(files, reverse=True):
        if taken + file.size_bytes <= max_bytes:
            taken += file.size_bytes
            stay.append(file)
        else:
            file.path.unlink(missing_ok=True)
    return stay

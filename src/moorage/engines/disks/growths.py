"""How far the disks of deployments can still grow: those at rest are measured seldom."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from os import scandir
from pathlib import Path

from moorage.engines.disks.disk import IMAGE, growth_bytes

_LOOKS_A_ROUND = 30
"""Each so many looks all disks are measured: of an app that ran between two looks, too."""


class Growths:
    """Remembers the disks that were at rest when they were measured, as they do not change."""

    def __init__(self) -> None:
        self._at_rest: Mapping[str, int] = {}
        self._looks = 0

    def measure(self, directory: Path, *, in_use: Collection[str]) -> dict[str, int]:
        """Returns how many bytes the disk in each directory below `directory` can still grow.

        Those in `in_use` are mounted or worked on: they are measured each time.
        """
        known = self._at_rest if self._looks % _LOOKS_A_ROUND else {}
        self._looks += 1
        found, at_rest = {}, {}
        with scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                growth = None if name in in_use else known.get(name)
                if growth is None:
                    with suppress(FileNotFoundError, NotADirectoryError):
                        growth = growth_bytes(f"{entry.path}/{IMAGE}")
                if growth is None:
                    continue
                found[name] = growth
                if name not in in_use:
                    at_rest[name] = growth
        self._at_rest = at_rest
        return found

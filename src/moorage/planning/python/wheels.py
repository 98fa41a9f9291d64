"""Finds which Pythons a lock file's packages have wheels for.

A package that has wheels for some Pythons alone would be built from its sources on another, which
needs compilers that may lack.
"""

import re

from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import Version

_LIMIT = 2_097_152  # bytes; a larger lock file is not read
_LOCKS = ("poetry.lock", "pdm.lock", "uv.lock")
_WHEEL = re.compile(
    r"[/\"']([A-Za-z0-9_.]{1,100})-[A-Za-z0-9_.!+]{1,60}(?:-\d\w{0,20})?"
    r"-([a-z0-9_.]{1,60})-([a-z0-9_.]{1,60})-([\w.]{1,200})\.whl"
)
_MINOR = re.compile(r"cp3(\d{1,2})\Z")


class Wheels:
    """The Pythons that all packages of a lock file have wheels for."""

    def __init__(self, limited: dict[str, frozenset[int]]) -> None:
        self._limited = limited  # by package, the minor versions

    def allows(self, version: Version) -> bool:
        """Whether no package would have to be built."""
        return all(version.minor in minors for minors in self._limited.values())

    def lacking(self, version: Version) -> str:
        """Returns the first package without a wheel for this Python, "" if none lacks one."""
        names = (name for name, minors in self._limited.items() if version.minor not in minors)
        return next(names, "")


def wheels(folder: Folder) -> Wheels:
    """Returns what the folder's lock file lists for Linux; without one, all Pythons are fine."""
    file = folder.first(*_LOCKS)
    if file is None or folder.size(file) > _LIMIT:
        return Wheels({})
    minors: dict[str, set[int]] = {}
    general: set[str] = set()
    for name, python, abi, system in _WHEEL.findall(
        folder.data(file, limit=_LIMIT).decode(errors="replace")
    ):
        found = [_MINOR.match(tag) for tag in python.split(".")]
        if system == "any" or abi in ("abi3", "none"):
            general.add(name)
        elif "linux" in system and not abi.endswith("t"):
            minors.setdefault(name, set()).update(int(match[1]) for match in found if match)
    return Wheels({n: frozenset(m) for n, m in sorted(minors.items()) if m and n not in general})

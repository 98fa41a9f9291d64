"""What lies beneath a layer: what of it a layer can leave out, and what it must remove.

A list of what there is, by which one program tells another in a build's pod. It runs in pods, so it
needs nothing but the standard library. Blocking.
"""

import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

State = tuple[int, int, int, int]
"""Inode, time of the last change (which nobody can set), size and mode of a file."""


class Beneath:
    """Names of files and directories, each with the state in which it lies beneath.

    A name without a state lies there in whatever state it is, and is never removed.
    """

    def __init__(self, found: Mapping[str, State | None] | None = None) -> None:
        self._found = dict(found or {})
        self._children: dict[str, set[str]] = defaultdict(set)
        for name, state in self._found.items():
            if state is not None:
                above, _, last = name.rpartition("/")
                self._children[above].add(last)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def has(self, name: str, found: os.stat_result) -> bool:
        """Returns whether a file is as it lies beneath."""
        if name not in self._found:
            return False
        state = self._found[name]
        return state is None or state == state_of(found)

    def covers(self, name: str) -> bool:
        """Returns whether a directory is left out with all that is in it."""
        del name
        return False

    def gone(self, directory: str, present: Collection[str]) -> list[str]:
        """Returns the last names of what lies beneath in a directory, and is not there now."""
        return sorted(self._children.get(directory, set()) - set(present))

    def roots(self) -> list[str]:
        """Returns the names of which nothing above is here."""
        return sorted(it for it in self._found if it.rpartition("/")[0] not in self._found)

    def write(self, file: Path) -> None:
        """Writes the list to a file."""
        with file.open("w") as out:
            for pair in self._found.items():
                out.write(f"{json.dumps(pair)}\n")


def read(file: Path) -> Beneath:
    """Reads a list; nothing lies beneath where there is none."""
    if not file.exists():
        return Beneath()
    with file.open() as lines:
        pairs = (json.loads(line) for line in lines)
        return Beneath({name: None if state is None else _state(state) for name, state in pairs})


def found_in(places: Iterable[tuple[Path, str]], *, but: Beneath) -> Beneath:
    """Lists what is below directories, each with its name in the image, without what `but` has.

    No link is followed. A directory that can't be read is listed without what is in it.
    """
    found = (each for directory, name in places for each in _below(directory, name))
    return Beneath({name: state for name, state in found if name not in but})


def state_of(found: os.stat_result) -> State:
    """Returns the state of a file."""
    return found.st_ino, found.st_ctime_ns, found.st_size, found.st_mode


def _state(numbers: list[int]) -> State:
    inode, changed, size, mode = numbers
    return inode, changed, size, mode


def _below(directory: Path, name: str) -> Iterator[tuple[str, State]]:
    """Yields what is below a directory; nothing that is written meanwhile counts."""
    for above, directories, files in os.walk(directory):
        inside = os.path.relpath(above, directory)
        prefix = name if inside == "." else f"{name}/{inside}"
        for each in (*directories, *files):
            with suppress(OSError):  # a path that is too long, which no layer takes
                found = os.lstat(os.path.join(above, each))  # noqa: PTH118 (many)
                yield f"{prefix}/{each}", state_of(found)

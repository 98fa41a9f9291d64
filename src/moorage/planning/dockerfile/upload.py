"""The files that COPY sees, without those that .dockerignore names."""

import posixpath
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from moorage.planning.dockerfile.layout import is_below
from moorage.planning.reading import glob


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The files that COPY sees."""

    names: list[str]  # sorted
    ignored: list[str]  # files and whole directories

    def entries(self, source: str) -> list[str]:
        """Returns the files and directories that a source of COPY names; "" is all."""
        wanted = posixpath.normpath(source.strip("/") or ".")
        if wanted == ".":
            return [""]
        if not any(sign in wanted for sign in "*?["):
            found = any(is_below(name, wanted) for name in self.names)
            return [wanted] if found else []
        pattern = glob.parts(wanted)
        depth = len(pattern)
        tops = dict.fromkeys("/".join(name.split("/")[:depth]) for name in self.names)
        return [top for top in tops if glob.matches(pattern, top.split("/"))]

    def files(self, entry: str) -> Iterator[str]:
        """Returns the files of one of the entries, by binary searches."""
        index = bisect_left(self.names, entry)
        if entry and self.names[index : index + 1] == [entry]:
            yield entry
            return
        below = f"{entry}/" if entry else ""
        for name in islice(self.names, bisect_left(self.names, below), None):
            if not name.startswith(below):
                return
            yield name

    def is_whole(self, entry: str) -> bool:
        """Whether no file below an entry is ignored."""
        return not any(is_below(name, entry) for name in self.ignored)

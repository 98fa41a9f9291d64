"""Where the paths of an image are in the app's directory, and which files of an upload it gets."""

import posixpath
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning.reading import folder
from moorage.planning.reading.folder import Folder, covers, parts

APP = "/app"
WORK = f"{APP}/.dockerfile"  # of the build, removed at its end
CONTEXT = f"{WORK}/context"  # the files that COPY sees
VENV = f"{APP}/.venv"  # of all Python stages: its scripts hold its path
DATA = "/data"  # the volume
# Where a shell of an image looks for programs.
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_IMAGE = f"{APP}/.image"  # what the last stage has outside of its home
_SAFE = re.compile(r"[\w./@+:-]{1,1024}\Z")
_IN_WORD = re.compile(r"(^|[\s=:,\"'])(/(?!/)[\w.@+/*?-]*)")
_MACHINES = ("/dev", "/proc", "/sys")


class Layout(NamedTuple):
    """Prefixes of paths in an image, the longest first, and the directories they stand for."""

    prefixes: tuple[tuple[str, str], ...]

    def real(self, path: str) -> str:
        """Returns the path in the sandbox of a normalised path in the image."""
        for prefix, root in self.prefixes:
            if is_below(path, prefix):
                rest = path if prefix == "/" else path[len(prefix) :]
                return f"{root}{rest}".rstrip("/") or "/"
        return path

    def rewritten(self, text: str, known: frozenset[str] | None) -> tuple[str, list[str]]:
        """Replaces the paths in a shell's word; of other paths than the known ones, none.

        Returns the word and the paths of the image that were replaced; None means all paths.
        """
        found: list[str] = []

        def replaced(match: re.Match[str]) -> str:
            path = match[2]
            is_ours = known is None or any(is_below(path, one) for one in known)
            if not is_ours or any(is_below(path, one) for one in _MACHINES):
                return match[0]
            found.append(path)
            return f"{match[1]}{self.real(path)}" + ("/" if path.endswith("/") else "")

        return _IN_WORD.sub(replaced, text), found


def layout_of(number: int, *, home: str | None, has_volume: bool) -> Layout:
    """Returns a stage's layout; `home` is the app's directory in the last stage, None in others."""
    if home is None:
        return Layout((("/", f"{WORK}/{number}"),))
    volume = ((DATA, DATA),) if has_volume else ()
    return Layout((*volume, (home, APP), ("/", _IMAGE)))


def is_below(path: str, directory: str) -> bool:
    """Whether a path is the directory or in it."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def in_image(workdir: str, path: str) -> str:
    """Returns the normalised path in the image; "" if it has characters that aren't followed."""
    if not _SAFE.match(path):
        return ""
    return posixpath.normpath(posixpath.join("/", workdir, path)).replace("//", "/")


_FILES = ("Dockerfile.dockerignore", ".dockerignore")
_LIMIT = 65_536  # bytes
_PATTERNS_LIMIT = 100
_WORK_LIMIT = 500_000  # comparisons of a path with a pattern
_REMOVED_LIMIT = 2_000


def kept_files(folder: Folder) -> tuple[list[str], list[str]]:
    """Returns the files that COPY sees, and the paths to remove for that: directories if whole.

    Raises RuntimeUnsupported when that takes too much.
    """
    names = list(folder.names())
    patterns = _patterns(folder)
    if not patterns:
        return names, []
    if not any(is_back for is_back, _ in patterns):
        return _without_whole_directories(names, patterns)
    if len(names) * len(patterns) > _WORK_LIMIT:
        raise RuntimeUnsupported(
            ".dockerignore", "has too many patterns for so many files: leave the files out instead"
        )
    kept = [name for name in names if _is_kept(name.split("/"), patterns)]
    around = {"/".join(p) for name in kept for p in _ancestors(name.split("/"))}
    ignored = set(names).difference(kept)
    return kept, _few_enough(sorted({_topmost(name.split("/"), around) for name in ignored}))


def _without_whole_directories(
    names: list[str], patterns: list[tuple[bool, list[str]]]
) -> tuple[list[str], list[str]]:
    """Returns kept files and removed paths, where no pattern brings anything back.

    So the files of a directory that is left out are not looked at one by one.
    """
    kept: list[str] = []
    removed: list[str] = []
    for name in names:
        if removed and name.startswith(f"{removed[-1]}/"):
            continue
        levels = name.split("/")
        if _is_kept(levels, patterns):
            kept.append(name)
            continue
        heads = (levels[:n] for n in range(1, len(levels) + 1))
        removed.append("/".join(next(head for head in heads if not _is_kept(head, patterns))))
    return kept, _few_enough(removed)


def _few_enough(removed: list[str]) -> list[str]:
    if len(removed) > _REMOVED_LIMIT:
        raise RuntimeUnsupported(
            ".dockerignore", f"leaves out more than {_REMOVED_LIMIT:,} single files"
        )
    return removed


def _patterns(folder: Folder) -> list[tuple[bool, list[str]]]:
    """Returns each pattern's parts, and whether it brings files back; the last match counts."""
    file = folder.first(*_FILES)
    lines = folder.text(file, limit=_LIMIT).splitlines() if file else []
    found: list[tuple[bool, list[str]]] = []
    for line in lines:
        text = line.strip()
        is_back = text.startswith("!")
        glob = posixpath.normpath(text.lstrip("!").strip("/ ") or ".")
        if text and not text.startswith("#") and glob != ".":
            found.append((is_back, parts(glob)))
    if len(found) > _PATTERNS_LIMIT:
        raise RuntimeUnsupported(".dockerignore", f"has more than {_PATTERNS_LIMIT} patterns")
    return found


def _is_kept(names: list[str], patterns: list[tuple[bool, list[str]]]) -> bool:
    return next((back for back, glob in reversed(patterns) if covers(glob, names)), True)


def _ancestors(names: list[str]) -> list[list[str]]:
    return [names[:n] for n in range(1, len(names))]


def _topmost(names: list[str], around: set[str]) -> str:
    """Returns the highest directory above an ignored file that has no file to keep, or itself."""
    paths = ("/".join(names[:n]) for n in range(1, len(names)))
    return next((path for path in paths if path not in around), "/".join(names))


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
        pattern = folder.parts(wanted)
        depth = len(pattern)
        tops = dict.fromkeys("/".join(name.split("/")[:depth]) for name in self.names)
        return [top for top in tops if folder.matches(pattern, top.split("/"))]

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

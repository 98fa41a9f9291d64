"""Which files .dockerignore leaves out of the build."""

import posixpath

from moorage.errors import RuntimeUnsupported
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.glob import covers, parts

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

"""Checks an upload's file names: safe, within limits, and distinct on every file system."""

import re
import unicodedata

from moorage.errors import UploadInvalid
from moorage.uploads.limits import UploadLimits

# Matches nearly every path. No component begins with a dot, so none is `.` or `..`.
_PLAIN = re.compile(r"(?:[A-Za-z0-9_@+-][A-Za-z0-9_@+.-]*+/)*+[A-Za-z0-9_@+-][A-Za-z0-9_@+.-]*+")
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"  # controls, bidi
)
_DRIVE = re.compile(r"[A-Za-z]:")
_CLUTTER = ".DS_Store"


def check_path(path: str, limits: UploadLimits) -> None:
    """Checks that `path` is a relative, `/`-separated path that names one file below its root.

    Raises UploadInvalid for anything that a file system could interpret in another way: absolute
    paths, drive letters, backslashes, `.`, `..` and empty components, control and
    direction-changing characters. Raises it for paths beyond the limits too.
    """
    if not _PLAIN.fullmatch(path):
        problem = _problem(path)
        if problem is not None:
            raise UploadInvalid(problem, path=path)
    _measure(path, limits)


def is_clutter(path: str) -> bool:
    """Whether `path` is a file that macOS adds to folders and archives, and no app needs."""
    return path.startswith("__MACOSX/") or (
        path.endswith(_CLUTTER) and path.rpartition("/")[2] == _CLUTTER
    )


def _problem(path: str) -> str | None:
    if not path:
        return "is empty: every file needs a path"
    if _UNPRINTABLE.search(path):
        return "holds control characters"
    if "\\" in path:
        return "holds a backslash: separate folders with '/'"
    if path.startswith("/") or _DRIVE.match(path):
        return "is an absolute path: name files relative to the project's folder"
    components = path.split("/")
    if ".." in components:
        return "leads out of its folder by '..'"
    if "." in components:
        return "holds a '.' component: leave it out"
    if "" in components:
        return "holds an empty component: remove the doubled or final '/'"
    return None


def _measure(path: str, limits: UploadLimits) -> None:
    length = len(path) if path.isascii() else len(path.encode())
    if length > limits.path_length:
        raise UploadInvalid(f"is longer than {limits.path_length} bytes", path=path)
    if path.count("/") >= limits.path_depth:
        raise UploadInvalid(f"lies deeper than {limits.path_depth} folders", path=path)
    if length > limits.component_length:
        for component in path.split("/"):
            if len(component.encode()) > limits.component_length:
                raise UploadInvalid(
                    f"has a component longer than {limits.component_length} bytes", path=path
                )


def _folded(path: str) -> str:
    """Returns the path as a file system that ignores letter case and Unicode form compares it."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


class PathSet:
    """The paths of one upload; refuses two that could be the same on some file system."""

    def __init__(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._known: set[str] = set()

    def add_file(self, path: str) -> None:
        """Adds a file's path. Raises UploadInvalid when it is unsafe or clashes with another."""
        check_path(path, self._limits)
        folded = _folded(path)
        if folded in self._files or folded in self._folders:
            raise UploadInvalid(self._clash(path, folded), path=path)
        self._files[folded] = path
        if len(self._files) > self._limits.files:
            raise UploadInvalid(f"holds more than {self._limits.files} files")
        self._add_parents(path)

    def add_folder(self, path: str) -> None:
        """Adds a folder's path, without a final `/`. Raises UploadInvalid as `add_file` does."""
        check_path(path, self._limits)
        self._add_parents(f"{path}/")

    def _add_parents(self, path: str) -> None:
        folder = path.rpartition("/")[0]
        while folder and folder not in self._known:
            self._known.add(folder)
            folded = _folded(folder)
            if folded in self._files:
                raise UploadInvalid("is a file and a folder at once", path=self._files[folded])
            other = self._folders.setdefault(folded, folder)
            if other != folder:
                raise UploadInvalid(
                    f"lies in a folder that {_differs(other)}", path=path.rstrip("/")
                )
            folder = folder.rpartition("/")[0]

    def _clash(self, path: str, folded: str) -> str:
        if folded in self._folders:
            return "is a file and a folder at once"
        other = self._files[folded]
        return "is there twice" if other == path else _differs(other)


def _differs(other: str) -> str:
    return f"differs from {other!r} only in letter case or Unicode form"

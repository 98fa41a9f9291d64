"""One directory of an upload, as planning reads it: with limits on sizes."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache
from itertools import chain
from typing import Protocol, TypeVar, cast

from moorage.errors import UploadInvalid

_T = TypeVar("_T")
_PART_LIMIT = 512  # characters; a name has at most 255
_KEPT = 256  # compiled parts: `fnmatch` itself keeps 32,768, of any length, from job to job


def parts(glob: str) -> list[str]:
    """Splits a glob into its parts; several `**` in a row become one."""
    found = glob.split("/")
    return [p for n, p in enumerate(found) if p != "**" or n == 0 or found[n - 1] != "**"]


def matches(glob: list[str], names: list[str]) -> bool:
    """Whether a glob's parts match all of a path's names."""
    if len(glob) - glob.count("**") > len(names):
        return False
    return len(names) in _reached(glob, names)


def covers(glob: list[str], names: list[str]) -> bool:
    """Whether a glob's parts match the path or a directory around it."""
    return bool(_reached(glob, names) - {0})


def _reached(glob: list[str], names: list[str]) -> set[int]:
    """Returns how many of the names the parts may have taken."""
    reached = {0}
    for part in glob:
        if part == "**":
            reached = set(range(min(reached), len(names) + 1)) if reached else reached
        else:
            reached = {n + 1 for n in reached if n < len(names) and _is_match(part, names[n])}
        if not reached:
            break
    return reached


def _is_match(part: str, name: str) -> bool:
    return len(part) <= _PART_LIMIT and _compiled(part).match(name) is not None


@lru_cache(maxsize=_KEPT)
def _compiled(part: str) -> re.Pattern[str]:
    return re.compile(translate(part))


class SourceTree(Protocol):
    """A read-only tree of files. Paths are relative, `/`-separated, already validated as safe."""

    @property
    def paths(self) -> Sequence[str]:
        """Every file's path, sorted."""
        ...

    def size(self, path: str) -> int:
        """The file's length in bytes. Raises KeyError when there is none."""
        ...

    def read(self, path: str, *, limit: int = 1_048_576) -> bytes:
        """The file's first `limit` bytes. Raises KeyError when there is no such file."""
        ...


_AFTER_SLASH = chr(ord("/") + 1)
_ARCHIVERS = "__MACOSX"  # macOS puts file attributes there in zip archives
_SOURCE_LIMIT = 65_536  # bytes
MANIFEST_LIMIT = 1_048_576  # bytes of one package.json, requirements file, Procfile


_FEW = 1_000  # files of an upload of which a set is built


class _Sorted:
    """Sorted paths, as a container that is searched in halves."""

    __slots__ = ("_paths",)

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    def __contains__(self, path: object) -> bool:
        index = bisect_left(self._paths, str(path))
        return index < len(self._paths) and self._paths[index] == path


class Folder:
    """The files below `directory` ("" is the root). Names are relative to it, `/`-separated.

    Look-ups are binary searches in the tree's sorted paths. A set is built of few paths alone, so a
    large upload costs a request no more than a small one. What was read of a file is kept for those
    who ask again, in the folders below and above, too.
    """

    __slots__ = (
        *("_all", "_endings", "_listed", "_made", "_parsed", "_paths", "_prefix", "_read", "_tree"),
        "directory",
    )

    def __init__(
        self,
        tree: SourceTree,
        directory: str = "",
        around: "Folder | None" = None,
    ) -> None:
        self._tree = tree
        # By path: how much was asked for, and got; and what was made of it.
        self._read: dict[str, tuple[int, bytes]] = {} if around is None else around._read
        self._parsed: dict[str, object] = {} if around is None else around._parsed
        self._made: dict[object, object] = {} if around is None else around._made
        self._paths: Sequence[str] = tree.paths
        # By ending, all paths of the tree: filled when it is first asked for.
        self._endings: defaultdict[str, list[str]]
        self._endings = defaultdict(list) if around is None else around._endings
        self._all: Container[str]
        if around is not None:
            self._all = around._all
        else:
            is_few = len(self._paths) <= _FEW
            self._all = frozenset(self._paths) if is_few else _Sorted(self._paths)
        self._prefix = f"{directory}/" if directory else ""
        self._listed: tuple[list[str], list[str]] | None = None
        self.directory = directory

    def below(self, directory: str) -> "Folder":
        """The folder of that name inside this one."""
        return Folder(self._tree, self._prefix + directory, self)

    def parents(self) -> Iterator["Folder"]:
        """The folders around this one, the nearest first, the upload's root last."""
        directory = self.directory
        while directory:
            directory = directory.rpartition("/")[0]
            yield Folder(self._tree, directory, self)

    def has(self, name: str) -> bool:
        """Whether there is a file of exactly this name."""
        return self._prefix + name in self._all

    def has_directory(self, name: str) -> bool:
        """Whether there is a file anywhere below this name; "" asks for any file at all."""
        start = f"{self._prefix}{name}/" if name else self._prefix
        index = bisect_left(self._paths, start)
        return index < len(self._paths) and self._paths[index].startswith(start)

    def first(self, *names: str) -> str | None:
        """The first of these names that is a file."""
        paths, prefix = self._all, self._prefix
        for name in names:  # as `has`, without its calls: this is asked most
            if prefix + name in paths:
                return name
        return None

    def names(self) -> Iterator[str]:
        """Every file's name, sorted."""
        return self._inside(self._paths)

    def ending(self, *endings: str) -> Sequence[str]:
        """The names with any of these endings, such as ".py", sorted: looked up, not searched."""
        if not self._endings:
            for path in self._paths:
                self._endings[path.rpartition(".")[2]].append(path)
        lists = [self._endings[it[1:]] for it in endings if it[1:] in self._endings]
        if not lists or (len(lists) == 1 and not self._prefix):
            return lists[0] if lists else ()
        return sorted(chain(*map(self._inside, lists)))

    def _inside(self, paths: Sequence[str]) -> Iterator[str]:
        """Yields the names of those of the tree's sorted paths that are in the folder."""
        skip = len(self._prefix)
        if not skip:
            return iter(paths)
        begin = bisect_left(paths, self._prefix)
        end = bisect_left(paths, self._prefix[:-1] + _AFTER_SLASH, begin)
        return (path[skip:] for path in paths[begin:end])

    def files(self) -> Iterator[str]:
        """The files right inside, sorted."""
        return iter(self._listing()[0])

    def directories(self) -> Iterator[str]:
        """The directories right inside, sorted, without hidden ones and those of archivers."""
        return iter(self._listing()[1])

    def only_directory(self) -> str | None:
        """The one directory that holds every file that is not hidden, or None."""
        entries = ((name, is_directory) for name, is_directory in self._entries() if _is_apps(name))
        first, second = next(entries, None), next(entries, None)
        return first[0] if first and first[1] and second is None else None

    def _listing(self) -> tuple[list[str], list[str]]:
        """Returns the files and the directories right inside, which are asked for many times."""
        if self._listed is None:
            files, directories = list[str](), list[str]()
            for name, is_directory in self._entries():
                if not is_directory:
                    files.append(name)
                elif _is_apps(name):
                    directories.append(name)
            self._listed = files, directories
        return self._listed

    def _entries(self) -> Iterator[tuple[str, bool]]:
        """Yields the names right inside, sorted, and whether each is a directory.

        A binary search skips a directory's files.
        """
        skip = len(self._prefix)
        index = bisect_left(self._paths, self._prefix)
        while index < len(self._paths) and self._paths[index].startswith(self._prefix):
            name, slash, _ = self._paths[index][skip:].partition("/")
            yield name, bool(slash)
            after = f"{self._prefix}{name}{_AFTER_SLASH}"
            index = bisect_left(self._paths, after, index) if slash else index + 1

    def path(self, name: str) -> str:
        """The path from the upload's root, as the uploader knows it."""
        return self._prefix + name

    def size(self, name: str) -> int:
        """The file's length in bytes."""
        return self._tree.size(self._prefix + name)

    def data(self, name: str, *, limit: int = MANIFEST_LIMIT) -> bytes:
        """The file's first `limit` bytes."""
        path = self._prefix + name
        asked, data = self._read.get(path, (-1, b""))
        if limit > asked and len(data) >= asked:
            data = self._tree.read(path, limit=limit)
            self._read[path] = limit, data
        return data[:limit]

    def source(self, name: str | None) -> bytes:
        """The file's first 64 KiB, which hold what planning looks for; none without the file."""
        try:
            return self.data(name, limit=_SOURCE_LIMIT) if name else b""
        except KeyError:
            return b""

    def plain(self, name: str | None) -> str:
        """What `source` gives, decoded: what is no UTF-8 is replaced."""
        return self.source(name).decode(errors="replace")

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What `make` gives for the folder: made once."""
        known = (self._prefix, key)
        if known not in self._made:
            self._made[known] = make()
        return cast("_T", self._made[known])

    def parsed(self, name: str, parse: Callable[["Folder", str], object]) -> object:
        """What `parse` makes of the file: made once, for a file is parsed in one way alone."""
        path = self._prefix + name
        if path not in self._parsed:
            self._parsed[path] = parse(self, name)
        return self._parsed[path]

    def text(self, name: str, *, limit: int = MANIFEST_LIMIT) -> str:
        """A whole manifest, decoded. Raises UploadInvalid if it is over `limit` or not UTF-8."""
        data = self.data(name, limit=limit + 1)
        if len(data) > limit:
            raise UploadInvalid(f"is larger than {limit:,} bytes", path=self.path(name))
        try:
            return data.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise UploadInvalid("is not UTF-8 text", path=self.path(name)) from error


def _is_apps(name: str) -> bool:
    return not name.startswith(".") and name != _ARCHIVERS

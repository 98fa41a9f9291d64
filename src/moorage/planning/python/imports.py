"""Finds what a Python app imports, from where it begins, without running or fully parsing it.

It follows imports of the upload's own files. An import counts where it must succeed: not within
`try`, a condition, or what only type checkers read. One within a function counts less, as it may
never run. As in `objects`, patterns read the sources, for the same reasons.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from enum import IntEnum
from itertools import islice
from typing import NamedTuple

from moorage.planning.python.objects import is_aside, plain_text
from moorage.planning.python.requirements import (
    ALSO,
    COMMANDS,
    LISTENING,
    OLDER,
    PORTLESS,
    QUIET,
    STANDARD_MODULES,
    USED,
    normal,
    package_of,
    with_brought,
)
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import word_set

FILES_LIMIT = 200  # files followed
FILE_LIMIT = 131_072  # bytes read of each
TOTAL_LIMIT = 1_048_576  # bytes read of all
IMPORTS_LIMIT = 2_000
_STATEMENT = 4_096  # characters that the names of one import may take
_NAMES_LIMIT = 200  # modules of one statement
_PATHS_LIMIT = 100_000  # paths of the upload that are compared with a module's name
_PACKAGE_LIMIT = 200  # paths of a directory in which a Python file makes it a package

_LINE = re.compile(
    r"^(?P<indent>[ \t]*)(?:"
    r"import[ \t]+(?P<modules>[^\n;]+)"
    r"|from[ \t]++(?P<dots>\.*+)(?:[ \t]*+(?P<source>[\w.]++))?[ \t]++import\b[ \t]*+"
    r"(?P<names>\([^)]{0,4000}\)|[^\n;]*)"
    r"|(?P<block>try|except|finally|else|if|elif|with|def|async[ \t]+def|class)\b(?P<rest>[^\n]*))",
    re.MULTILINE,
)
_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_QUOTED = re.compile(r"""['"]([A-Za-z_][\w.]{0,100})[:.](\w{1,80})(?:\(\))?['"]""")
_QUOTED_LIMIT = 200  # in one file
_LOADS = re.compile(
    r"\b(?:importlib|__import__|import_string|find_modules|pkgutil|load_extension|exec\()"
)
_APPS = re.compile(r"^(?:\w*_APPS|MIDDLEWARE)[ \t]*\+?=[ \t]*[\[(]([^\])]{0,8000})", re.MULTILINE)
_APP = re.compile(r"^[ \t]*['\"]([A-Za-z_]\w*)[\w.]*['\"]", re.MULTILINE)
_LISTENS = re.compile(
    rb"^[ \t]*(?:import|from)[ \t]+(?:%b)\b|\bhttp[ \t]+import[^\n]*\bserver\b|\bhttp\.server\b"
    rb"|\baiohttp[ \t]+import[^\n]*\bweb\b|\baiohttp\.web\b|\bwebsockets\b[^\n]*\bserve\b"
    rb"|\.(?:serve|start_server|create_server|listen|bind)\(|run_webhook|start_webhook|HTTPServer|\bPORT\b"
    rb"|streamable|\bsse\b|\btransport[ \t]*=[ \t]*['\"]http|\bhttp_app\("
    % "|".join(LISTENING).encode(),
    re.MULTILINE,
)
_ASKS = re.compile(rb"^[^#\n'\"]*(?<![\w.])input\(", re.MULTILINE)
_RUNS = re.compile(
    rb"\b(?:subprocess|runpy|multiprocessing|ctypes|os\.(?:system|exec|spawn|popen))"
)
_BROWSERS = frozenset(("js", "pyodide", "pyscript"))  # modules of Python in a page
_DJANGO = word_set(
    "settings base production urls wsgi models views admin apps forms serializers signals "
    "middleware context_processors managers"
)


_SETTINGS = ("settings", "base", "production")
_MADE = re.compile(r"version|_pb2|_generated|\b_")  # modules that builds make


class Need(IntEnum):
    """How sure it is that an import must succeed."""

    SURE = 0  # when the module is read
    NAMED = 1  # a setting names it
    LAZY = 2  # within a function


class Import(NamedTuple):
    """An import of something that is no file of the upload: where, and of what."""

    module: str  # dotted, with the name that is imported from it, if one is
    file: str
    need: Need

    @property
    def top(self) -> str:
        """The module's first name."""
        return self.module.partition(".")[0]


class _Line(NamedTuple):
    dots: int
    module: str
    names: tuple[str, ...]
    need: Need


class Imports:
    """What an app imports, beginning at some of its files."""

    def __init__(
        self, folder: Folder, entries: Sequence[str], *, root: str, django: bool = False
    ) -> None:
        self._folder = folder
        self._roots = list(dict.fromkeys((root, "", "src")))  # where imports are looked for
        self._read: set[str] = set()
        self._left = TOTAL_LIMIT
        self._known: set[tuple[str, Need]] = set()
        self.found: list[Import] = []
        self.is_whole = True  # no limit was met
        self._first = next(iter(entries), "")
        self.absent = ""  # a sentence, if a module of the upload's own package is not there
        self._loads = False  # files may be read by names that nothing says
        self._follow([(entry, Need.SURE) for entry in entries], django=django)

    def standard(self) -> dict[str, str]:
        """Returns modules of the standard library that must be there, each with a file."""
        return {
            each.top: each.file
            for each in reversed(self.found)
            if each.need is Need.SURE and each.top in STANDARD_MODULES
        }

    def missing(self, names: frozenset[str], *, is_listed: bool) -> tuple[list[Import], list[str]]:
        """Returns imports that no package of `names` brings, and packages that do.

        `is_listed` says that the app lists its packages: then those that it imports within
        functions only may be left out on purpose. An import for which no package is known is
        given by itself, and only where it must succeed.
        """
        brought = with_brought(names)
        there = {it for it in brought if not (it.startswith("types-") or it.endswith("-stubs"))}
        words = "".join(f"-{name}-{name.replace('-', '')}-" for name in there)
        unknown: dict[str, Import] = {}
        packages: dict[str, None] = {}
        for each in self.found:
            if each.top in STANDARD_MODULES or (is_listed and each.need is Need.LAZY):
                continue
            also = {ALSO[name] for name in _prefixes(each.module) if name in ALSO}
            packages.update({p: None for p in sorted(also) if _name(p) not in there})
            bringing = package_of(each.module)
            if f"-{normal(each.top)}-" in words or any(_name(p) in there for p in bringing):
                continue
            if bringing:
                packages[bringing[0]] = None
            elif each.need is Need.SURE:
                unknown.setdefault(each.top, each)
        own = _present(self._folder, unknown.keys()) if unknown else set()
        return [each for top, each in unknown.items() if top not in own], list(packages)

    def older(self, names: frozenset[str]) -> dict[str, str]:
        """Returns requirements that still have what is imported, each with what that is.

        `names` are the packages whose newest versions would be installed.
        """
        found: dict[str, str] = {}
        for each in self.found:
            name = next((it for it in _prefixes(each.module) if it in OLDER), "")
            if name and each.need is Need.SURE and OLDER[name].partition("<")[0] in names:
                found.setdefault(OLDER[name], f"{self._folder.path(each.file)} imports {name}")
        brought = with_brought(names) if self._read else set()
        for package, pattern, requirement, what in USED:
            if package not in brought:
                continue
            file = next((it for it in self._read if pattern.search(self._source(it))), "")
            if file:
                found.setdefault(requirement, f"{self._folder.path(file)} uses {what}")
        return found

    def _source(self, file: str) -> bytes:
        return self._folder.data(file, limit=FILE_LIMIT)

    def reached(self) -> frozenset[str]:
        """Returns the files of the upload that the app may read; none if others may be, too."""
        return frozenset(self._read if self.is_whole and not self._loads else ())

    def follows(self, file: str) -> bool:
        """Whether a file of the upload is read."""
        return file in self._read

    def kind(self) -> str:
        """Returns what needs no port, and its file, such as "bot.py is a Discord bot", or ""."""
        return self._kind(PORTLESS)

    def portless(self, *, is_given: bool) -> str:
        """Returns what this is, if it is certain that nothing in the upload listens on a port.

        Of a given command, which may run more than what it names, less is certain.
        """
        kind = self.kind() or (self._kind(COMMANDS) if self._is_known() else "")
        kind = kind or ("" if is_given else self._quiet() or self._asking())
        return kind if kind and self.is_whole and not _listens(self._folder) else ""

    def _kind(self, table: Mapping[str, str]) -> str:
        for each in self.found:
            what = next((n for n in _prefixes(each.module) if n in table), "")
            if each.need is Need.SURE and what:
                return f"{self._folder.path(each.file)} is {table[what]} ({what})"
        return ""

    def _quiet(self) -> str:
        """Says that nothing which is imported may listen, or run what does; "" if something may."""
        quiet = STANDARD_MODULES | QUIET
        if not self.found or self._loads or any(it.top not in quiet for it in self.found):
            return ""
        if any(_RUNS.search(self._folder.data(it, limit=FILE_LIMIT)) for it in self._read):
            return ""
        return f"{self._folder.path(self._first)} is a program that serves nothing"

    def _asking(self) -> str:
        """Says that a program asks whoever sits before it; "" if something unknown may listen."""
        asks = next((it for it in sorted(self._read) if _ASKS.search(self._source(it))), "")
        if not asks or self._loads or not self._is_known():
            return ""
        return f"{self._folder.path(asks)} is a program that asks at a terminal"

    def _is_known(self) -> bool:
        return all(e.top in STANDARD_MODULES or package_of(e.module) for e in self.found)

    def is_aside(self) -> bool:
        """Whether this is no server: nothing listens, and nothing is imported that may."""
        own = STANDARD_MODULES | _BROWSERS
        return (
            self.is_whole
            and all(each.top in own for each in self.found)
            and not _listens(self._folder)
        )

    def _follow(self, ahead: list[tuple[str, Need]], *, django: bool) -> None:
        later: list[tuple[str, Need]] = []
        while ahead or later:
            file, need = ahead.pop(0) if ahead else later.pop(0)
            if file in self._read:
                continue
            if len(self._read) >= FILES_LIMIT or self._left <= 0:
                self.is_whole = False
                return
            self._read.add(file)
            data = self._folder.data(file, limit=FILE_LIMIT)
            self._left -= len(data)
            source = data.decode(errors="replace")
            self._loads = self._loads or _LOADS.search(source) is not None
            for name, last in islice(_QUOTED.findall(source), _QUOTED_LIMIT):
                named = self._own(file, _Line(0, name, (last,), Need.LAZY))
                later.extend((each, Need.LAZY) for each in named or ())
            if django:
                self._add(file, self._named(source), Need.NAMED)
            for line in _lines(plain_text(_with_imports(source))):
                inner = max(need, line.need)
                own = self._own(file, line)
                if inner is Need.SURE and own is not None and not self.absent:
                    self.absent = self._absent(file, line)
                if own is None:
                    names = [f"{line.module}.{name}" for name in line.names] or [line.module]
                    self._add(file, names, inner)
                else:
                    (later if inner is Need.LAZY else ahead).extend((each, inner) for each in own)

    def _absent(self, file: str, line: _Line) -> str:
        """Returns a sentence of a module that a package of the upload certainly lacks, or ""."""
        parts = line.module.split(".") if line.module else []
        directories = file.split("/")[:-1]
        if line.dots:
            if not parts or line.dots > len(directories):
                return ""
            root = "/".join(directories[: len(directories) - line.dots + 1])
        else:
            has = (
                it for it in self._roots if self._folder.has(f"{_join(it, parts[0])}/__init__.py")
            )
            root = next(has, "") if len(parts) > 1 else ""
            if len(parts) < 2 or not self._folder.has(f"{_join(root, parts[0])}/__init__.py"):
                return ""
        place = _join(root, "/".join(parts))
        if self._folder.has(f"{place}.py") or self._folder.has_directory(place):
            return ""
        if _MADE.search(line.module) or any(
            name.startswith(f"{place}.") for name in self._folder.names()
        ):
            return ""
        return f"{file} imports {'.' * line.dots}{line.module}, which is not in the upload."

    def _add(self, file: str, modules: Iterable[str], need: Need) -> None:
        for module in modules:
            if len(self._known) >= IMPORTS_LIMIT:
                self.is_whole = False
            elif (module, need) not in self._known:
                self._known.add((module, need))
                self.found.append(Import(module, file, need))

    def _named(self, source: str) -> Iterator[str]:
        """Yields what Django's settings name, and is no package of the upload."""
        for block in _APPS.findall(source):
            for name in _APP.findall(block):
                if not any(_is_module(self._folder, _join(root, name)) for root in self._roots):
                    yield name

    def _own(self, file: str, line: _Line) -> list[str] | None:
        """Returns the upload's files that an import reads; None for one of something else."""
        parts = line.module.split(".") if line.module else []
        if line.dots:
            directories = file.split("/")[:-1]
            root = "/".join(directories[: len(directories) - line.dots + 1])
            return list(_files(self._folder, root, parts, line.names))
        if not parts:
            return []
        for root in self._roots:
            if _is_module(self._folder, _join(root, parts[0])):
                return list(_files(self._folder, root, parts, line.names))
        return None


def django_entries(folder: Folder, package: str, settings: str) -> list[str]:
    """Returns the files that Django reads: those of its `package`, and of the apps beside it.

    Of the modules beside the `settings` that its server reads, these alone.
    """
    beside = settings.rpartition("/")[0]
    others = {f"{beside}/{name}.py" for name in _SETTINGS} - {settings} if beside else set[str]()
    return [
        name
        for name in folder.ending(".py")
        if name.rpartition("/")[2][:-3] in _DJANGO
        and (name.startswith(f"{package}/") or not is_aside(name))
        and name not in others
    ][:FILES_LIMIT]


def _with_imports(source: str) -> str:
    """Returns a source up to the last of its imports, which are usually at its beginning."""
    end = max((match.end() for match in _IMPORT.finditer(source)), default=0)
    return source[: end + _STATEMENT] if end else ""


def _lines(text: str) -> Iterator[_Line]:
    """Yields the imports that count, by the blocks around each."""
    blocks: list[tuple[int, Need | None]] = []  # how far they are indented; None: does not count
    for match in _LINE.finditer(text):
        indent = len(match["indent"].expandtabs())
        while blocks and blocks[-1][0] >= indent:
            blocks.pop()
        if match["block"]:
            blocks.append((indent, _need_in(match["block"], match["rest"])))
            continue
        needs = [need for _, need in blocks]
        if None in needs:
            continue
        need = Need.LAZY if Need.LAZY in needs else Need.SURE
        if match["modules"]:
            for part in match["modules"].split(",", _NAMES_LIMIT)[:_NAMES_LIMIT]:
                word = _WORD.match(part.strip())
                if word is not None:
                    yield _Line(0, word[0], (), need)
        else:
            source = match["source"] or ""
            yield _Line(len(match["dots"]), source, _names(match["names"]), need)


def _need_in(block: str, rest: str) -> Need | None:
    if block.endswith("def"):
        return Need.LAZY
    if block == "class" or (block == "if" and "__name__" in rest):
        return Need.SURE
    if block == "with" and "suppress" not in rest:
        return Need.SURE
    return None


def _names(text: str) -> tuple[str, ...]:
    words = (_WORD.match(part.strip()) for part in text.strip("() \t").split(","))
    return tuple(word[0] for word in words if word is not None)


def _files(folder: Folder, root: str, parts: list[str], names: tuple[str, ...]) -> Iterator[str]:
    """Yields what there is of a dotted module below a directory, and of its modules named so."""
    path = root
    for part in parts:
        path = _join(path, part)
        yield from (f for f in (f"{path}.py", f"{path}/__init__.py") if folder.has(f))
    for name in names:
        below = _join(path, name)
        yield from (f for f in (f"{below}.py", f"{below}/__init__.py") if folder.has(f))


def _is_module(folder: Folder, path: str) -> bool:
    """Whether it is a module of the upload; an installed one precedes a mere directory."""
    if folder.has(f"{path}.py") or folder.has(f"{path}/__init__.py"):
        return True
    if not folder.has_directory(path) or package_of(path.rpartition("/")[2]):
        return False
    inside = zip(range(_PACKAGE_LIMIT), folder.below(path).names(), strict=False)
    return any(name.endswith(".py") for _, name in inside)


def _present(folder: Folder, modules: Set[str]) -> set[str]:
    """Returns the modules of which the upload has a file anywhere, as paths may be added."""
    whole = next(iter([*folder.parents()][::-1]), folder)
    found: set[str] = set()
    for _, name in zip(range(_PATHS_LIMIT), whole.names(), strict=False):
        if not name.endswith((".py", ".so", ".pyx")):
            continue
        *directories, file = name.split("/")
        parts = {file.partition(".")[0], *directories}
        if not modules.isdisjoint(parts) and not _is_library(directories):
            found |= modules & parts
    return found


def _is_library(directories: list[str]) -> bool:
    return "site-packages" in directories or "node_modules" in directories


def _listens(folder: Folder) -> bool:
    """Whether any source may listen on a port; also where there are too many to be sure."""
    left = TOTAL_LIMIT
    for name in folder.ending(".py"):
        if _is_library(name.split("/")):
            continue
        data = folder.data(name, limit=FILE_LIMIT)
        left -= len(data)
        if left < 0 or len(data) == FILE_LIMIT or _LISTENS.search(data):
            return True
    return False


def _prefixes(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _name(package: str) -> str:
    return package.partition("==")[0]


def _join(root: str, name: str) -> str:
    return f"{root}/{name}" if root else name

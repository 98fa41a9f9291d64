"""What a Python app says it needs: requirements.txt, or pyproject.toml's [project]."""

import posixpath
import re
import tomllib
from typing import NamedTuple

from moorage.errors import UploadInvalid
from moorage.planning.folder import Folder

FILES_LIMIT = 8  # requirements files read, counting those that others include
LINES_LIMIT = 20_000  # of all of them
PYPROJECT_LIMIT = 65_536  # bytes
KEY_PARTS_LIMIT = 200  # of one dotted key; the parser's time grows with their square
LOOKED_FOR = ("requirements.txt, or pyproject.toml with [project] dependencies",)

_NAME = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?)\s*(?:\[([^\]]{0,200})\])?\s*"
)
_REST = re.compile(r"(?:\(?(?:===|==|~=|!=|<=|>=|<|>)|@|;|--|\\?\Z)")
_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:[ \t]+|=)?(\S.*)")
_BETWEEN_EQUALS = re.compile(r"[=\n]")
_SEPARATORS = re.compile(r"[-_.]+")
# Extras that bring a server along.
_BRING = {"fastapi": (frozenset(("standard", "all")), "uvicorn")}


class Requirements(NamedTuple):
    """`file` is what the installer reads, None when the app needs nothing; names are normalised."""

    file: str | None
    names: frozenset[str]
    missing: str = ""  # why the app's own statement of its needs can't be used


def requirements(folder: Folder) -> Requirements:
    """What is installed. Raises UploadInvalid, naming the file, for one that can't be read."""
    if folder.has("requirements.txt"):
        names: set[str] = set()
        _read(folder, "requirements.txt", names, {})
        return Requirements("requirements.txt", frozenset(names))
    if folder.has("pyproject.toml"):
        return _pyproject(folder)
    if folder.has("Pipfile"):
        return Requirements(None, frozenset(), _EXPORT.format(file="Pipfile", tool="Pipenv"))
    return Requirements(None, frozenset())


_EXPORT = (
    "{file} is {tool}'s, which is not supported on this gateway yet: "
    "export a requirements.txt beside it"
)


def _read(folder: Folder, file: str, names: set[str], seen: dict[str, int]) -> None:
    """Collects the names in a file and in those it includes; `seen` counts each one's lines."""
    if file in seen or len(seen) >= FILES_LIMIT:
        return
    lines = folder.text(file).splitlines()
    seen[file] = len(lines)
    if sum(seen.values()) > LINES_LIMIT:
        raise UploadInvalid(f"has more than {LINES_LIMIT:,} lines", path=folder.path(file))
    for number, line in enumerate(lines, 1):
        text = re.split(r"(?:^|[ \t])#", line, maxsplit=1)[0].strip()
        include = _INCLUDE.match(text)
        if include is not None:
            _read(folder, _included(folder, file, include[1], number), names, seen)
        elif text and not _is_location(text):
            names.update(_names(text, folder.path(file), number))


def _included(folder: Folder, file: str, target: str, number: int) -> str:
    name = posixpath.normpath(posixpath.join(posixpath.dirname(file), target.strip()))
    if name.startswith(("/", "..")) or not folder.has(name):
        raise UploadInvalid(
            f"line {number} includes {target[:200]!r}, which is not in the upload",
            path=folder.path(file),
        )
    return name


def _is_location(text: str) -> bool:
    """An option, a URL, a path or the rest of a wrapped line: left to the installer."""
    return (
        text.startswith(("-", ".", "/"))
        or "://" in text
        or text.split(";", maxsplit=1)[0].strip().endswith((".whl", ".tar.gz", ".zip"))
    )


def _names(text: str, path: str, number: int) -> tuple[str, ...]:
    match = _NAME.match(text)
    if match is None or not _REST.match(text, match.end()):
        raise UploadInvalid(f"line {number} is not a requirement: {text[:100]!r}", path=path)
    return _with_extras(match)


def _with_extras(match: re.Match[str]) -> tuple[str, ...]:
    name = _SEPARATORS.sub("-", match[1]).lower()
    extras, brings = _BRING.get(name, (frozenset(), ""))
    if brings and not extras.isdisjoint(e.strip().lower() for e in (match[2] or "").split(",")):
        return (name, brings)
    return (name,)


def _pyproject(folder: Folder) -> Requirements:
    path = folder.path("pyproject.toml")
    text = folder.text("pyproject.toml", limit=PYPROJECT_LIMIT)
    if any(part.count(".") > KEY_PARTS_LIMIT for part in _BETWEEN_EQUALS.split(text)):
        raise UploadInvalid(f"has a key of more than {KEY_PARTS_LIMIT} parts", path=path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UploadInvalid(f"is not valid TOML: {str(error)[:200]}", path=path) from error
    project = document.get("project", {})
    if not isinstance(project, dict):
        raise UploadInvalid("must have [project] as a table", path=path)
    dependencies = project.get("dependencies", [])
    if not isinstance(dependencies, list) or not all(isinstance(d, str) for d in dependencies):
        raise UploadInvalid("must have project.dependencies as a list of strings", path=path)
    if dependencies:
        names = [name for d in dependencies for name in _project_names(d, path)]
        return Requirements("pyproject.toml", frozenset(names))
    tool = document.get("tool", {})
    if isinstance(tool, dict) and "poetry" in tool:
        return Requirements(None, frozenset(), _EXPORT.format(file="pyproject.toml", tool="Poetry"))
    return Requirements(None, frozenset())


def _project_names(dependency: str, path: str) -> tuple[str, ...]:
    match = _NAME.match(dependency.strip())
    if match is None:
        raise UploadInvalid(f"names no package: {dependency[:100]!r}", path=path)
    return _with_extras(match)

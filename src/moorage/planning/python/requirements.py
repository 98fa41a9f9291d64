"""Reads a Python app's requirements: requirements.txt, pyproject.toml, or a tool's own table.

The installer chooses versions; what is asked of them tells which Pythons will do.
"""

import posixpath
import re
import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from packaging.version import Version as Release

from moorage.errors import UploadInvalid
from moorage.planning.python.lockpins import specifiers as pep440
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import by_word, table, toml_document, yaml_document

_SPAN = re.compile(r"(?:>=(?P<low>[\d.]+),[ ]?)?<(?P<high>[\d.]+)\Z")
_SEPARATORS = re.compile(r"[-_.]+")
_AFTER_NAME = re.compile(r"[\[=<>~!].*")
_MORE_MODULES = (
    "tomllib",
    "annotationlib",
    "compression",
    "__main__",
)  # not in every Python's list


class Spans(NamedTuple):
    """Versions of a package."""

    spans: tuple[tuple[Release, Release], ...]  # from one, below the other; none: all versions

    def holds(self, version: Release | None) -> bool:
        """Whether it is one of them; None is a version without a limit."""
        if not self.spans:
            return True
        return version is not None and any(low <= version < high for low, high in self.spans)


def normal(name: str) -> str:
    """Returns a package's name as PEP 503 compares it."""
    return _SEPARATORS.sub("-", name).lower()


def bare(requirement: str) -> str:
    """Returns the name of a package that may have extras, or a version."""
    return _AFTER_NAME.sub("", requirement)


def package_of(module: str) -> tuple[str, ...]:
    """Returns the packages that bring a module, the one to install first; () if it is unknown.

    That one may be followed by "==" and a version.
    """
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        found = _IMPORTS.get(".".join(parts[:length]))
        if found is not None:
            return found
    name = normal(parts[0])
    return (name,) if name in _SAME else ()


def installable(name: str) -> str:
    """Returns why nothing can be installed by a name, and what to do; "" if something may be."""
    if name in _NO_PACKAGES:
        return f"{name!r} is a part of Python, and no package: remove it"
    right = _MISNAMED.get(name)
    return f"{name!r} is imported by that name, but its package is {right}" if right else ""


def with_brought(names: Iterable[str]) -> set[str]:
    """Returns packages, and those that they bring."""
    ahead, found = list(names), set[str]()
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(_BRINGS.get(name, ()))
    return found


def _spans(written: str | list[str]) -> Spans:
    each = [written] if isinstance(written, str) else written
    return Spans(tuple(_span(text) for text in each if text != "*"))


def _span(text: str) -> tuple[Release, Release]:
    match = _SPAN.match(text)
    if match is None:
        raise ValueError(f"packages.toml: {text!r} is none of '<2', '>=1,<2' and '*'")
    return Release(match["low"] or "0.dev0"), Release(match["high"])


def _words(table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(text.split()) for name, text in table.items()}


PACKAGES = table("python/packages")
"""What is known of PyPI's packages; the file says what each table is."""
_IMPORTS = _words(PACKAGES["imports"])
_BRINGS = _words(PACKAGES["brings"])
_SAME = frozenset(normal(name) for name in PACKAGES["same"]["names"].split())
_COLUMNS = (11, 12, 13, 14)  # minor versions of Python
UNFIT = tuple(
    (minor, {name: _spans(row[n]) for name, row in PACKAGES["unfit"].items() if any(row[n:][:1])})
    for n, minor in enumerate(_COLUMNS)
)
"""By minor version, the versions of packages that do not run on it and later ones."""
UNFIT_NAMES = frozenset(PACKAGES["unfit"])
COMPANIONS = tuple(
    (name, _spans(span), tuple(needs.split()))
    for name, span, needs in PACKAGES["companions"]["rows"]
)
"""Packages, some of their versions, and what these need beyond what they say."""
REMOVED_MODULES = tuple(
    (int(python.removeprefix("3.")), frozenset(names.split()))
    for python, names in PACKAGES["removed"].items()
)
"""By minor version, the modules of the standard library that it and later ones lack."""
STANDARD_MODULES = frozenset(sys.stdlib_module_names).union(
    _MORE_MODULES, *(names for _, names in REMOVED_MODULES)
)
_PACKAGED = frozenset(PACKAGES["packaged"]["names"].split())
_NO_PACKAGES = frozenset(normal(n) for n in STANDARD_MODULES - _PACKAGED if not n.startswith("_"))
_MISNAMED = {normal(name): _IMPORTS[name][0] for name in PACKAGES["misnamed"]["names"].split()}
ALSO: dict[str, str] = PACKAGES["also"]
"""By what is imported, a package that its use needs besides."""
OLDER = by_word(PACKAGES["older"])
"""By what is imported, the requirement that still has it."""
USED = tuple(
    (requirement.partition("<")[0], re.compile(pattern.encode()), requirement, what)
    for pattern, requirement, what in PACKAGES["used"]["rows"]
)
"""Packages, patterns of code, the requirement that still has what these use, and what that is."""
JOBS: dict[str, str] = PACKAGES["jobs"]
"""By package, what it runs that listens on no port."""
LISTENING = tuple(map(re.escape, PACKAGES["listening"]["names"].split()))
"""Patterns of the names of modules that listen on a port for an app."""
PORTLESS = by_word(PACKAGES["portless"])
"""By module, what an app is that imports it and listens on no port."""
QUIET = frozenset(PACKAGES["quiet"]["names"].split())
"""Modules that neither listen nor run another program."""
COMMANDS = by_word(PACKAGES["commands"])
"""By module, what a script is that imports it, and nothing that may listen."""


_CONDA = re.compile(r"(?:[\w./-]{1,60}::)?([A-Za-z0-9][\w.-]{0,100})[ ]?([=<>][^#\[]{0,60})?\Z")
_CONDA_NAMES: dict[str, str] = PACKAGES["conda"]
KNOWN_PACKAGES = _SAME | _BRINGS.keys() | {name for names in _IMPORTS.values() for name in names}
"""Packages of which it is known by what name they are imported."""
FILES_LIMIT = 8  # requirements files read, counting those that others include
LISTED_LIMIT = 100  # requirements in a file of Python
LINES_LIMIT = 20_000  # of all of them
_WITHIN = r"""=[ \t]*\[((?:[^\]"'#]|"[^"\n]{0,200}"|'[^'\n]{0,200}'|#[^\n]*)*+)\]"""
_SETUP = re.compile(rf"\binstall_requires[ \t]*{_WITHIN}")
_SCRIPT = re.compile(r"^# /// script[ \t]*\r?\n((?:#[^\n]*\n){1,200}?)# ///", re.MULTILINE)
_DEPENDENCIES = re.compile(rf"^dependencies[ \t]*{_WITHIN}", re.MULTILINE)
_STRING = re.compile(r"""#[^\n]*|"([^"\n]*)"|'([^'\n]*)'""")
LOOKED_FOR = ("requirements.txt, pyproject.toml with dependencies, Pipfile, environment.yml",)

_VERSION_LIMIT = 100  # characters that are read of one
_PRODUCTION = ("production", "prod", "base", "requirements")
_NAME = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?)\s*(?:\[([^\]]{0,200})\])?\s*"
)
_REST = re.compile(r"(?:\(?(?:===|==|~=|!=|<=|>=|<|>)|@|;|--|\\?\Z)")
_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:[ \t]+|=)?(\S.*)")
_LOCAL = re.compile(
    r"(?:-e|--editable)(?:[ \t=]+)(?!\w+\+|https?:)|\.|/|file:|[^:]*\.(?:whl|tar\.gz|zip)\b"
)
_PLACE = re.compile(
    r"(?:#egg=|/)([\w.-]{1,100}?)(?:\.git|-\d[^/\s]*)?(?:@[^/\s#]*)?(?:#(?!egg=)\S*)?\s*\Z"
)
# Extras that bring what apps need besides.
_BRING = {
    "fastapi": (frozenset(("standard", "all")), ("uvicorn", "websockets", "jinja2")),
    "channels": (frozenset(("daphne",)), ("daphne",)),
    "uvicorn": (frozenset(("standard",)), ("websockets",)),
}


class Requirements(NamedTuple):
    """`file` is what the installer reads, None when the app needs nothing; names are normalised."""

    file: str | None
    names: frozenset[str]
    files: tuple[str, ...] = ()  # all files that the installer reads
    is_local: bool = False  # it also installs files of the upload
    is_poetrys: bool = False  # a pyproject.toml with its dependencies in Poetry's own table
    specifiers: tuple[tuple[str, str], ...] = ()  # names, each with what is asked of its version
    located: frozenset[str] = frozenset()  # what repositories and archives are called
    listed: tuple[str, ...] = ()  # requirements that are written in a file of Python
    member: str = ""  # the name of its package in a workspace of uv


def requirements(folder: Folder, document: Mapping[str, object]) -> Requirements:
    """Returns the requirements; `document` is the pyproject.toml or Pipfile, {} without one.

    Raises UploadInvalid, naming the file, for one that can't be read.
    """
    if folder.has("requirements.txt"):
        return _of_file(folder, "requirements.txt")
    if folder.has("pyproject.toml"):
        return _of_pyproject(folder, document)
    if folder.has("Pipfile"):
        file = folder.first("Pipfile.lock") or "Pipfile"
        packages = _of_table(_table(document.get("packages")))
        return Requirements(
            file,
            frozenset(packages),
            tuple(sorted({"Pipfile", file})),
            specifiers=tuple(packages.items()),
        )
    conda = conda_packages(folder)
    if conda is not None:
        return _of_conda(folder, *conda)
    return _of_directory(folder)


def of_member(
    folder: Folder, document: Mapping[str, object], file: str
) -> tuple[Mapping[str, object], Requirements] | None:
    """Returns the project of uv's workspace that a source is in, and its requirements.

    `document` is that of the workspace's root. None where the source is no member's.
    """
    if not _is_workspace(document):
        return None
    place = file.rpartition("/")[0]
    while place and not folder.has(f"{place}/pyproject.toml"):
        place = place.rpartition("/")[0]
    if not place:
        return None
    inner = folder.below(place)
    own = project_document(inner)
    needed = _of_pyproject(inner, own)
    name = _table(own.get("project")).get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    lock = folder.first("uv.lock")
    return own, needed._replace(
        file=lock or "pyproject.toml", files=(), is_local=True, listed=(), member=name
    )


def _is_workspace(document: Mapping[str, object]) -> bool:
    return "workspace" in _table(_table(document.get("tool")).get("uv"))


def _of_parents(folder: Folder) -> Requirements:
    """Returns those of the nearest directory around the app's that has a file of requirements."""
    names = ("requirements.txt", *(f"requirements/{name}.txt" for name in _PRODUCTION))
    for up, parent in enumerate(folder.parents(), 1):
        file = parent.first(*names)
        found = _of_file(parent, file) if file is not None else None
        if found is None and parent.has("pyproject.toml"):
            document = project_document(parent)
            listed = _table(document.get("project")).get("dependencies")
            found = _of_pyproject(parent, document) if listed else None
            file = "pyproject.toml"
        if found is not None:
            return found._replace(file=f"{'../' * up}{file}", files=(), is_local=True)
    return Requirements(None, frozenset())


def conda_packages(folder: Folder) -> tuple[str, dict[str, str], tuple[str, ...]] | None:
    """Returns Conda's file, its packages with what it asks of each, and those that pip installs.

    None without such a file. What is asked is as Conda writes it, such as `=3.11`.
    """
    file = folder.first("environment.yml", "environment.yaml")
    if file is None:
        return None
    document = yaml_document(folder.plain(file))
    listed = document.get("dependencies") if isinstance(document, dict) else None
    packages: dict[str, str] = {}
    by_pip: tuple[str, ...] = ()
    for each in listed if isinstance(listed, list) else ():
        inner = each.get("pip") if isinstance(each, dict) else None
        if isinstance(inner, list):
            by_pip = tuple(it for it in inner if isinstance(it, str) and it[:1].isalnum())
        match = _CONDA.match(each) if isinstance(each, str) else None
        if match is not None:
            packages[match[1].lower()] = (match[2] or "").replace(" ", "")
    return file, packages, by_pip


def _of_conda(
    folder: Folder, file: str, packages: Mapping[str, str], by_pip: tuple[str, ...]
) -> Requirements:
    """Returns what pip has of them: Conda's other packages are no Python's, or not known here."""
    listed = [
        f"{name}{_pip_version(version)}"
        for conda, version in packages.items()
        if (name := _CONDA_NAMES.get(conda, normal(conda))) in KNOWN_PACKAGES
    ]
    names: dict[str, str] = {}
    for dependency in (*listed, *by_pip):
        names.update(_project_names(dependency, folder.path(file)))
    return Requirements(
        file,
        frozenset(names),
        (file,),
        specifiers=tuple(names.items()),
        listed=(*listed, *by_pip)[:LISTED_LIMIT],
    )


def _pip_version(written: str) -> str:
    """Returns what pip would be asked: Conda's `=2.2` is any 2.2, and `=2.2=build` as well."""
    match = re.fullmatch(r"=?=?(\d[\w.]{0,40})(?:=\w{1,60})?", written)
    if match is None:
        return written if re.fullmatch(r"(?:[<>]=?\d[\w.]{0,40},?)+", written) else ""
    return f"=={match[1]}" if written.startswith("==") else f"=={match[1].removesuffix('.')}.*"


def _of_file(folder: Folder, file: str) -> Requirements:
    names: dict[str, str] = {}
    seen: dict[str, int] = {}
    located: set[str] = set()
    is_local = _read(folder, file, names, located, seen)
    return Requirements(
        file,
        frozenset(names),
        tuple(sorted(seen)),
        is_local,
        specifiers=tuple(names.items()),
        located=frozenset(located),
    )


def _of_directory(folder: Folder) -> Requirements:
    """Returns those of a directory's file for production, or of setup.py.

    The names of the former are common with Django.
    """
    file = folder.first(*(f"requirements/{name}.txt" for name in _PRODUCTION))
    if file is not None:
        return _of_file(folder, file)
    if not folder.has("setup.py"):
        return _of_parents(folder)
    source = folder.source("setup.py")
    return _of_list(folder, "setup.py", _SETUP.search(source.decode(errors="replace")))


def of_script(folder: Folder, file: str) -> Requirements:
    """Returns the requirements in a script's own comment (PEP 723)."""
    source = folder.plain(file)
    block = _SCRIPT.search(source) if "# /// script" in source else None
    text = re.sub(r"^# ?", "", block[1], flags=re.MULTILINE) if block else ""
    return _of_list(folder, file, _DEPENDENCIES.search(text))


def _of_list(folder: Folder, file: str, found: re.Match[str] | None) -> Requirements:
    strings = _STRING.findall(found[1]) if found is not None else []
    listed = [one or other for one, other in strings if one or other]
    if not listed or len(listed) > LISTED_LIMIT:
        return Requirements(None, frozenset())
    names: dict[str, str] = {}
    for dependency in listed:
        names.update(_project_names(dependency, folder.path(file)))
    return Requirements(
        file,
        frozenset(names),
        (file,),
        specifiers=tuple(names.items()),
        listed=tuple(listed),
    )


def project_document(folder: Folder) -> Mapping[str, object]:
    """pyproject.toml, or the Pipfile, parsed; {} without one, or beside a requirements.txt alone.

    Raises UploadInvalid for one that is not TOML.
    """
    name = folder.first("pyproject.toml", "Pipfile")
    if name is None:
        return {}
    return toml_document(folder, name)


def _read(
    folder: Folder, file: str, names: dict[str, str], located: set[str], seen: dict[str, int]
) -> bool:
    """Collects the names in a file and in those it includes; `seen` counts each one's lines.

    `located` are the names in addresses.

    Returns whether files of the upload are installed.
    """
    if file in seen or len(seen) >= FILES_LIMIT:
        return False
    lines = folder.text(file).splitlines()
    seen[file] = len(lines)
    if sum(seen.values()) > LINES_LIMIT:
        raise UploadInvalid(f"has more than {LINES_LIMIT:,} lines", path=folder.path(file))
    is_local = False
    root = (folder, *folder.parents())[-1]
    for number, line in enumerate(lines, 1):
        text = re.split(r"(?:^|[ \t])#", line, maxsplit=1)[0].strip()
        include = _INCLUDE.match(text)
        if include is not None:
            included = _included(folder, file, include[1], number)
            is_own = folder.has(included)
            read = _read(folder if is_own else root, included, names, located, seen)
            is_local = read or is_local or not is_own
        elif text and not _is_location(text):
            names.update(_names(text, folder.path(file), number))
            is_local = is_local or "@ file:" in text or "@ ." in text
        else:
            is_local = is_local or _LOCAL.match(text) is not None
            place = _PLACE.search(text)
            if place is not None:
                located.add(normal(place[1]))
    return is_local


def _included(folder: Folder, file: str, target: str, number: int) -> str:
    name = posixpath.normpath(posixpath.join(posixpath.dirname(file), target.strip()))
    around = posixpath.normpath(folder.path(name))
    if name.startswith("../") and (folder, *folder.parents())[-1].has(around):
        return around
    if name.startswith(("/", "..")) or not folder.has(name):
        raise UploadInvalid(
            f"line {number} includes {target[:200]!r}, which is not in the upload",
            path=folder.path(file),
        )
    return name


def _is_location(text: str) -> bool:
    """Whether it is an option, a URL, a path or the rest of a wrapped line, for the installer."""
    return (
        text.startswith(("-", ".", "/"))
        or "://" in text
        or text.split(";", maxsplit=1)[0].strip().endswith((".whl", ".tar.gz", ".zip"))
    )


def _names(text: str, path: str, number: int) -> dict[str, str]:
    match = _NAME.match(text)
    if match is None or not _REST.match(text, match.end()):
        raise UploadInvalid(f"line {number} is not a requirement: {text[:100]!r}", path=path)
    problem = installable(normal(match[1]))
    if problem:
        raise UploadInvalid(f"line {number}: {problem}", path=path)
    return _with_extras(match)


def _with_extras(match: re.Match[str]) -> dict[str, str]:
    """Returns the package, and what it brings, each with what is asked of its version."""
    extras = {extra.strip().lower() for extra in (match[2] or "").split(",")}
    name, *brought = _brought(normal(match[1]), extras)
    return {name: match.string[match.end() :], **dict.fromkeys(brought, "")}


def _brought(name: str, extras: set[str]) -> tuple[str, ...]:
    """Returns the package, and what its extras install."""
    of, brought = _BRING.get(name, (frozenset(), ()))
    return (name,) if of.isdisjoint(extras) else (name, *brought)


def _of_pyproject(folder: Folder, document: Mapping[str, object]) -> Requirements:
    path = folder.path("pyproject.toml")
    project = document.get("project", {})
    if not isinstance(project, dict):
        raise UploadInvalid("must have [project] as a table", path=path)
    dependencies = project.get("dependencies", [])
    if not isinstance(dependencies, list) or not all(isinstance(d, str) for d in dependencies):
        raise UploadInvalid("must have project.dependencies as a list of strings", path=path)
    names: dict[str, str] = {}
    for dependency in dependencies:
        names.update(_project_names(dependency, path))
    poetry = _table(_table(document.get("tool")).get("poetry"))
    names.update(_of_table(_table(poetry.get("dependencies"))))
    lock = folder.first("uv.lock", "poetry.lock", "pdm.lock")
    around = next((it for it in folder.parents() if it.has("pyproject.toml")), None)
    name = project.get("name")
    if lock is None and around and _is_workspace(project_document(around)) and name:
        return Requirements(
            "uv.lock" if around.has("uv.lock") else "pyproject.toml",
            frozenset(names),
            is_local=True,
            specifiers=tuple(names.items()),
            member=name if isinstance(name, str) and _NAME.fullmatch(name) else "",
        )
    if lock is None and not names:
        return _of_directory(folder)
    return Requirements(
        lock or "pyproject.toml",
        frozenset(names),
        ("pyproject.toml", lock) if lock else ("pyproject.toml",),
        is_local=_has_paths(poetry) or any(" @ file:" in d for d in dependencies),
        is_poetrys=lock is None and not dependencies,
        specifiers=tuple(names.items()),
    )


def _of_table(table: Mapping[str, object]) -> dict[str, str]:
    """Returns the packages of Poetry's or a Pipfile's table, as a file of requirements has them."""
    names: dict[str, str] = {}
    for name, wanted in table.items():
        package = normal(name)
        version = wanted if isinstance(wanted, str) else _table(wanted).get("version")
        extras = _table(wanted).get("extras", [])
        if package != "python" and isinstance(extras, list):
            brought = _brought(package, {e for e in extras if isinstance(e, str)})[1:]
            asked = pep440(version[:_VERSION_LIMIT]) if isinstance(version, str) else ""
            names.update({package: asked, **dict.fromkeys(brought, "")})
    return names


def _has_paths(poetry: Mapping[str, object]) -> bool:
    return any("path" in _table(d) for d in _table(poetry.get("dependencies")).values())


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _project_names(dependency: str, path: str) -> dict[str, str]:
    match = _NAME.match(dependency.strip())
    problem = "" if match is None else installable(normal(match[1]))
    if match is None or problem:
        problem = problem or f"names no package: {dependency[:100]!r}"
        raise UploadInvalid(problem, path=path)
    return _with_extras(match)

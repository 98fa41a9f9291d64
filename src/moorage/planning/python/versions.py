"""Chooses the Python that an app runs on."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion
from packaging.version import Version as Release

from moorage.errors import RuntimeUnsupported
from moorage.planning.explicit import Asked, pinned, pinned_tool
from moorage.planning.python.requirements import (
    COMPANIONS,
    REMOVED_MODULES,
    UNFIT,
    UNFIT_NAMES,
    bare,
    conda_packages,
    normal,
)
from moorage.planning.reading import semver
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import front_matter
from moorage.planning.reading.semver import Version
from moorage.planning.toolbox import All, Tool, Toolbox

_LIMIT = 2_097_152  # bytes; a larger lock file is not read
_MARKER_LIMIT = 200  # characters
_LOCKS = ("poetry.lock", "pdm.lock", "uv.lock")
_WHEEL = re.compile(
    r"[/\"']([A-Za-z0-9_.]{1,100})-[A-Za-z0-9_.!+]{1,60}(?:-\d\w{0,20})?"
    r"-([a-z0-9_.]{1,60})-([a-z0-9_.]{1,60})-([\w.]{1,200})\.whl"
)
_MINOR = re.compile(r"cp3(\d{1,2})\Z")
_LOCKED = re.compile(r'^name = "([\w.-]{1,100})"\r?\nversion = "([\w.!+-]{1,60})"', re.MULTILINE)
_LOCKED_NAME = re.compile(r'^name = "([\w.-]{1,100})"|^ {8}"([\w.-]{1,100})": \{', re.MULTILINE)
_CONDITION = re.compile(r"(===|==|~=|<=|<)\s*([\w.!+-]{0,59}\w)(\.\*)?")
_NOT_SHOWN = re.compile(r"[ (){}\\]|#.*")
_QUOTED = 60  # characters of a requirement in a sentence


class _Pin(NamedTuple):
    """The newest version that a requirement allows; None if there is no limit."""

    name: str
    newest: Release | None
    text: str  # for a sentence
    marker: Marker | None

    def is_unfit(self, version: Version) -> bool:
        if self.marker is not None and not self.marker.evaluate(_environment(version)):
            return False
        return any(
            spans.holds(self.newest)
            for minor, packages in UNFIT
            if version.minor >= minor and (spans := packages.get(self.name)) is not None
        )


class Wheels:
    """The Pythons that all packages of an app have wheels for, and run on."""

    def __init__(
        self,
        limited: Mapping[str, frozenset[int]],
        pins: Iterable[_Pin] = (),
        modules: Mapping[str, str] | None = None,
    ) -> None:
        self._limited = limited  # by package, the minor versions
        self._pins = tuple(pins)
        self._modules = modules or {}  # of the standard library, and which file imports each

    def allows(self, version: Version) -> bool:
        """Whether no package would have to be built, or fails when it is imported."""
        return not self.lacking(version)

    def lacking(self, version: Version) -> str:
        """Returns what is against this Python, to be followed by its name; "" for nothing."""
        for name, minors in self._limited.items():
            if version.minor not in minors:
                return f"the lock file has no wheel of {name} for"
        for pin in self._pins:
            if pin.is_unfit(version):
                return f"{pin.text} is not made for"
        for minor, names in REMOVED_MODULES:
            gone = sorted(names & self._modules.keys()) if version.minor >= minor else ()
            if gone:
                return f"{self._modules[gone[0]]} imports {gone[0]}, which is no longer in"
        return ""


def wheels(
    folder: Folder, specifiers: Iterable[tuple[str, str]] = (), *, modules: Mapping[str, str]
) -> Wheels:
    """Returns what the lock file lists for Linux, and what the table knows of the requirements.

    `specifiers` are pairs of a package and what is asked of its version, `modules` what the app
    imports of the standard library, each with the file.
    """
    pins = [pin for name, text in specifiers if name in UNFIT_NAMES for pin in _pins(name, text)]
    file = folder.first(*_LOCKS)
    if file is None or folder.size(file) > _LIMIT:
        return Wheels({}, pins, modules)
    minors: dict[str, set[int]] = {}
    general: set[str] = set()
    lock = folder.data(file, limit=_LIMIT).decode(errors="replace")
    for name, python, abi, system in _WHEEL.findall(lock):
        found = [_MINOR.match(tag) for tag in python.split(".")]
        if system == "any" or abi in ("abi3", "none"):
            general.add(name)
        elif "linux" in system and not abi.endswith("t"):
            minors.setdefault(name, set()).update(int(match[1]) for match in found if match)
    limited = {n: frozenset(m) for n, m in sorted(minors.items()) if m and n not in general}
    for name, version in _LOCKED.findall(lock):
        if name in UNFIT_NAMES:
            pins += _pins(name, f"=={version}")
    return Wheels(limited, pins, modules)


def companions(specifiers: Iterable[tuple[str, str]]) -> list[str]:
    """Returns requirements of packages that old versions need in old ones, too: `numpy<2`.

    `specifiers` are as those of `wheels`.
    """
    listed, found = dict(specifiers), dict[str, str]()
    for name, spans, needs in COMPANIONS:
        pins = _pins(name, listed[name]) if name in listed else []
        if any(spans.holds(pin.newest) for pin in pins):
            for requirement in needs:
                plain = requirement.lstrip("?")
                if plain == requirement or bare(plain) in listed:
                    found.setdefault(bare(plain), plain)
    return sorted(it for name, it in found.items() if not _CONDITION.search(listed.get(name, "")))


def locked_names(folder: Folder, file: str | None) -> set[str]:
    """Returns the names of all packages in a lock file, development's too; of none without one."""
    if file is None or not (file.endswith(".lock") and folder.has(file)):
        return set()
    lock = folder.data(file, limit=_LIMIT).decode(errors="replace")
    return {normal(one or other) for one, other in _LOCKED_NAME.findall(lock)}


def _pins(name: str, text: str) -> list[_Pin]:
    """Reads what a requirement asks of a version; [] where it can't be read."""
    wanted, _, condition = text.partition(";")
    written = _NOT_SHOWN.sub("", wanted.split(" --")[0])
    said = f"{name}{written[:_QUOTED]}"
    marker = None
    try:
        if condition.strip():
            if len(condition) > _MARKER_LIMIT:
                return []
            marker = Marker(condition.split(" --")[0].rstrip(" \\"))
        limits = [_limit(*match.groups()) for match in _CONDITION.finditer(wanted)]
        if marker is not None:
            marker.evaluate()
    except (InvalidMarker, InvalidVersion, UndefinedComparison, UndefinedEnvironmentName):
        return []
    return [_Pin(name, min(limits, default=None), said, marker)]


def _limit(operator: str, version: str, star: str | None) -> Release:
    """Returns what no allowed version is above."""
    release = Release(version)
    if star:
        return Release(f"{release.base_version}.99999")
    if operator == "~=":
        return Release(f"{release.base_version.rpartition('.')[0] or '99999'}.99999")
    # `<2` stands for the versions just before 2.
    return Release(f"{release.base_version}.dev0") if operator == "<" else release


def _environment(version: Version) -> dict[str, str | set[str] | frozenset[str]]:
    """Returns what markers compare, where it is not this process's own."""
    return {
        "python_version": f"{version.major}.{version.minor}",
        "python_full_version": str(version),
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


SPECIFIER_LIMIT = 256  # characters

_NUMBERS = re.compile(r"(?:python-|cpython-|==?|v)?(\d)(?:\.(\d{1,3}))?(?:\.(\d{1,3}))?(?:\.\*)?\Z")


class _Wanted(NamedTuple):
    text: str
    source: str
    specifiers: SpecifierSet
    is_strict: bool = True

    def allows(self, version: Version) -> bool:
        return self.specifiers.contains(str(version))


class Found(NamedTuple):
    """The Python chosen: its command, which is on the PATH, and why.

    `older` is the machine's next older one, where the app asks for none. `lacking` says which
    package is not made for it, nor for any other that will do.
    """

    tool: Tool
    because: str
    older: str = ""
    lacking: str = ""

    @property
    def command(self) -> str:
        """The interpreter's name, such as python3.13."""
        return f"python{self.tool.version.major}.{self.tool.version.minor}"


def python_for(
    folder: Folder,
    asked: Asked,
    toolbox: Toolbox,
    *,
    document: Mapping[str, object],
    fitting: Wheels,
) -> Found:
    """Returns the Python for the app; `document` is its pyproject.toml, or Pipfile.

    `fitting` are those that its packages have wheels for.

    Raises RuntimeUnsupported, naming the source, when the wanted version is not available.
    """
    required = _required(document)
    given = _asked(asked)
    wanted = given or _pinned(folder) or required
    tool, wheel, lacking = _newest(toolbox, wanted, fitting)
    limits = required if required is not None and required.is_strict else None
    is_locked = folder.first("uv.lock", "poetry.lock", "pdm.lock") is not None
    if given and tool and is_locked and limits and not limits.allows(tool.version):
        raise RuntimeUnsupported(
            given.source,
            f"Python {tool.version} is asked for, but {limits.source} is {limits.text}: "
            "choose one that it allows, or change it and lock again",
        )
    if tool is not None:
        asks = f"{wanted.source} asks for Python {wanted.text}" if wanted else ""
        said = "; ".join(part for part in (asks, wheel) if part)
        older = _older(toolbox, tool) if wanted is None else ""
        return Found(tool, f"{said}: {tool}" if said else "", older, lacking)
    if wanted is None:
        raise RuntimeUnsupported("upload", "this gateway has no Python")
    nearest = None if wanted.is_strict else _nearest(toolbox, wanted, limits, fitting)
    if nearest is None:
        is_limit = limits and not any(limits.allows(it.version) for it in toolbox.tools("python"))
        raise _unmet(limits if limits and is_limit else wanted, toolbox)
    return Found(
        nearest,
        f"{wanted.source} asks for Python {wanted.text}, which is not to be had here: "
        f"the nearest is {nearest}",
    )


def _unmet(wanted: _Wanted, toolbox: Toolbox) -> RuntimeUnsupported:
    return RuntimeUnsupported(
        wanted.source,
        f"Python {wanted.text} is asked for, but this gateway has {toolbox.offer('python')}: "
        "ask for one that it has",
    )


def _older(toolbox: Toolbox, chosen: Tool) -> str:
    own = (tool.version for tool in toolbox.tools("python") if tool.is_hosts)
    older = [version for version in own if version[:2] < chosen.version[:2]]
    return str(older[-1]) if older else ""


def _asked(asked: Asked) -> _Wanted | None:
    if asked.program != "python" or asked.version is None:
        return None
    return _from_numbers(asked.version.text, asked.version.source, is_strict=True)


def _pinned(folder: Folder) -> _Wanted | None:
    for place in (folder, *folder.parents()):
        for file in (".python-version", "runtime.txt"):
            found = _from_numbers(pinned(place, file), place.path(file), is_strict=False)
            if found is not None:
                return found
        text, file = pinned_tool(place, "python")
        found = _from_numbers(text, place.path(file), is_strict=False)
        if found is not None:
            return found
    conda = conda_packages(folder)
    if conda is not None and not folder.first("requirements.txt", "pyproject.toml", "Pipfile"):
        text = conda[1].get("python", "").lstrip("=")
        return _from_numbers(text, folder.path(conda[0]), is_strict=False)
    space = str(front_matter(folder, "README.md").get("python_version", ""))
    return _from_numbers(space, folder.path("README.md"), is_strict=False)


def _from_numbers(text: str, source: str, *, is_strict: bool) -> _Wanted | None:
    """Returns a version with one, two or three parts. Any newer third part is accepted."""
    match = _NUMBERS.match(text.strip())
    if match is None:
        return None
    minor = f".{match[2]}" if match[2] else ""
    return _Wanted(
        text.strip().removeprefix("python-"),
        source,
        SpecifierSet(f"=={match[1]}{minor}.*"),
        is_strict=is_strict,
    )


def _required(document: Mapping[str, object]) -> _Wanted | None:
    """Returns pyproject's requires-python, Poetry's `python`, or the Pipfile's version."""
    project, pipenv = document.get("project"), document.get("requires")
    if isinstance(project, dict):
        found = _specifiers(project.get("requires-python"), "pyproject.toml's requires-python")
        if found is not None:
            return found
    poetry = _table(_table(document.get("tool")).get("poetry"))
    written = _table(poetry.get("dependencies")).get("python")
    if isinstance(written, str):
        return _caret(written, "pyproject.toml's python dependency")
    if isinstance(pipenv, dict):
        text = pipenv.get("python_full_version", pipenv.get("python_version"))
        if isinstance(text, str):
            return _from_numbers(text, "the Pipfile's [requires]", is_strict=False)
    return None


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _specifiers(text: object, source: str) -> _Wanted | None:
    if not isinstance(text, str) or len(text) > SPECIFIER_LIMIT:
        return None
    try:
        return _Wanted(text, source, SpecifierSet(text))
    except InvalidSpecifier:
        return None


def _caret(text: str, source: str) -> _Wanted | None:
    """Reads Poetry's `^3.11` and `~3.11`, which PEP 440 lacks."""
    plain = _specifiers(text, source)
    if plain is not None:
        return plain
    found = semver.version_range(text)
    if found is None or len(found.spans) != 1:
        return None
    span = found.spans[0]
    below = f",<{span.below}" if span.below else ""
    return _Wanted(text, source, SpecifierSet(f">={span.lowest}{below}"))


def _newest(
    toolbox: Toolbox, wanted: _Wanted | None, having: Wheels
) -> tuple[Tool | None, str, str]:
    """Returns the newest that is wanted; an older one if the packages have wheels for that alone.

    The oldest if they have wheels for none, as it may build them. The first sentence says which
    package decided, the second which one fits none.
    """
    asked = wanted or semver.ANY
    newest = toolbox.choose("python", asked)
    fitting = toolbox.choose("python", All((asked, having)))
    lacking = "" if newest is None else having.lacking(newest.version)
    if newest is None or not lacking:
        return newest, "", ""
    if fitting is None:
        oldest = next(tool for tool in toolbox.tools("python") if asked.allows(tool.version))
        said = f"{having.lacking(oldest.version)} {oldest}"
        return oldest, f"{said}, and no other Python that will do is here", said
    return fitting, f"{lacking} {newest}", ""


def _nearest(
    toolbox: Toolbox, wanted: _Wanted, required: _Wanted | None, having: Wheels
) -> Tool | None:
    """Returns the allowed Python nearest to the pinned one, of those that the packages run on.

    Later versions are preferred.
    """
    match = _NUMBERS.match(wanted.text)
    if match is None:
        return None
    major, minor = int(match[1]), int(match[2] or 0)
    tools = [t for t in toolbox.tools("python") if required is None or required.allows(t.version)]
    tools = [tool for tool in tools if tool.version.major == major]
    return min(
        [tool for tool in tools if having.allows(tool.version)] or tools,
        key=lambda t: (t.version.minor < minor, abs(t.version.minor - minor), -t.version.patch),
        default=None,
    )

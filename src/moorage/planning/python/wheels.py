"""Finds which Pythons an app's packages run on, as far as its files and a table tell.

A package that has wheels for some Pythons alone would be built from its sources on another, which
needs compilers that may lack; some also fail there when they are imported. Lock files list their
wheels. For what a file of requirements pins, `packages.toml` knows the versions that are too old.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.version import InvalidVersion
from packaging.version import Version as Release

from moorage.planning.python.packages import REMOVED_MODULES, UNFIT, UNFIT_NAMES, normal
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import Version

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

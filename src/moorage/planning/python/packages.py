"""What is known of Python's packages without a network: `packages.toml`, read once."""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, NamedTuple

from packaging.version import Version as Release

_SPAN = re.compile(r"(?:>=(?P<low>[\d.]+),[ ]?)?<(?P<high>[\d.]+)\Z")
_SEPARATORS = re.compile(r"[-_.]+")
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


def _minor(python: str) -> int:
    return int(python.partition(".")[2])


_TABLE: dict[str, Any] = tomllib.loads(
    resources.files("moorage.planning.python").joinpath("packages.toml").read_text()
)
_IMPORTS = _words(_TABLE["imports"])
_BRINGS = _words(_TABLE["brings"])
_SAME = frozenset(normal(name) for name in _TABLE["same"]["names"].split())
UNFIT = tuple(
    (_minor(python), {name: _spans(text) for name, text in packages.items()})
    for python, packages in _TABLE["unfit"].items()
)
"""By minor version, the versions of packages that do not run on it and later ones."""
UNFIT_NAMES = frozenset(name for _, packages in UNFIT for name in packages)
REMOVED_MODULES = tuple(
    (_minor(python), frozenset(names.split())) for python, names in _TABLE["removed"].items()
)
"""By minor version, the modules of the standard library that it and later ones lack."""
STANDARD_MODULES = frozenset(sys.stdlib_module_names).union(
    _MORE_MODULES, *(names for _, names in REMOVED_MODULES)
)
_PACKAGED = frozenset(_TABLE["packaged"]["names"].split())
_NO_PACKAGES = frozenset(normal(n) for n in STANDARD_MODULES - _PACKAGED if not n.startswith("_"))
_MISNAMED = {normal(name): _IMPORTS[name][0] for name in _TABLE["misnamed"]["names"].split()}
ALSO: dict[str, str] = _TABLE["also"]
"""By what is imported, a package that its use needs besides."""
LISTENING = tuple(map(re.escape, _TABLE["listening"]["names"].split()))
"""Patterns of the names of modules that listen on a port for an app."""
PORTLESS: dict[str, str] = _TABLE["portless"]
"""By module, what an app is that imports it and listens on no port."""

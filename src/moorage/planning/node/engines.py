"""Finds which Nodes an app's dependencies run on: from its lock file, or from a known list.

Frameworks refuse to build on an older one, so what they need goes before the app's own request;
what other packages need comes after it.
"""

import re
from typing import NamedTuple

import msgspec

from moorage.planning.node.package_json import PackageJson
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import ANY, Range, Version, version_range
from moorage.planning.toolbox import Allows

LOCK_LIMIT = 2_097_152  # bytes; a larger lock file is not read
_NAME_LIMIT = 214  # characters, npm's own
_PNPM_ENTRY = re.compile(
    r"^  '?/?((?:@[\w.-]+/)?[\w.-]+)[@/]\d[^\n]*:\n"
    r"(?:    (?!engines:)[^\n]*\n)*    engines: \{[^}\n]*?\bnode: '?([^'},\n]{1,256})",
    re.MULTILINE,
)
# Packages that refuse to build on another Node: the first version to which a line applies, and its
# `engines.node` (npm, November 2026). A lock file's own says it more exactly.
_FLOORS = (
    ("@angular/core", Version(19, 0, 0), "^18.19.1 || ^20.11.1 || >=22.0.0"),
    ("@angular/core", Version(20, 0, 0), "^20.19.0 || ^22.12.0 || >=24.0.0"),
    ("@angular/core", Version(22, 0, 0), "^22.22.3 || ^24.15.0 || >=26.0.0"),
    ("@docusaurus/core", Version(3, 0, 0), ">=18.0"),
    ("@docusaurus/core", Version(3, 9, 0), ">=20.0"),
    ("@nestjs/cli", Version(11, 0, 0), ">=20.11"),
    ("@react-router/dev", Version(7, 0, 0), ">=20.0.0"),
    ("@sveltejs/kit", Version(2, 0, 0), ">=18.13"),
    ("@sveltejs/kit", Version(3, 0, 0), ">=22.17"),
    ("@tanstack/react-start", Version(1, 132, 0), ">=22.12.0"),
    ("astro", Version(5, 0, 0), "18.20.8 || ^20.3.0 || >=22.0.0"),
    ("astro", Version(6, 0, 0), ">=22.12.0"),
    ("gatsby", Version(5, 0, 0), ">=18.0.0"),
    ("next", Version(14, 0, 0), ">=18.17.0"),
    ("next", Version(15, 0, 0), "^18.18.0 || ^19.8.0 || >=20.0.0"),
    ("next", Version(16, 0, 0), ">=20.9.0"),
    ("nuxt", Version(4, 0, 0), "^20.19.0 || >=22.12.0"),
    ("nuxt", Version(4, 4, 6), "^22.19.0 || ^24.11.0 || >=26.0.0"),
    ("prisma", Version(7, 0, 0), "^20.19 || ^22.12 || >=24.0"),
    ("react-router", Version(8, 0, 0), ">=22.22.0"),
    ("vite", Version(5, 0, 0), "^18.0.0 || >=20.0.0"),
    ("vite", Version(6, 0, 0), "^18.0.0 || ^20.0.0 || >=22.0.0"),
    ("vite", Version(7, 0, 0), "^20.19.0 || >=22.12.0"),
)
_REFUSE = frozenset(package for package, _, _ in _FLOORS)


class Need(NamedTuple):
    """The Node versions that a package needs."""

    package: str
    text: str
    range: Range
    is_floor: bool = False  # whether the package refuses any other

    def __str__(self) -> str:
        return f"{self.package} needs Node {self.text}"


class Met(NamedTuple):
    """The Nodes that satisfy all needs, and the package manager (`also`)."""

    needs: tuple[Need, ...]
    also: Allows

    def allows(self, version: Version) -> bool:
        """Whether the release satisfies all of them."""
        return self.also.allows(version) and all(n.range.allows(version) for n in self.needs)


def package_needs(root: Folder, manifest: PackageJson, *, directory: str = "") -> tuple[Need, ...]:
    """Returns what the app's own dependencies need of Node, sorted by name.

    `directory` is the app's below `root`, where the lock file is.
    """
    dependencies = manifest.dependencies.keys() | manifest.dev_dependencies.keys()
    names = sorted(name for name in dependencies if len(name) <= _NAME_LIMIT)
    if _is_read(root, "package-lock.json"):
        locked = _npm_locked(root, names, directory)
    elif _is_read(root, "pnpm-lock.yaml"):
        locked = _pnpm_locked(root, frozenset(names))
    else:
        locked = list(_known(manifest).items())
    needs = (
        Need(name, text, found, name in _REFUSE)
        for name, text in locked
        if (found := version_range(text))
    )
    return tuple(need for need in needs if need.range != ANY)


class _Locked(msgspec.Struct):
    engines: object = None  # a list in very old packages


class _Lock(msgspec.Struct):
    packages: dict[str, _Locked] = {}


def _npm_locked(root: Folder, names: list[str], directory: str) -> list[tuple[str, str]]:
    try:
        packages = msgspec.json.decode(
            root.data("package-lock.json", limit=LOCK_LIMIT), type=_Lock
        ).packages
    except (msgspec.MsgspecError, RecursionError):
        return []  # npm reports a broken lock file better
    found = []
    for name in names:
        path = f"node_modules/{name}"
        locked = packages.get(f"{directory}/{path}") or packages.get(path)
        engines = locked.engines if locked is not None else None
        if isinstance(engines, dict) and isinstance(engines.get("node"), str):
            found.append((name, engines["node"]))
    return found


def _pnpm_locked(root: Folder, names: frozenset[str]) -> list[tuple[str, str]]:
    text = root.data("pnpm-lock.yaml", limit=LOCK_LIMIT).decode(errors="replace")
    return sorted({(name, node) for name, node in _PNPM_ENTRY.findall(text) if name in names})


def _is_read(root: Folder, lock: str) -> bool:
    return root.has(lock) and root.size(lock) <= LOCK_LIMIT


def _known(manifest: PackageJson) -> dict[str, str]:
    """Returns the needs of the newest versions that package.json allows: those are installed."""
    versions = {**manifest.dev_dependencies, **manifest.dependencies}
    return {
        package: node
        for package, first, node in _FLOORS
        if package in versions and allows_from(versions[package], first)
    }


def allows_from(text: str, first: Version) -> bool:
    """Whether a dependency's range allows a version from `first` on, as the newest one is taken."""
    found = ANY if text == "latest" else version_range(text)
    return found is not None and any(s.below is None or s.below > first for s in found.spans)

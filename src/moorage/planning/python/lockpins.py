#!/usr/bin/env python3
"""Prints the pins of a Poetry, PDM or Pipenv lock file as requirements that uv installs.

    lockpins poetry.lock | pdm.lock | Pipfile.lock | Pipfile | pyproject.toml

It runs in a build's sandbox, on the app's own Python, so it uses only the standard library. The
last two serve without a lock file: they give the requirements of the tool's own table. Groups for
development are left out.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Table = Mapping[str, Any]


def normal(name: str) -> str:
    """Returns a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def line(what: str, marker: str, hashes: Iterable[str]) -> str:
    """Returns one requirement."""
    said = f"{what} ; {marker}" if marker else what
    return " ".join((said, *(f"--hash={found}" for found in hashes)))


def source(package: Table) -> str | None:
    """Returns the direct reference of a package that is on no index, else None."""
    origin = package.get("source", package)
    kind, url = origin.get("type", ""), origin.get("url")
    revision = origin.get("resolved_reference", origin.get("revision", origin.get("ref")))
    repository = origin.get("git", url if kind == "git" else None)
    if repository:
        return f"git+{repository}@{revision}" if revision else f"git+{repository}"
    path = origin.get("path", url if kind in ("directory", "file") else None)
    if path:
        return Path(path).resolve().as_uri()
    return url if kind in ("", "url") and url else None


def pin(package: Table, marker: str) -> str:
    """The line of a locked package of poetry.lock or pdm.lock."""
    direct = source(package)
    if direct is not None:
        return line(f"{package['name']} @ {direct}", marker, ())
    hashes = [file["hash"] for file in package.get("files", ()) if "hash" in file]
    return line(f"{package['name']}=={package['version']}", marker, hashes)


OTHER_SYSTEM = re.compile(r"(?:sys_platform|platform_system) == .(?:win32|Windows|[dD]arwin)")


def of_pdm(lock: Table, project: Table) -> Iterator[str]:
    """pdm.lock: the packages of the group `default`; before 4.5, those that it depends on."""
    packages, seen = lock.get("package", ()), set()
    are_grouped = any("groups" in package for package in packages)
    ahead = [] if are_grouped else [*project.get("project", {}).get("dependencies", ())]
    reached = set[str]()
    while ahead:
        name = normal(re.match(r"[\w.-]*", ahead.pop())[0])  # type: ignore[index]
        if name not in reached:
            reached.add(name)
            same = (package for package in packages if normal(package["name"]) == name)
            needed = (it for package in same for it in package.get("dependencies", ()))
            ahead += [it for it in needed if not OTHER_SYSTEM.search(it)]
    for package in packages:
        is_needed = not reached or normal(package["name"]) in reached
        is_default = "default" in package.get("groups", ["default"] if is_needed else [])
        if is_default and package["name"] not in seen:
            seen.add(package["name"])
            yield pin(package, package.get("marker", ""))


def of_poetry(lock: Table, project: Table) -> Iterator[str]:
    """poetry.lock: the packages of the group `main`; before 2.1, those that it depends on."""
    packages = lock.get("package", ())
    reached = None if any("groups" in p for p in packages) else reachable(packages, project)
    for package in packages:
        if package.get("optional"):
            continue
        if reached is not None:
            markers = reached.get(normal(package["name"]))
            if markers is not None:
                yield pin(package, "" if "" in markers else " or ".join(sorted(markers)))
        elif "main" in package.get("groups", ()):
            marker = package.get("markers", "")
            yield pin(package, marker.get("main", "") if isinstance(marker, dict) else marker)
    for origin in {p["source"]["url"] for p in packages if is_on_other_index(p)}:
        yield f"--extra-index-url {origin}"


def is_on_other_index(package: Table) -> bool:
    """Whether poetry.lock takes a package from another index than the default."""
    origin: Table = package.get("source", {})
    return bool(origin.get("type") == "legacy")


def reachable(packages: Iterable[Table], project: Table) -> dict[str, set[str]]:
    """Returns the direct and indirect main dependencies of the project, with their markers."""
    named = {normal(package["name"]): package for package in packages}
    poetry = project.get("tool", {}).get("poetry", {})
    ahead = [(normal(name), "") for name in poetry.get("dependencies", {})]
    found: dict[str, set[str]] = {}
    while ahead:
        name, marker = ahead.pop()
        if name not in named or marker in found.get(name, ()):
            continue
        is_new = name not in found
        found.setdefault(name, set()).add(marker)
        if is_new:
            for needed, wanted in named[name].get("dependencies", {}).items():
                condition = wanted.get("markers", "") if isinstance(wanted, dict) else ""
                optional = isinstance(wanted, dict) and wanted.get("optional")
                if not optional:
                    ahead.append((normal(needed), f"({condition})" if condition else ""))
    return found


def of_pipfile_lock(lock: Table, _project: Table) -> Iterator[str]:
    """Pipfile.lock: its `default`."""
    for name, package in lock.get("default", {}).items():
        direct = source(package)
        extras = f"[{','.join(package['extras'])}]" if package.get("extras") else ""
        what = f"{name}{extras}{package.get('version', '')}"
        if direct is not None:
            what = f"{name}{extras} @ {direct}"
        yield line(what, package.get("markers", ""), () if direct else package.get("hashes", ()))


def of_table(table: Table) -> Iterator[str]:
    """The `packages` of a Pipfile, or Poetry's `dependencies`."""
    for name, wanted in table.items():
        if name == "python":
            continue
        package = wanted if isinstance(wanted, dict) else {"version": wanted}
        if package.get("optional"):
            continue
        extras = f"[{','.join(package['extras'])}]" if package.get("extras") else ""
        direct = source({key: value for key, value in package.items() if key != "version"})
        version = f" @ {direct}" if direct else specifiers(str(package.get("version", "*")))
        yield line(f"{name}{extras}{version}", package.get("markers", ""), ())


def specifiers(text: str) -> str:
    """Converts a version of Poetry or Pipenv, with their own ^, ~ and *, to PEP 440."""
    return ",".join(found for part in text.split(",") if (found := specifier(part.strip())))


def specifier(text: str) -> str:
    """Converts one of the conditions of a version."""
    match = re.fullmatch(r"([\^~]?)v?(\d+(?:\.\d+)*)((?:\.\*)?)", text)
    if match is None:
        return "" if text == "*" else text
    operator, version, star = match.groups()
    parts = [int(part) for part in version.split(".")]
    if not operator:
        return f"=={version}{star}"
    kept = min(2, len(parts)) if operator == "~" else significant(parts)
    upper = [*parts[: kept - 1], parts[kept - 1] + 1]
    return f">={version},<{'.'.join(map(str, upper))}"


def significant(parts: list[int]) -> int:
    """Returns how many parts of a caret version are fixed: up to the first that is not 0."""
    return next((at for at, part in enumerate(parts, 1) if part), len(parts))


def pins(file: Path) -> Iterator[str]:
    """Yields the requirements of a lock file, or of a tool's table."""
    text = file.read_text(encoding="utf-8")
    document = json.loads(text) if file.name == "Pipfile.lock" else tomllib.loads(text)
    beside = file.with_name("pyproject.toml")
    project = tomllib.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    match file.name:
        case "poetry.lock":
            return of_poetry(document, project)
        case "pdm.lock":
            return of_pdm(document, project)
        case "Pipfile.lock":
            return of_pipfile_lock(document, project)
        case "Pipfile":
            return of_table(document.get("packages", {}))
    return of_table(document.get("tool", {}).get("poetry", {}).get("dependencies", {}))


if __name__ == "__main__":
    sys.stdout.writelines(f"{pinned}\n" for pinned in pins(Path(sys.argv[1])))

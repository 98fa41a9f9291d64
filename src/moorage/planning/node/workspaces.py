"""Monorepos: a root package and its workspaces."""

import json
import posixpath
import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from moorage.planning.node.package_json import PackageJson, package_json
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.glob import matches, parts

WORKSPACES_LIMIT = 300  # package.json files read
PATTERNS_LIMIT = 64
PATTERN_LENGTH = 256  # characters; a longer one matches nothing
DEPTH_LIMIT = 16  # directories from the root to a workspace
CANDIDATES_LIMIT = 2_000  # package.json files matched against the patterns
_YAML_LIMIT = 65_536  # bytes
_ITEM = re.compile(r"""\s*-\s*(?:"([^"]*)"|'([^']*)'|([^#\s]+))""")


class Workspace(NamedTuple):
    """One package of a monorepo; `directory` is relative to the root."""

    directory: str
    manifest: PackageJson


class Monorepo(NamedTuple):
    """A root with its workspaces. It is installed at the root, whichever workspace is the app."""

    root: Folder
    manifest: PackageJson
    workspaces: tuple[Workspace, ...]

    def at(self, directory: str) -> Workspace | None:
        """The workspace in that directory, from the root."""
        return next((w for w in self.workspaces if w.directory == directory), None)

    def built_before(self, workspace: Workspace) -> list[Workspace]:
        """Returns the workspaces to build before it, each after those that it needs itself."""
        named: dict[object, Workspace] = {
            w.manifest.name: w for w in self.workspaces if isinstance(w.manifest.name, str)
        }
        order: dict[str, Workspace] = {}
        seen = {workspace.directory}
        stack = [(workspace, iter(_needs(workspace, named)))]
        while stack:
            _, needs = stack[-1]
            needed = next((w for w in needs if w.directory not in seen), None)
            if needed is None:
                done, _ = stack.pop()
                order[done.directory] = done
            else:
                seen.add(needed.directory)
                stack.append((needed, iter(_needs(needed, named))))
        del order[workspace.directory]
        return [w for w in order.values() if w.manifest.script("build")]


def _needs(workspace: Workspace, named: dict[object, Workspace]) -> list[Workspace]:
    manifest = workspace.manifest
    names = {**manifest.dependencies, **manifest.dev_dependencies}
    return [named[name] for name in names if name in named]


def monorepo(root: Folder, manifest: PackageJson) -> Monorepo | None:
    """Returns the folder as a root of workspaces; None when it has none.

    Raises UploadInvalid for a workspace's package.json that can't be read.
    """
    patterns = (*manifest.workspace_patterns, *_pnpm_patterns(root))
    if not patterns:
        return None
    return Monorepo(root, manifest, tuple(_workspaces(root, patterns)))


def monorepo_around(folder: Folder) -> tuple[Monorepo, Workspace] | None:
    """Returns the monorepo that the folder is a workspace of, and the workspace; None if none."""
    for root in folder.parents():
        manifest = package_json(root)
        found = monorepo(root, manifest) if manifest is not None else None
        if found is not None:
            skip = len(root.directory) + 1 if root.directory else 0
            workspace = found.at(folder.directory[skip:])
            return (found, workspace) if workspace is not None else None
    return None


def _workspaces(root: Folder, patterns: tuple[str, ...]) -> Iterator[Workspace]:
    short = [p for p in patterns[:PATTERNS_LIMIT] if len(p) <= PATTERN_LENGTH]
    globs = [posixpath.normpath(pattern.strip("/")) for pattern in short]
    wanted = [parts(glob) for glob in globs if not glob.startswith("!")]
    unwanted = [parts(glob[1:].strip("/")) for glob in globs if glob.startswith("!")]
    count = 0
    for directory in islice(_packages(root), CANDIDATES_LIMIT):
        names = directory.split("/")
        if not any(matches(p, names) for p in wanted) or any(matches(p, names) for p in unwanted):
            continue
        manifest = package_json(root.below(directory)) if count < WORKSPACES_LIMIT else None
        if manifest is not None:
            count += 1
            yield Workspace(directory, manifest)


def _packages(root: Folder) -> Iterator[str]:
    """Yields the directories with a package.json, without those of installed packages."""
    for name in root.names():
        if name.endswith("/package.json") and "node_modules/" not in name:
            directory = name.removesuffix("/package.json")
            if directory.count("/") < DEPTH_LIMIT:
                yield directory


def _pnpm_patterns(root: Folder) -> tuple[str, ...]:
    """Returns the `packages` of pnpm-workspace.yaml: a list of lines, or a list on one line."""
    if not root.has("pnpm-workspace.yaml"):
        return ()
    found: list[str] = []
    inside = False
    data = root.data("pnpm-workspace.yaml", limit=_YAML_LIMIT).decode(errors="replace")
    for line in data.splitlines():
        if line.startswith("packages:"):
            inside = True
            found += _flow_list(line.partition(":")[2])
            continue
        match = _ITEM.match(line) if inside else None
        if match is not None:
            found.append(match[1] or match[2] or match[3] or "")
        elif inside and line.strip() and not line.lstrip().startswith("#"):
            inside = False
    return tuple(pattern for pattern in found if pattern)


def _flow_list(text: str) -> list[str]:
    try:
        listed = json.loads(text.strip().replace("'", '"') or "[]")
    except (ValueError, RecursionError):
        return []
    return [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []

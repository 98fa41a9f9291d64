"""npm, pnpm, Yarn and Bun: which one an app uses, in which version, and its commands."""

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from moorage.errors import RuntimeUnsupported
from moorage.planning.explicit import (
    Asked,
    Found,
    Wanted,
    find_tool,
    is_kept_long,
    pinned,
    pinned_tool,
    wanted_from,
)
from moorage.planning.node.package_json import PACKAGES, PackageJson, managers_called
from moorage.planning.plan import in_app
from moorage.planning.reading import semver
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import word_tuple
from moorage.planning.reading.semver import ANY, Range, Version, version_range
from moorage.planning.toolbox import All, Allows, Tool, Toolbox

LOCK_LIMIT = 2_097_152  # bytes; a larger lock file is not read
_NAME_LIMIT = 214  # characters, npm's own
_PNPM_ENTRY = re.compile(
    r"^  '?/?((?:@[\w.-]+/)?[\w.-]+)[@/]\d[^\n]*:\n"
    r"(?:    (?!engines:)[^\n]*\n)*    engines: \{[^}\n]*?\bnode: '?([^'},\n]{1,256})",
    re.MULTILINE,
)
_FLOORS = [
    (name, semver.version(first) or semver.ZERO, node) for name, first, node in PACKAGES["floors"]
]
_REFUSE = frozenset(package for package, _, _ in _FLOORS)


class Need(NamedTuple):
    """The Node versions that a package needs."""

    package: str
    text: str
    range: Range
    is_floor: bool = False  # whether the package refuses any other

    def __str__(self) -> str:
        return f"{self.package} needs Node {self.text}"


def _met(needs: tuple[Need, ...], also: Allows) -> All:
    """Returns the Nodes that satisfy all needs, and the package manager (`also`)."""
    return All((also, *(need.range for need in needs)))


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


PIN_FILES = (".nvmrc", ".node-version")
# Node's long-term releases by their names in nvm (nodejs.org, release schedule).
_NAMES = "argon boron carbon dubnium erbium fermium gallium hydrogen iron jod krypton"
_NAMED = {name: str(2 * number) for number, name in enumerate(word_tuple(_NAMES), start=2)}


_STRIPS = ">=22.18.0 <23 || >=23.6.0"
"""The Nodes that run TypeScript by removing its types (Node's documentation, Modules)."""


def strips_types(version: Version) -> bool:
    """Whether this Node runs TypeScript by itself."""
    found = version_range(_STRIPS)
    return found is not None and found.allows(version)


def typescript_need() -> Need:
    """Returns what a script that gives Node a TypeScript file needs."""
    return Need("its start script", _STRIPS, version_range(_STRIPS) or ANY)


def node_for(
    folder: Folder,
    manifest: PackageJson | None,
    asked: Asked,
    toolbox: Toolbox,
    *,
    also: Range = ANY,
    needs: tuple[Need, ...] = (),
) -> Found:
    """Returns the Node for the app. `also` is what its package manager needs.

    `needs` of packages that refuse any other go before files that ask for one, those of others
    after them. Raises RuntimeUnsupported, also where a package refuses what settings.runtime names.
    """
    wanted = asked.version_of("node")
    is_given = wanted is not None
    wanted = wanted or _pinned(folder)
    if wanted is None and manifest is not None:
        wanted = wanted_from(manifest.engine("node"), "package.json's engines.node")
    floors = tuple(need for need in needs if need.is_floor)
    if wanted is not None and (unmet := _unmet(toolbox, floors, wanted, also)):
        if is_given:
            problem = f"{unmet}: leave {wanted.source} out, and a Node that will do is taken"
            raise RuntimeUnsupported(wanted.source, problem)
        return _found(toolbox, floors, also, f"{wanted}, but {unmet}")
    found = find_tool(toolbox, "node", wanted, also=also)
    unmet = next((need for need in needs if not need.range.allows(found.tool.version)), None)
    if unmet is None:
        return found
    if wanted is not None:
        both = _choose(toolbox, _met(needs, also), wanted)
        if both is not None:
            return Found(both, f"{wanted}, and {unmet}: {both}")
        within = _choose(toolbox, _met(floors, also), wanted) or found.tool
        return Found(within, found.because if within == found.tool else f"{wanted}: {within}")
    tool = _choose(toolbox, _met(needs, also))
    if tool is None and not floors:
        return Found(found.tool, f"{unmet}, which is not to be had here: {found.tool}")
    return _found(toolbox, needs if tool else floors, also, str(unmet))


def _choose(toolbox: Toolbox, met: All, wanted: Wanted | None = None) -> Tool | None:
    allowed = met if wanted is None else All((wanted.range, met))
    return toolbox.choose("node", allowed, preferred=is_kept_long)


def _unmet(toolbox: Toolbox, floors: tuple[Need, ...], wanted: Wanted, also: Range) -> Need | None:
    """Returns a package that refuses every available Node that is as wanted, or the nearest."""
    if not floors or _choose(toolbox, _met(floors, also), wanted):
        return None
    tools = [t.version for t in toolbox.tools("node") if wanted.range.allows(t.version)]
    asked = tools or [wanted.range.lowest]
    return next((it for it in floors if not any(it.range.allows(v) for v in asked)), None)


def _found(toolbox: Toolbox, needs: tuple[Need, ...], also: Range, because: str) -> Found:
    """Returns a Node that satisfies the packages. Raises RuntimeUnsupported if none does."""
    tool = _choose(toolbox, _met(needs, also))
    if tool is None:
        offer = f"node {toolbox.offer('node')}"
        raise RuntimeUnsupported("package.json", f"{because}, but this gateway has {offer}")
    return Found(tool, f"{because}: {tool}")


def npm_for(node: Tool, toolbox: Toolbox) -> Tool:
    """Returns an npm for this Node, preferably the machine's. Raises RuntimeUnsupported."""
    fitting = next((r for min_major, r in _NPM_BY_NODE if node.version.major >= min_major), "6")
    fits = version_range(fitting)
    own = toolbox.choose("npm", fits or ANY)
    if own is not None:
        return own
    return find_tool(toolbox, "npm", None).tool


# From each npm's own `engines`.
_NPM_BY_NODE = ((22, ">=10 <12"), (20, ">=10 <12"), (18, "9 || 10"), (16, "8"), (14, "6"))


def _pinned(folder: Folder) -> Wanted | None:
    """Returns the version in the nearest version manager's file, here or in a parent folder."""
    for place in (folder, *folder.parents()):
        for file in PIN_FILES:
            text = pinned(place, file)
            name = text.lower().removeprefix("lts/")
            wanted = wanted_from(_NAMED.get(name, name), place.path(file), is_strict=False)
            if wanted is not None:
                return wanted
        text, file = pinned_tool(place, "nodejs", "node")
        wanted = wanted_from(text.lower().removeprefix("lts/"), place.path(file), is_strict=False)
        if wanted is not None:
            return wanted
    return None


NPM_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
_BUN_LOCKS = ("bun.lock", "bun.lockb")
_RUN_BY_BUN = re.compile(r"bun[ \t]+(?:run[ \t]+)?(?:--\S+[ \t]+)*\S+\.tsx?\Z")
_BUN_TYPES = ("@types/bun", "bun-types")  # in Bun's own templates
_HEAD = 4096  # bytes of a lock file that hold its version

_FIELD = re.compile(r"(npm|pnpm|yarn|bun)@([0-9A-Za-z.-]{1,40})(?:\+.*)?\Z")
_PNPM_LOCK = re.compile(r"^lockfileVersion: *['\"]?(\d+)(?:\.(\d+))?", re.MULTILINE)
_BERRY_LOCK = re.compile(r"^__metadata:\s*\n\s+version: *['\"]?(\d+)", re.MULTILINE)
_YARN_PATH = re.compile(r"^yarnPath: *\S*?yarn-(\d+\.\d+\.\d+)\.cjs", re.MULTILINE)

# A lock file's version, and the major versions that read it without rewriting it.
_PNPM_BY_LOCK = {"5": ("pnpm 7", "6 || 7"), "6": ("pnpm 8", "8"), "9": ("pnpm 10", "9 || 10")}
_BERRY_BY_LOCK = {"4": "2", "5": "2 || 3", "6": "3", "7": "4", "8": "4"}
_NODE_BY_PNPM = ((12, ">=18"), (11, ">=22.13"), (9, ">=18.12"), (8, ">=16.14"), (6, ">=14.19"))
_NODE_BY_YARN = ((4, ">=18.12"), (2, ">=14.15"))

_NPM_QUIET = "--no-audit --no-fund --loglevel=error"
# Versions are exact, so cached metadata is good enough, which saves half the time.
_PNPM = "pnpm install --prefer-offline --reporter=append-only"
# Beside node_modules, whose files are links to it: from elsewhere, all would be copied. The engine
# removes it after the build. As a variable, so that a build's own `pnpm add` finds the same one.
_PNPM_STORE = in_app(".pnpm-store")
_YARN = "yarn install --non-interactive --no-progress"


class Commands(NamedTuple):
    """A package manager's commands. A script's name follows `run`, or `start`."""

    clean_install: str  # exactly what the lock file says
    install: str  # without one
    run: str
    start: str  # the same, without output of its own
    add: str  # installs further packages, whose names follow
    environment: tuple[tuple[str, str], ...] = ()


# Install scripts of dependencies run: the sandbox confines them.
_NPM = Commands(
    f"npm ci --prefer-offline {_NPM_QUIET} || "
    "{ npm ci --dry-run 2>&1 | grep -q 'are in sync' && "
    "echo 'The lock file is out of step with package.json: npm install instead.' && "
    f"npm install {_NPM_QUIET}; }}",
    f"npm install {_NPM_QUIET} || {{ npm install --dry-run 2>&1 | grep -q ERESOLVE && "
    "echo 'Peer dependencies contradict each other: again with --legacy-peer-deps.' && "
    f"npm install --legacy-peer-deps {_NPM_QUIET}; }}",
    "npm run",
    "npm run --silent",
    f"npm install {_NPM_QUIET}",
    (("npm_config_dangerously_allow_all_scripts", "true"),),
)
_PNPM_COMMANDS = Commands(
    f"{_PNPM} --frozen-lockfile",
    f"{_PNPM} --no-frozen-lockfile",
    "pnpm run",
    "pnpm --silent run",
    "pnpm add --ignore-workspace-root-check",
    (
        ("npm_config_manage_package_manager_versions", "false"),
        ("pnpm_config_pm_on_fail", "ignore"),
        ("npm_config_package_manager_strict", "false"),
        ("npm_config_dangerously_allow_all_builds", "true"),
        ("pnpm_config_dangerously_allow_all_builds", "true"),
        ("npm_config_store_dir", _PNPM_STORE),
        ("pnpm_config_store_dir", _PNPM_STORE),
    ),
)
# As npm and pnpm do, it says of a package that it is for another Node, and installs it.
_YARN_COMMANDS = Commands(
    f"{_YARN} --frozen-lockfile",
    _YARN,
    "yarn run",
    "yarn --silent run",
    "yarn add --ignore-workspace-root-check --non-interactive --no-progress",
    (("YARN_IGNORE_ENGINES", "true"),),
)
_BERRY = Commands(
    "yarn install --immutable",
    "yarn install --no-immutable",
    "yarn run",
    "yarn run",
    "yarn add",
    (
        ("YARN_NODE_LINKER", "node-modules"),  # dependencies must be in /app
        ("YARN_IGNORE_PATH", "1"),
        ("YARN_ENABLE_SCRIPTS", "true"),
        ("YARN_ENABLE_TELEMETRY", "false"),
        ("YARN_ENABLE_PROGRESS_BARS", "false"),
    ),
)
_BUN = Commands(
    "bun install --frozen-lockfile", "bun install", "bun run", "bun run --silent", "bun add"
)


class Manager(NamedTuple):
    """The package manager chosen for an app."""

    name: str  # npm, pnpm, yarn, bun
    because: str
    commands: Commands
    tool: Tool | None  # None for npm, which is chosen to fit its Node
    lock: str | None = None
    node: Range = ANY  # the Node versions it runs on


def manager_for(folder: Folder, manifest: PackageJson, toolbox: Toolbox) -> Manager:
    """Returns the package manager of a package, or of the root of workspaces.

    `packageManager` has precedence, then lock files, then `engines`, then what scripts run. Raises
    RuntimeUnsupported when the version is not available.
    """
    field = manifest.package_manager
    match = _FIELD.match(field) if isinstance(field, str) else None
    if match is not None:
        wanted = wanted_from(match[2], "package.json's packageManager", is_strict=False)
        return _MAKE[match[1]](folder, wanted, toolbox)
    for name, is_there in _SIGNS:
        if is_there(folder):
            return _MAKE[name](folder, _engine(manifest, name), toolbox)
    for name in ("pnpm", "yarn", "bun"):
        wanted = _engine(manifest, name)
        if wanted is not None:
            return _MAKE[name](folder, wanted, toolbox)
    is_buns = _RUN_BY_BUN.match(manifest.script("dev")) is not None
    if is_buns or any(manifest.depends_on(types) for types in _BUN_TYPES):
        return bun_manager(folder, None, toolbox)
    called = managers_called(manifest)
    if len(called) == 1:
        made = _MAKE[called[0]](folder, None, toolbox)
        return made._replace(because=f"its scripts run {called[0]}: {made.tool}")
    return _npm(folder, None, toolbox)


def has_bun_lock(folder: Folder) -> bool:
    """Whether Bun installs the folder's package."""
    return folder.first(*_BUN_LOCKS) is not None


_SIGNS: tuple[tuple[str, Callable[[Folder], bool]], ...] = (
    ("pnpm", lambda folder: folder.has("pnpm-lock.yaml")),
    ("bun", has_bun_lock),
    ("yarn", lambda folder: folder.first(".yarnrc.yml", "yarn.lock") is not None),
    ("npm", lambda folder: folder.first(*NPM_LOCKS) is not None),
    ("pnpm", lambda folder: folder.has("pnpm-workspace.yaml")),
)


def _engine(manifest: PackageJson, name: str) -> Wanted | None:
    return wanted_from(manifest.engine(name), f"package.json's engines.{name}")


def _npm(folder: Folder, wanted: Wanted | None, toolbox: Toolbox) -> Manager:
    lock = folder.first(*NPM_LOCKS)
    because = f"{folder.path(lock)} fixes the versions: npm ci" if lock else ""
    tool = None
    if wanted is not None:
        tool, said = find_tool(toolbox, "npm", wanted)
        because = "; ".join(part for part in (because, said) if part)
    return Manager("npm", because, _NPM, tool, lock)


def _pnpm(folder: Folder, wanted: Wanted | None, toolbox: Toolbox) -> Manager:
    lock = folder.first("pnpm-lock.yaml")
    locked = _pnpm_of_lock(folder) if lock else None
    if wanted is None:
        wanted = locked
    elif locked is not None and not wanted.source.endswith("packageManager"):
        wanted = _both(toolbox, wanted, locked)
    tool, because = find_tool(toolbox, "pnpm", wanted)
    major = tool.version.major
    node = next((r for min_major, r in _NODE_BY_PNPM if major >= min_major), "*")
    because = because or f"it is for pnpm: {tool}"
    return Manager("pnpm", because, _PNPM_COMMANDS, tool, lock, version_range(node) or ANY)


def _both(toolbox: Toolbox, engine: Wanted, locked: Wanted) -> Wanted:
    """Returns what `engines` asks for, as pnpm insists on it; the lock file decides the rest.

    Where no pnpm is as `engines` says, the lock file alone decides.
    """
    allowed = [t.version for t in toolbox.tools("pnpm") if engine.range.allows(t.version)]
    if not allowed:
        return locked
    newest = max((v for v in allowed if locked.range.allows(v)), default=None)
    found = version_range(str(newest)) if newest is not None else None
    return engine._replace(range=found) if found is not None else engine


def _pnpm_of_lock(folder: Folder) -> Wanted | None:
    match = _PNPM_LOCK.search(_head(folder, "pnpm-lock.yaml"))
    if match is None or match[1] not in _PNPM_BY_LOCK:
        return None
    said, majors = _PNPM_BY_LOCK[match[1]]
    found = version_range(majors)
    source = folder.path("pnpm-lock.yaml")
    return Wanted(f"{said} by its version", source, found) if found else None


def _yarn(folder: Folder, wanted: Wanted | None, toolbox: Toolbox) -> Manager:
    lock = folder.first("yarn.lock")
    wanted = wanted or _yarn_path(folder) or _yarn_of_lock(folder)
    tool, because = find_tool(toolbox, "yarn", wanted)
    node = next((r for min_major, r in _NODE_BY_YARN if tool.version.major >= min_major), "*")
    commands = _BERRY if tool.version.major >= 2 else _YARN_COMMANDS
    because = because or f"it is for Yarn: {tool}"
    return Manager("yarn", because, commands, tool, lock, version_range(node) or ANY)


def _yarn_path(folder: Folder) -> Wanted | None:
    if not folder.has(".yarnrc.yml"):
        return None
    match = _YARN_PATH.search(_head(folder, ".yarnrc.yml"))
    return wanted_from(match[1], ".yarnrc.yml's yarnPath", is_strict=False) if match else None


def _yarn_of_lock(folder: Folder) -> Wanted | None:
    """Returns Yarn 1 for its own lock files or none; else the major that writes such a file."""
    is_berry = folder.has(".yarnrc.yml")
    match = _BERRY_LOCK.search(_head(folder, "yarn.lock")) if folder.has("yarn.lock") else None
    if match is None:
        found = version_range("4" if is_berry else "1")
        source = ".yarnrc.yml" if is_berry else "yarn.lock"
        text = "Yarn 4" if is_berry else "Yarn 1"
    else:
        major = _BERRY_BY_LOCK.get(match[1], "4")
        found, source, text = version_range(major), "yarn.lock", f"Yarn {major} by its version"
    return Wanted(text, folder.path(source), found) if found else None


def _bun(folder: Folder, wanted: Wanted | None, toolbox: Toolbox) -> Manager:
    lock = folder.first(*_BUN_LOCKS)
    tool, because = find_tool(toolbox, "bun", wanted)
    return Manager("bun", because or f"it is for Bun: {tool}", _BUN, tool, lock)


_MAKE: dict[str, Callable[[Folder, Wanted | None, Toolbox], Manager]] = {
    "npm": _npm,
    "pnpm": _pnpm,
    "yarn": _yarn,
    "bun": _bun,
}


def manager_named(name: str, version: str, folder: Folder, toolbox: Toolbox) -> Manager:
    """Returns the package manager of that name, in a version if one is given."""
    wanted = wanted_from(version, "the Dockerfile") if version else None
    return _MAKE[name](folder, wanted, toolbox)


def npm_manager(folder: Folder) -> Manager:
    """Returns npm, whatever the files say."""
    return Manager("npm", "", _NPM, None, folder.first(*NPM_LOCKS))


def bun_manager(folder: Folder, wanted: Wanted | None, toolbox: Toolbox) -> Manager:
    """Returns Bun, for an app that settings.runtime or its scripts run with it."""
    return _bun(folder, wanted, toolbox)


def _head(folder: Folder, name: str) -> str:
    return folder.data(name, limit=_HEAD).decode(errors="replace").replace("\r", "")

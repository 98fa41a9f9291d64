"""Monorepos: a root package and its workspaces."""

import json
import posixpath
import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from moorage.planning.node.builds import angular_target, config_text
from moorage.planning.node.package_json import (
    PackageJson,
    command_of,
    is_for_development,
    package_json,
)
from moorage.planning.reading.folder import Folder, matches, parts
from moorage.planning.static import serve

ENVIRONMENT = (("NX_DAEMON", "false"), ("NX_NO_CLOUD", "true"))
_PROJECTS_LIMIT = 300
_NAMED_LIMIT = 12  # directories in a sentence
_PLACE = re.compile(r"[\w./@-]{1,200}")
_SERVES = re.compile(r"nx[ \t]+(?:serve|dev|start|run|build)\b[ \t]*([\w@/-]*)")
_PATH = (
    r"""\s*:\s*(?:(?:path\.)?(?:join|resolve)\(\s*__dirname\s*,\s*)?['"`]([\w./-]{1,100})['"`]"""
)
_OUT_DIR = re.compile(rf"\boutDir{_PATH}")
_OUTPUT_PATH = re.compile(rf"\bpath{_PATH}")
_FOR_NODE = re.compile(r"\btarget\s*:\s*['\"](?:async-)?node")
# The configuration files by which Nx's plugins find a build, in the order in which they are tried.
_CONFIGS = ("next", "nuxt", "webpack", "rspack", "rsbuild", "vite")


class Project(NamedTuple):
    """One project; `directory` is from the workspace's root, "" for the root itself."""

    name: str
    directory: str
    is_app: bool
    build: dict[str, object]

    def option(self, name: str) -> object:
        """An option of the build target, that of its production configuration first."""
        configurations = self.build.get("configurations")
        production = configurations.get("production") if isinstance(configurations, dict) else None
        for options in (production, self.build.get("options")):
            if isinstance(options, dict) and name in options:
                return options[name]
        return None

    def place(self, path: str) -> str:
        """A path of the project's configuration, from the workspace's root."""
        named = path.replace("{workspaceRoot}/", "").replace("{projectName}", self.name)
        return posixpath.normpath(named.replace("{projectRoot}", self.directory or "."))


class NxApp(NamedTuple):
    """How the app is built and started, from the workspace's root."""

    build: str
    start: str
    because: str


class _Made(NamedTuple):
    """How what a build makes is started, and a build other than Nx's own."""

    start: str
    because: str
    build: str = ""


def nx_root(folder: Folder) -> Folder | None:
    """Returns the Nx workspace that the folder is the root of, or a project in; None without."""
    around = next((it for it in (folder, *folder.parents()) if it.has("nx.json")), None)
    return around if around is not None and around.has("package.json") else None


def nx_app(root: Folder, directory: str, manifest: PackageJson) -> NxApp | str | None:
    """Returns the app in a directory of the workspace, "" for the only one.

    A sentence says what is missing; None without projects, or if the root's scripts start the app.
    """
    projects = _projects(root)
    if not projects:
        return None
    start = command_of(manifest, "start")
    named = _SERVES.match(start)
    if not directory and start and named is None:
        return None
    if directory:
        chosen = [it for it in projects if it.directory == directory]
    else:
        chosen = [it for it in projects if named is not None and it.name == named[1]]
        chosen = chosen or [it for it in projects if it.is_app]
    if len(chosen) != 1:
        if directory or not chosen:
            return None
        names = ", ".join(it.directory for it in chosen[:_NAMED_LIMIT])
        return (
            f"nx.json has several apps ({names}): set settings.directoryPath to the one to deploy"
        )
    return _app(root, chosen[0])


def _app(root: Folder, project: Project) -> NxApp | str:
    executor = project.build.get("executor")
    found = _by_executor(root, project, executor) if isinstance(executor, str) else None
    found = found or _by_configuration(root, project)
    if found is None or not _PLACE.fullmatch(project.name):
        return (
            f"where Nx's build of {project.name} leaves its files is not known: set "
            f'settings.buildCommand ("nx build {project.name}") and settings.runCommand'
        )
    because = f"Nx's project {project.name}, in {project.directory or 'the root'}: {found.because}"
    return NxApp(found.build or f"nx build {project.name}", found.start, because)


def _by_executor(root: Folder, project: Project, executor: str) -> _Made | None:
    """Returns the start by the build target's executor, and what it starts."""
    package, _, name = executor.rpartition("/")[2].partition(":")
    given = project.option("outputPath")
    output = project.place(
        given if isinstance(given, str) else f"dist/{project.directory or project.name}"
    )
    if output.startswith(("..", "/")) or not _PLACE.fullmatch(output):
        return None
    main = project.option("main")
    main = main if isinstance(main, str) else "src/main.ts"
    if "angular" in executor:
        return _angular(project, executor, given or output)
    if package == "next":
        return _next(output)
    if package == "esbuild":
        stem = posixpath.basename(main).rpartition(".")[0]
        return _server(f"{output}/{stem}{_esbuild_ending(project)}")
    if package == "js" and name in ("tsc", "swc"):
        inside = main.removeprefix(f"{project.directory}/").rpartition(".")[0]
        return _server(f"{output}/{inside}.js")
    if package in ("webpack", "rspack", "node"):
        text = config_text(root, f"{project.directory}/{package}.config".lstrip("/"))
        is_node = project.option("target") == "node" or package == "node" or _FOR_NODE.search(text)
        return _server(f"{output}/main.js") if is_node else _site(output)
    is_site = package in ("vite", "web", "rsbuild", "react", "expo") and isinstance(given, str)
    return _site(output) if is_site else None


def _angular(project: Project, executor: str, output: object) -> _Made | None:
    options = {"outputPath": output, "ssr": project.option("ssr")}
    options |= {"outputMode": project.option("outputMode")}
    angular = angular_target(project.name, executor, options)
    if angular is None:
        return None
    return (
        _server(f"{angular.base}/server/server.mjs") if angular.is_server else _site(angular.files)
    )


def _by_configuration(root: Folder, project: Project) -> _Made | None:
    """Returns the start by the project's configuration files, which Nx's plugins read."""
    place = project.directory or "."
    prefix = f"{project.directory}/" if project.directory else ""
    for kind in _CONFIGS:
        text = config_text(root, f"{prefix}{kind}.config")
        if not text:
            continue
        # Without its plugin, Nx has no build of the project, and the program's own is run.
        is_nxs = f"@nx/{kind}" in root.plain("nx.json")
        build = "" if is_nxs or project.build else f"{kind} build {place}"
        if kind == "next":
            return _next(place)._replace(build=build)
        if kind == "nuxt":
            server = posixpath.normpath(f"{place}/.output/server/index.mjs")
            return _server(server)._replace(build=build)
        match = (_OUTPUT_PATH if kind in ("webpack", "rspack") else _OUT_DIR).search(text)
        output = posixpath.normpath(f"{place}/{match[1] if match else 'dist'}")
        if output.startswith(("..", "/")):
            return None
        made = _server(f"{output}/main.js") if _FOR_NODE.search(text) else _site(output)
        return made._replace(build=build)
    return None


def _site(output: str) -> _Made:
    return _Made(
        serve(output, fallback=True), f"its build leaves files in {output}/: served by Caddy"
    )


def _server(file: str) -> _Made:
    return _Made(f"node {file}", f"its build leaves {file}")


def _next(place: str) -> _Made:
    return _Made(f"next start {place} --port $PORT", f"Next.js's build in {place}")


def _esbuild_ending(project: Project) -> str:
    """Returns the ending of what esbuild makes: .cjs of CommonJS alone, unless it is configured."""
    options, formats = project.option("esbuildOptions"), project.option("format")
    endings = options.get("outExtension") if isinstance(options, dict) else None
    given = endings.get(".js") if isinstance(endings, dict) else None
    if isinstance(given, str) and _PLACE.fullmatch(given):
        return given
    return ".cjs" if formats == ["cjs"] else ".js"


def _projects(root: Folder) -> list[Project]:
    files = [
        name
        for name in root.ending(".json")
        if (name == "project.json" or name.endswith("/project.json"))
        and "node_modules/" not in name
    ]
    found = [_project(root, name) for name in files[:_PROJECTS_LIMIT]]
    return [project for project in found if project is not None]


def _project(root: Folder, file: str) -> Project | None:
    try:
        document = json.loads(root.source(file))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    directory = posixpath.dirname(file)
    name = document.get("name")
    name = name if isinstance(name, str) else posixpath.basename(directory)
    targets = document.get("targets")
    build = targets.get("build") if isinstance(targets, dict) else None
    is_among_apps = directory.partition("/")[0] in ("", "apps", "app")
    kind = document.get("projectType", "application" if is_among_apps else "library")
    is_tests = name.endswith(("-e2e", "e2e")) or "e2e" in directory.split("/")
    return Project(
        name,
        directory,
        kind == "application" and not is_tests,
        build if isinstance(build, dict) else {},
    )


WORKSPACES_LIMIT = 300  # package.json files read
PATTERNS_LIMIT = 64
PATTERN_LENGTH = 256  # characters; a longer one matches nothing
DEPTH_LIMIT = 16  # directories from the root to a workspace
CANDIDATES_LIMIT = 2_000  # package.json files matched against the patterns
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
        return [w for w in self.needed_by(workspace) if w.manifest.script("build")]

    def needed_by(self, workspace: Workspace) -> list[Workspace]:
        """Returns the workspaces that it depends on, each after those that it needs itself."""
        return self.root.once(("needed by", workspace.directory), lambda: self._needed(workspace))

    def _needed(self, workspace: Workspace) -> list[Workspace]:
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
        return [*order.values()]


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


_OF_WORKSPACE = re.compile(
    r"(?:yarn[ \t]+workspace[ \t]+(?P<yarn>\S+)(?:[ \t]+run)?[ \t]+(?P<by_yarn>[\w:-]+)"
    r"|npm[ \t]+(?:run[ \t]+)?(?P<by_npm>[\w:-]+)[ \t]+(?:-w|--workspace)[= \t]+(?P<npm>\S+)"
    r"|(?:pnpm|bun(?:[ \t]+run)?)[ \t]+(?:-F|--filter)[= \t]+(?P<pnpm>\S+)(?:[ \t]+run)?"
    r"[ \t]+(?P<by_pnpm>[\w:-]+))\Z"
)


def develops(found: Monorepo, script: str) -> bool:
    """Whether a root's script runs a development server of a workspace, by the workspace's name."""
    match = _OF_WORKSPACE.match(script)
    if match is None:
        return False
    name = match["yarn"] or match["npm"] or match["pnpm"]
    called = match["by_yarn"] or match["by_npm"] or match["by_pnpm"]
    named = (it for it in found.workspaces if name.strip("'\"") in (it.manifest.name, it.directory))
    manifest = next((it.manifest for it in named), None)
    return manifest is not None and is_for_development(command_of(manifest, called))


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
    for name in root.ending(".json"):
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
    data = root.plain("pnpm-workspace.yaml")
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

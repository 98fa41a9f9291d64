"""Plans a Node app: a single package, or one of a monorepo's workspaces."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import NamedTuple

from moorage.errors import PlanNotFound, RuntimeUnsupported
from moorage.planning.explicit import Asked
from moorage.planning.node.builds import config_text, configured_directory, implied_build
from moorage.planning.node.imports import (
    Imports,
    absent_file,
    absent_from_pages,
    entry,
    has_in_sources,
    imported,
    name_of,
    portless,
)
from moorage.planning.node.lone_scripts import script_alone, site_alone, with_bun
from moorage.planning.node.package_json import (
    PACKAGES,
    PackageJson,
    build_script,
    directories_entered,
    is_development_server,
    managers_called,
    package_json,
    tools_called,
)
from moorage.planning.node.package_managers import (
    Manager,
    allows_from,
    bun_manager,
    has_bun_lock,
    manager_for,
    manager_named,
    node_for,
    npm_for,
    npm_manager,
    package_needs,
    strips_types,
    typescript_need,
)
from moorage.planning.node.servers import (
    built_server,
    is_handler_served,
    preset_environment,
    server_environment,
    site,
)
from moorage.planning.node.starts import (
    Package,
    Start,
    find_start,
    listening,
    runs_typescript,
)
from moorage.planning.node.worker import Worker, worker
from moorage.planning.node.workspaces import ENVIRONMENT as NX_ENVIRONMENT
from moorage.planning.node.workspaces import (
    Monorepo,
    Workspace,
    develops,
    monorepo,
    monorepo_around,
    nx_app,
    nx_root,
)
from moorage.planning.plan import (
    Recipe,
    Risk,
    RiskCode,
    Stack,
    Stops,
    beside,
    no_port,
    quoted,
    with_path,
)
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import first_word, in_place, word_tuple
from moorage.planning.reading.semver import Version
from moorage.planning.risks import of_packages, stand_ins
from moorage.planning.static import is_site
from moorage.planning.toolbox import Tool, Toolbox

LOOKED_FOR = (
    "package.json with a start script, a main file, or a build script of a known site generator",
    "index.js, server.js, app.js or main.js (.mjs, .cjs), also in src/",
)

# Files that package managers read besides manifests and lock files.
_MANAGERS_FILES = word_tuple(
    ".npmrc .yarnrc .yarnrc.yml .pnpmfile.cjs pnpmfile.js pnpm-workspace.yaml bunfig.toml "
    "package-lock.json npm-shrinkwrap.json pnpm-lock.yaml yarn.lock bun.lock bun.lockb"
)
_MANAGERS_DIRECTORIES = ("patches/", ".yarn/patches/", ".yarn/plugins/")
MODULES = "node_modules"
_THEN_ADD = "\n) && { add="  # between an install and what adds packages to it
_STYLES = ("build:css", "css:build", "build-css", "tailwind:build")  # of a page without a build
_SAID = re.compile(r"[\w@/.+-]{1,214}")
_NAMED_LIMIT = 12  # workspaces, or packages, in a sentence
_HOOK = re.compile(r"(?:--import|--require|-r)[ =]([a-z][\w-]{0,100})(?=[ \t/])")


class _Site(NamedTuple):
    """Where an app is and where it is installed: the same folder, except in a monorepo."""

    folder: Folder
    manifest: PackageJson
    monorepo: Monorepo | None = None
    workspace: Workspace | None = None

    @property
    def root(self) -> Folder:
        return self.monorepo.root if self.monorepo else self.folder

    @property
    def up(self) -> str:
        """The relative path from the app to where it is installed, "" if they are the same."""
        if self.workspace is None:
            return ""
        return "/".join([".."] * len(self.workspace.directory.split("/")))


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """A package.json, or a script with a name Node apps use; None when there is neither.

    Raises UploadInvalid for a package.json that can't be read, RuntimeUnsupported for versions that
    can't be had.
    """
    manifest = package_json(folder)
    of_nx = _nx(folder, manifest, asked, toolbox)
    if of_nx is not None:
        return of_nx
    for_bun = worker(folder, manifest, toolbox) if asked.run is None else None
    if for_bun is not None:
        return _worker(folder, manifest, for_bun, asked, toolbox)
    if manifest is not None and not asked.program and asked.run is None:
        asked = with_bun(folder, manifest, asked, toolbox)
    other = folder.first("package.json5", "package.yaml") if manifest is None else None
    if other is not None:
        missing = f"{other} is read by pnpm alone: send it as package.json"
        return Recipe(Stack.NODE, missing=missing)
    if manifest is None:
        return site_alone(folder, asked, toolbox) or script_alone(folder, asked, toolbox)
    because: list[str] = []
    where = _where(folder, manifest, asked, because)
    if isinstance(where, str):
        return Recipe(Stack.NODE, missing=where)
    manager = _manager(where, asked, toolbox)
    tools = _tools(where, manager, asked, toolbox, because)
    recipe = _recipe(where, manager, asked, tools, because, toolbox)
    if asked.install is None and where.monorepo is None:
        for name in directories_entered(manifest):
            recipe = _with_entered(recipe, folder, name, asked, toolbox)
    return recipe


def _with_entered(
    recipe: Recipe, folder: Folder, name: str, asked: Asked, toolbox: Toolbox
) -> Recipe:
    """Adds the install of a directory whose package the app's scripts run."""
    inner = folder.below(name)
    manifest = package_json(inner)
    if manifest is None or not manifest.installs:
        return recipe
    where = _Site(inner, manifest)
    because: list[str] = []
    manager = _manager(where, asked, toolbox)
    tools = _tools(where, manager, asked, toolbox, because)
    install = _install(where, manager, because)
    whole = beside(
        recipe,
        Recipe(
            Stack.NODE,
            f"(cd {quote(name)} &&\n{install}\n)",
            None,
            None,
            tuple(f"{name}: {sentence}" for sentence in because),
            build_env=manager.commands.environment,
            tools=tools,
        ),
        builds=False,
    )
    # Of two installs by npm nobody could say which one is to be tried again otherwise.
    return whole._replace(install_inputs=())


def page_build(
    folder: Folder, asked: Asked, toolbox: Toolbox, *, installs: bool = False
) -> Recipe | None:
    """Returns the install and the build of a page that an app of another language serves.

    None without a script that builds, unless it `installs` what another build runs. Raises as
    `detect` does.
    """
    manifest = package_json(folder)
    if manifest is None:
        return None
    is_mix = manifest.depends_on("laravel-mix") and bool(manifest.script("production"))
    name = build_script(manifest) or ("production" if is_mix else "")
    name = name or next((it for it in _STYLES if manifest.script(it)), "")
    if not name and not (installs and manifest.installs):
        return None
    where = _Site(folder, manifest, monorepo(folder, manifest))
    because: list[str] = []
    manager = _manager(where, asked, toolbox)
    tools = _tools(where, manager, asked, toolbox, because)
    install = _install(where, manager, because)
    if name:
        script = quoted(manifest.script(name))
        because.append(f"its page is built by package.json's {name}: {script}")
    return Recipe(
        Stack.NODE,
        install,
        f"{manager.commands.run} {name}" if name else None,
        None,
        tuple(because),
        build_env=tuple(manager.commands.environment),
        tools=tools,
        install_inputs=_inputs(where) if install else (),
    )


def is_server(folder: Folder, recipe: Recipe) -> bool:
    """Whether the package's own program answers visitors, not only a server of files."""
    manifest = package_json(folder)
    is_dev = manifest is not None and is_development_server(manifest)
    return recipe.start is not None and not is_site(recipe.start) and not is_dev


def _worker(
    folder: Folder, manifest: PackageJson | None, found: Worker, asked: Asked, toolbox: Toolbox
) -> Recipe:
    """Plans a Cloudflare Worker for Bun, with what it imports."""
    because = [found.because]
    where = _Site(folder, manifest or PackageJson())
    manager = bun_manager(folder, None, toolbox)
    install = asked.install
    if install is None:
        added, _ = _added(where, f"bun {found.main}", because)
        if manifest is not None:
            install = _install(where, manager, because)
            install = _with_added(install, added, where, manager) if added else install
        elif added:
            install = f"{manager.commands.add} {' '.join(map(quote, added))}"
    return Recipe(
        Stack.NODE,
        install,
        asked.build,
        found.start,
        tuple(because),
        run_env=found.variables,
        build_env=manager.commands.environment,
        tools=(manager.tool,) if manager.tool is not None else (),
    )


def _nx(
    folder: Folder, manifest: PackageJson | None, asked: Asked, toolbox: Toolbox
) -> Recipe | None:
    """Plans an app of an Nx workspace from its root; None if it is none, or has its own scripts."""
    root = nx_root(folder)
    around = package_json(root) if root is not None else None
    if root is None or around is None or asked.run is not None:
        return None
    if manifest is not None and root.directory != folder.directory and manifest.script("start"):
        return None
    skip = len(root.directory) + 1 if root.directory else 0
    found = nx_app(root, folder.directory[skip:], around)
    if found is None:
        return None
    if isinstance(found, str):
        return Recipe(Stack.NODE, missing=found)
    because: list[str] = []
    where = _Site(root, around, monorepo(root, around))
    manager = _manager(where, asked, toolbox)
    tools = _tools(where, manager, asked, toolbox, because)
    because.append(found.because)
    programs = "".join(f"$PWD/{directory}:" for directory in _programs(where))
    build = f'env PATH="{programs}$PATH" {found.build}' if programs else found.build
    return Recipe(
        Stack.NODE,
        _install(where, manager, because) if asked.install is None else asked.install,
        build if asked.build is None else asked.build,
        with_path(found.start, *_programs(where)) if programs else found.start,
        tuple(because),
        build_env=(*manager.commands.environment, *NX_ENVIRONMENT),
        run_env=server_environment(around),
        tools=tools,
        install_inputs=() if asked.install is not None else _inputs(where),
        directory=root.directory,
    )


def _recipe(
    where: _Site,
    manager: Manager,
    asked: Asked,
    tools: tuple[Tool, ...],
    because: list[str],
    toolbox: Toolbox,
) -> Recipe:
    install = asked.install
    if install is None:
        install = _install(where, manager, because)
    build = asked.build
    if build is None:
        build = _build(where, manager, because)
    start, migrating = Start(asked.run), next(_migrating(where), None)
    package = _package(where, manager, asked, because, tools, builds=bool(build))
    if asked.run is None:
        start = find_start(package)
        if asked.seeks_server:
            _refuse_portless(where.folder, where.manifest, start)
        if start.command is not None:
            command = listening(where.folder, start.command, because)
            start = start._replace(command=_migrated(where, migrating, command, because))
    absent = ""
    if asked.install is None:
        added, absent = _added(where, start.command or "", because)
        install = _with_added(install, added, where, manager) if added else install
    loads = build and any(map(where.manifest.depends_on, ("next", "@sveltejs/kit")))
    stood_in = stand_ins(where.folder) if loads else {}
    if stood_in:
        because.append(
            f"the build loads modules that insist on variables: stand-ins for {', '.join(stood_in)}"
        )
    if start.check:
        build = f"({build}\n) && {start.check}"
    return Recipe(
        Stack.NODE,
        install,
        build,
        start.command,
        tuple(because),
        missing=start.missing,
        build_env=(
            *stood_in.items(),
            *manager.commands.environment,
            *start.build_env,
            *_old_ciphers(where.manifest, tools),
            *preset_environment(where.folder, where.manifest),
        ),
        run_env=(*server_environment(where.manifest), *_package_environment(where.manifest, start)),
        tools=tools,
        install_inputs=() if asked.install is not None else _inputs(where),
        directory=where.folder.directory,
        secrets=tuple(name for it, name in _SECRETS.items() if where.manifest.depends_on(it)),
        risks=(
            *absent_file(absent),
            *_tables_absent(where, migrating, asked),
            *absent_file(
                absent_from_pages(where.folder, where.manifest) if build else "", Stops.BUILD
            ),
            *of_packages(
                where.manifest.dependencies.keys(),
                toolbox,
                manager="node",
                path=where.folder.path("package.json"),
            ),
        ),
    )


_Migrating = tuple[str, Mapping[str, str], str]  # see `_migrating`


def _without_migrations(script: str) -> str | None:
    """Returns a build without what brings a database up to date; None if it has none of it."""
    steps = [step.strip() for step in script.split("&&")]
    kept = [step for step in steps if not _MIGRATION.match(step)]
    if len(kept) == len(steps) or not all(first_word(step) for step in kept):
        return None
    return " && ".join(kept)


_MIGRATION = re.compile(
    r"(?:npx[ \t]+)?(?:prisma[ \t]+(?:migrate[ \t]+deploy|db[ \t]+push)"
    r"|drizzle-kit[ \t]+(?:migrate|push)"
    r"|knex[ \t]+migrate:latest|sequelize(?:-cli)?[ \t]+db:migrate)(?:[ \t]+--?[\w=./-]+)*\Z"
)


def _migrated(where: _Site, found: _Migrating | None, command: str, because: list[str]) -> str:
    """Returns the start after what brings the app's database up to date, if nothing else does."""
    script = where.manifest.script(build_script(where.manifest))
    if _without_migrations(script) is not None and not is_site(command):
        moved = [it.strip() for it in script.split("&&") if _MIGRATION.match(it.strip())]
        return "\n".join((*moved, in_place(command)))
    run = found[1].get("command") if found is not None else None
    if found is None or run is None or is_site(command) or _is_migrated(where):
        return command
    name, _, place = found
    because.append(f"{name} is there: {run} before each start")
    if where.up:
        up = "/".join([".."] * len(place.split("/"))) if place else where.up
        run = f'PATH="$PWD/{MODULES}/.bin:$PWD/{up}/{MODULES}/.bin:$PATH" {run}'
    if place:
        run = f"(cd {quote(f'{where.up}/{place}')} && {run})"
    return f"{run}\n{in_place(command)}"


def _is_migrated(where: _Site) -> bool:
    """Whether a script or the app's own code brings the database up to date."""
    scripts = "\n".join(where.manifest.commands)
    return bool(_MIGRATES.search(scripts)) or has_in_sources(where.folder, _MIGRATES_ITSELF)


def _tables_absent(where: _Site, found: _Migrating | None, asked: Asked) -> Iterator[Risk]:
    """Yields that nothing makes the tables of a database that runs elsewhere."""
    command = found[1].get("advises") if found is not None else None
    if found is None or command is None or asked.release or asked.run or _is_migrated(where):
        return
    yield Risk(
        RiskCode.FILE_ABSENT,
        Stops.REQUESTS,
        f"{found[0]} has no migrations beside it, so a new database stays without tables: set "
        f"settings.releaseCommand to {command}.",
        path=found[0],
    )


def _migrating(where: _Site) -> Iterator[_Migrating]:
    """Yields what shows migrations, its row, and the workspace that they are in, "" for none.

    Those of the workspaces that the app depends on come after its own.
    """
    places = [("", where.folder, where.manifest)]
    if where.monorepo is not None and where.workspace is not None:
        needed = where.monorepo.needed_by(where.workspace)
        places += [(w.directory, where.root.below(w.directory), w.manifest) for w in needed]
    for place, folder, manifest in places:
        for row in PACKAGES["migrations"]:
            name = _migrations(folder, row) if manifest.depends_on(row["package"]) else ""
            if name:
                yield (f"{place}/{name}".lstrip("/"), row, place)


def _migrations(folder: Folder, row: Mapping[str, str]) -> str:
    """Returns the file or the directory that shows them, "" without one."""
    name = row["has"]
    if name == _JOURNAL:
        out = posixpath.normpath(configured_directory(folder, "drizzle.config", "out") or "drizzle")
        name = f"{out}/{name.partition('/')[2]}"
    if "says" in row and not (folder.has(name) and row["says"] in _plain(folder, name)):
        return ""
    return name if folder.has(name) or folder.has_directory(name) else ""


_MIGRATES_ITSELF = re.compile(
    rb"/migrator['\"]|\bmigrate\.latest\(|\brunMigrations\(|\bumzug\b|\bmigrationsRun\s*:\s*true"
    rb"|\bprodMigrations\b|\b(?:sequelize|db)\.sync\("
)
_JOURNAL = "drizzle/meta/_journal.json"  # where its configuration says nothing else
_MIGRATES = re.compile(r"\bmigrat|db[ :]push")


def _plain(folder: Folder, name: str) -> str:
    """Returns a file's text with single spaces and double quotes."""
    text = folder.plain(name)
    return " ".join(text.replace("'", '"').split())


def _old_ciphers(manifest: PackageJson, tools: tuple[Tool, ...]) -> tuple[tuple[str, str], ...]:
    """Returns what bundlers of before Node 17 need of a newer one: a hash that OpenSSL dropped."""
    node = next((it.version for it in tools if it.program == "node"), None)
    versions = {**manifest.dev_dependencies, **manifest.dependencies}
    is_old = any(
        name in versions and not allows_from(versions[name], Version(major, 0, 0))
        for name, major in PACKAGES["old_ciphers"].items()
    )
    if not is_old or node is None or node < Version(17, 0, 0):
        return ()
    return (("NODE_OPTIONS", "--openssl-legacy-provider"),)


_SECRETS: dict[str, str] = PACKAGES["secrets"]


def _refuse_portless(folder: Folder, manifest: PackageJson, start: Start) -> None:
    """Raises PlanNotFound for a program that never listens."""
    if start.command is not None and _RUNTIME.search(start.command):
        found = portless(folder, manifest)
        if found:
            raise PlanNotFound(f"{no_port(found)}.")


_RUNTIME = re.compile(r"(?:^|\s)(?:node|bun|tsx|ts-node|electron(?:-\w+)?)[ \t]")


def _added(where: _Site, command: str, because: list[str]) -> tuple[tuple[str, ...], str]:
    """Returns what the started program imports, or a script runs, and no package.json has.

    The sentence is of a file that it imports and the upload lacks, "" for none.
    """
    file = entry(where.folder, command)
    manifests = [where.manifest, *_around(where.folder, file)]
    if where.monorepo is not None:
        manifests += [where.monorepo.manifest, *(w.manifest for w in where.monorepo.workspaces)]
    known = {str(manifest.name) for manifest in manifests}
    for manifest in manifests:
        known.update(manifest.dependencies, manifest.dev_dependencies)
        known.update(manifest.optional_dependencies, manifest.peer_dependencies)
    known.update(name for name, other in PACKAGES["tools_too"].items() if other in known)
    hooks = (*_HOOK.findall(command), *tools_called(where.manifest))
    run = dict.fromkeys(f"{name}@latest" for name in hooks if name not in known)
    found = imported(where.folder, file) if file else Imports()
    added = dict.fromkeys(it for it in found.packages if name_of(it) not in known)
    for names, said in ((added, f"{file} imports"), (run, "it runs")):
        if names:
            named = ", ".join(name_of(it) for it in [*names][:_NAMED_LIMIT])
            because.append(f"{said} {named}, which package.json lacks: added if not there")
    absent = "" if build_script(where.manifest) else found.absent
    return (*added, *(it for it in run if it not in added)), absent


def _around(folder: Folder, file: str) -> list[PackageJson]:
    """Returns the package.json files of the directories that a file is in, below the app's own."""
    found = []
    directory = posixpath.dirname(file)
    while directory:
        manifest = package_json(folder.below(directory))
        found += [manifest] if manifest is not None else []
        directory = posixpath.dirname(directory)
    return found


def _with_added(install: str | None, added: tuple[str, ...], where: _Site, manager: Manager) -> str:
    """Returns the install with packages that it may not have brought along with others."""
    names = " ".join(map(quote, added))
    places = [MODULES, *([f"{where.up}/{MODULES}"] if where.up else [])]
    there = " || ".join(f'test -d "{place}/${{it%@*}}"' for place in places)
    add = (
        f'; for it in {names}; do {there} || add="$add $it"; done; '
        f"test -z \"$add\" || {manager.commands.add} $add || echo 'They are not all installed.'"
    )
    return f"add={add}" if install is None else f"({install}{_THEN_ADD}{add}; }}"


def installed_by(command: str, install: str) -> str:
    """Returns a plan's install by another command, with the packages that the plan adds to it."""
    _, then, added = install.partition(_THEN_ADD)
    return f"({command}{then}{added}" if then else command


def _where(folder: Folder, manifest: PackageJson, asked: Asked, because: list[str]) -> _Site | str:
    """Returns where the app is, or a sentence that says why it isn't known."""
    around = monorepo_around(folder)
    if around is not None:
        found, workspace = around
        root = found.root.directory or "the upload's root"
        because.append(f"it is a workspace of {root}, and installed there")
        return _Site(folder, workspace.manifest, found, workspace)
    found_here = monorepo(folder, manifest)
    if found_here is None or asked.run is not None:
        return _Site(folder, manifest, found_here)
    script = manifest.script("start")
    if script and not is_development_server(manifest) and not develops(found_here, script):
        return _Site(folder, manifest, found_here)
    apps = [w for w in found_here.workspaces if _is_app(folder, w)]
    if len(apps) == 1:
        because.append(f"the workspace {apps[0].directory} is the only one that can be started")
        return _Site(folder.below(apps[0].directory), apps[0].manifest, found_here, apps[0])
    if not apps:
        is_bun = asked.program != "node" and has_bun_lock(folder)
        runtime = "bun" if is_bun else "node"
        starts = find_start(
            Package(folder, manifest, asked, bool(manifest.script("build")), "", runtime, (), [])
        )
        if starts.command is not None:
            return _Site(folder, manifest, found_here)
        return (
            "package.json is the root of workspaces and none of them has a start script: "
            "set settings.directoryPath to the one to deploy, or settings.runCommand"
        )
    names = ", ".join(app.directory for app in apps[:_NAMED_LIMIT])
    return (
        f"several workspaces can be started ({names}): "
        "set settings.directoryPath to the one to deploy"
    )


def _is_app(root: Folder, workspace: Workspace) -> bool:
    """Whether a workspace can be started or served, and is no library of another."""
    manifest, folder = workspace.manifest, root.below(workspace.directory)
    script = manifest.script("start")
    if script and not is_development_server(manifest):
        return True
    if not manifest.script("build"):
        return False
    is_page = site(folder, manifest, None) is not None and not _is_library(manifest, folder)
    return (
        bool(manifest.script("start:prod"))
        or is_page
        or (built_server(folder, manifest) is not None)
    )


def _is_library(manifest: PackageJson, folder: Folder) -> bool:
    """Whether Vite builds the package for use by others: then it has no page."""
    only_vite = manifest.depends_on("vite") and not folder.has("index.html")
    return only_vite and not any(manifest.depends_on(name) for name in ("astro", "gatsby"))


def _manager(where: _Site, asked: Asked, toolbox: Toolbox) -> Manager:
    manifest = where.monorepo.manifest if where.monorepo else where.manifest
    if asked.program == "bun":
        return bun_manager(where.root, asked.version, toolbox)
    try:
        return manager_for(where.root, manifest, toolbox)
    except RuntimeUnsupported:
        if asked.install is None:
            raise
        return npm_manager(where.root)  # the given command installs with its own manager


def _tools(
    where: _Site, manager: Manager, asked: Asked, toolbox: Toolbox, because: list[str]
) -> tuple[Tool, ...]:
    """Returns the programs, with versions, that builds and the app run on."""
    directory = where.workspace.directory if where.workspace else ""
    needs = package_needs(where.root, where.manifest, directory=directory)
    if asked.run is None and runs_typescript(where.manifest):
        needs = (*needs, typescript_need())
    node = node_for(where.folder, where.manifest, asked, toolbox, also=manager.node, needs=needs)
    if node.because:
        because.append(node.because)
    tools = [node.tool]
    if manager.name == "npm":
        tools.append(manager.tool or npm_for(node.tool, toolbox))
    elif manager.tool is not None:
        tools.append(manager.tool)
    if manager.name != "npm" and is_handler_served(where.manifest):
        tools.append(npm_for(node.tool, toolbox))
    manifests = (where.manifest, *([where.monorepo.manifest] if where.monorepo else ()))
    called = {name for manifest in manifests for name in managers_called(manifest)}
    for name in sorted(called - {manager.name}):
        tool = manager_named(name, "", where.root, toolbox).tool
        because.append(f"its scripts run {name}: {tool}")
        tools += [tool] if tool is not None else []
    return tuple(tools)


def _install(where: _Site, manager: Manager, because: list[str]) -> str | None:
    """Returns the install command, for the app's directory."""
    manifest = where.monorepo.manifest if where.monorepo else where.manifest
    if manager.because:
        because.append(manager.because)
    if manager.lock is None and not manifest.installs and where.monorepo is None:
        because.append("package.json has no dependencies: nothing to install")
        return None
    command = manager.commands.clean_install if manager.lock else manager.commands.install
    if manager.lock is None:
        because.append(
            f"package.json has dependencies and there is no lock file: {manager.name} install"
        )
    here = _remove_uploaded(where.folder, because)
    if not where.up:
        return f"{here}{command}"
    return f"{here}cd {where.up} && {_remove_uploaded(where.root, because)}{command}"


def _remove_uploaded(folder: Folder, because: list[str]) -> str:
    """Returns a command that removes an uploaded node_modules: it may be for another system."""
    if not folder.has_directory(MODULES):
        return ""
    because.append(f"{folder.path(MODULES)} is in the upload: it is removed, and installed again")
    return f"rm -rf {MODULES} && "


def _build(where: _Site, manager: Manager, because: list[str]) -> str | None:
    """Returns the build command: the builds of needed workspaces, then the app's own."""
    steps = []
    if where.monorepo is not None and where.workspace is not None:
        needed = where.monorepo.built_before(where.workspace)
        for workspace in needed:
            there = quote(f"{where.up}/{workspace.directory}")
            steps.append(f"(cd {there} && {manager.commands.run} build)")
        if needed:
            names = ", ".join(workspace.directory for workspace in needed[:_NAMED_LIMIT])
            because.append(f"it needs these workspaces built: {names}")
    own = _own_build(where, manager, because)
    if own is not None:
        steps.append(own)
    return " && ".join(steps) or None


def _own_build(where: _Site, manager: Manager, because: list[str]) -> str | None:
    """Returns the package's build script, or without one its framework's command."""
    manifest = where.manifest
    name = build_script(manifest)
    if name:
        said = "a build script" if name == "build" else f"a {name} script"
        because.append(f"package.json has {said}: {quoted(manifest.script(name))}")
        rest = _without_migrations(manifest.script(name))
        generates = _generates(where, because)
        if rest is None:
            return f"{generates}{manager.commands.run} {name}"
        because.append("what brings the database up to date is done before each start instead")
        programs = "".join(f"$PWD/{directory}:" for directory in _programs(where))
        path = f'PATH="{programs}$PATH"; export PATH; ' if programs else ""
        return f"({path}{rest})" if rest else None
    implied = implied_build(where.folder, manifest)
    if implied is None:
        return None
    because.append(implied.because)
    if implied.script:
        return f"{manager.commands.run} {implied.script}"
    programs = "".join(f"$PWD/{directory}:" for directory in _programs(where))
    return f'env PATH="{programs}$PATH" {implied.command}' if programs else implied.command


def _generates(where: _Site, because: list[str]) -> str:
    """Returns Prisma's command that writes its client, which no install does from 7 on; or ""."""
    manifest, folder = where.manifest, where.folder
    versions = {**manifest.dev_dependencies, **manifest.dependencies}
    is_new = "prisma" in versions and allows_from(versions["prisma"], Version(7, 0, 0))
    ran = "\n".join((*manifest.commands, manifest.script("postinstall")))
    if not is_new or not folder.has("prisma/schema.prisma") or "prisma generate" in ran:
        return ""
    because.append("Prisma's client is written before the build: prisma generate")
    asked = re.findall(r"\benv\(['\"](\w{1,80})['\"]\)", config_text(folder, "prisma.config"))
    given = "".join(f'{name}="${{{name}:-file:./none.db}}" ' for name in dict.fromkeys(asked))
    programs = "".join(f"$PWD/{it}:" for it in ("node_modules/.bin", *_programs(where)))
    return f'env {given}PATH="{programs}$PATH" prisma generate && '


def _programs(where: _Site) -> tuple[str, ...]:
    """Returns the directories of the package's programs that aren't on every app's PATH."""
    programs: tuple[str, ...] = ()
    if where.folder.directory:
        programs = ("node_modules/.bin",)
    if where.up and where.root.directory:
        programs = (*programs, f"{where.up}/node_modules/.bin")
    return programs


def _package(
    where: _Site,
    manager: Manager,
    asked: Asked,
    because: list[str],
    tools: tuple[Tool, ...],
    *,
    builds: bool,
) -> Package:
    is_bun = asked.program == "bun" or (manager.name == "bun" and asked.program != "node")
    return Package(
        where.folder,
        where.manifest,
        asked,
        builds,
        manager.commands.start,
        "bun" if is_bun else "node",
        _programs(where),
        because,
        strips_types=any(it.program == "node" and strips_types(it.version) for it in tools),
        adds=asked.install is None,
    )


def _package_environment(manifest: PackageJson, start: Start) -> tuple[tuple[str, str], ...]:
    """Returns what a package manager tells a start script, which runs without one here."""
    if "caddy run" in (start.command or ""):
        return ()
    said = {"npm_package_name": manifest.name, "npm_package_version": manifest.version}
    return tuple((n, v) for n, v in said.items() if isinstance(v, str) and _SAID.fullmatch(v))


def _inputs(where: _Site) -> tuple[str, ...]:
    """Returns the files that alone decide what the install makes; none if others may, too."""
    root = where.root
    manifests = [where.manifest]
    names = ["package.json"]
    if where.monorepo is not None:
        manifests = [where.monorepo.manifest, *(w.manifest for w in where.monorepo.workspaces)]
        names += [f"{w.directory}/package.json" for w in where.monorepo.workspaces]
    if any(m.runs_at_install or m.depends_on_files for m in manifests):
        return ()
    if where.root.has_directory(MODULES) or where.folder.has_directory(MODULES):
        return ()  # the uploaded node_modules would overwrite the cached one
    names += [name for name in _MANAGERS_FILES if root.has(name)]
    if any(root.has_directory(d.rstrip("/")) for d in _MANAGERS_DIRECTORIES):
        names += [name for name in root.names() if name.startswith(_MANAGERS_DIRECTORIES)]
    return tuple(sorted(root.path(name) for name in names))

"""Node apps: servers started by a script or a file, and sites built by npm."""

import posixpath
import re
from shlex import quote
from typing import NamedTuple

from moorage.planning.explicit import COMMAND_LIMIT, Asked
from moorage.planning.folder import Folder
from moorage.planning.frameworks import SITES, Framework
from moorage.planning.package_json import PackageJson, package_json
from moorage.planning.plan import Stack
from moorage.planning.recipe import Recipe, quoted
from moorage.planning.shell import first_word
from moorage.planning.static import serve

_ENDINGS = (".js", ".mjs", ".cjs")
SCRIPT_FILES = tuple(
    f"{name}.{ending}"
    for name in ("index", "server", "app", "main")
    for ending in ("js", "mjs", "cjs")
)
SERVER_FILES = ("server.js", "server.mjs", "server.cjs")
TYPESCRIPT_FILES = ("index.ts", "server.ts", "app.ts", "main.ts")
_IN_SRC = tuple(f"src/{name}" for name in SCRIPT_FILES)
_TYPESCRIPT = (*TYPESCRIPT_FILES, *(f"src/{name}" for name in TYPESCRIPT_FILES))

LOOKED_FOR = (
    "package.json with a start script, a main file, or a build script of a known site generator",
    "index.js, server.js, app.js or main.js (.mjs, .cjs), also in src/",
)

LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
_OTHER_LOCKS = {
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "Yarn",
    "bun.lock": "Bun",
    "bun.lockb": "Bun",
}
_QUIET = "--no-audit --no-fund --loglevel=error"
_INSTALL = f"npm install {_QUIET}"
# Versions are exact, so what the cache knows of a package needs no asking again: half the time.
_CLEAN_INSTALL = f"npm ci --prefer-offline {_QUIET}"

# What serves a site's sources while it is written: no server for visitors.
_DEV_SERVER = re.compile(
    r"(?:npx[ \t]+)?(?:react-scripts start|vite(?: dev| serve| preview)?|astro (?:dev|preview)"
    r"|vue-cli-service serve|ng serve|parcel(?: serve)?|webpack serve|webpack-dev-server"
    r"|gatsby (?:develop|serve)|docusaurus (?:start|serve)|eleventy --serve|next dev|nuxt dev)"
    r"(?:[ \t]+-.*)?\Z"
)
_LISTENS = re.compile(rb"\.listen\s*\(|createServer\s*\(|\bserve\s*\(")
_NEXT_EXPORT = re.compile(r"""\boutput\s*:\s*['"`]export['"`]""")
_VITE_OUT_DIR = re.compile(r"""\boutDir\s*:\s*['"`]([\w./-]{1,100})['"`]""")
_CONFIG_LIMIT = 65_536  # bytes read of a framework's configuration


class _Package(NamedTuple):
    """A folder with a package.json, while its plan is being made."""

    folder: Folder
    manifest: PackageJson
    asked: Asked
    builds: bool  # there is a build step, given or from the build script
    because: list[str]


class _Start(NamedTuple):
    """A start command with a check of what its build left, or what is missing."""

    command: str | None
    check: str = ""
    missing: str = ""


def detect(folder: Folder, asked: Asked) -> Recipe | None:
    """A package.json, or a script with a name Node apps use; None when there is neither.

    Raises UploadInvalid for a package.json that can't be read.
    """
    manifest = package_json(folder)
    if manifest is None:
        return _script_alone(folder, asked)
    because: list[str] = []
    install = asked.install
    if install is None:
        install = _install(folder, manifest, because)
    build = asked.build
    if build is None and manifest.script("build"):
        build = "npm run build"
        because.append(f"package.json has a build script: {quoted(manifest.script('build'))}")
    start = _Start(asked.run)
    if asked.run is None:
        start = _start(_Package(folder, manifest, asked, bool(build), because))
    if start.check:
        build = f"({build}\n) && {start.check}"
    return Recipe(Stack.NODE, install, build, start.command, tuple(because), missing=start.missing)


def _script_alone(folder: Folder, asked: Asked) -> Recipe | None:
    """`node server.js`, for files without a package.json."""
    script = _server_file(folder, SCRIPT_FILES)
    if script is None:
        return None
    return Recipe(
        Stack.NODE,
        asked.install,
        asked.build,
        asked.run or f"node {script}",
        (f"{script} is there, without a package.json: nothing to install",),
    )


def _install(folder: Folder, manifest: PackageJson, because: list[str]) -> str | None:
    lock = folder.first(*LOCKS)
    if lock is not None:
        because.append(f"{lock} fixes the versions: npm ci")
        return _CLEAN_INSTALL
    if not manifest.installs:
        because.append("package.json has no dependencies: nothing to install")
        return None
    other = folder.first(*_OTHER_LOCKS)
    if other is None:
        because.append(
            "package.json has dependencies and there is no package-lock.json: npm install"
        )
    else:
        because.append(
            f"{other} is {_OTHER_LOCKS[other]}'s, which this gateway doesn't run yet: npm install "
            "takes the newest versions package.json allows; add a package-lock.json to fix them"
        )
    return _INSTALL


def _start(package: _Package) -> _Start:
    """The first way to start a package, in the order of the planner's table."""
    folder, manifest, asked, builds, because = package
    script = manifest.script("start")
    if script and not (builds and _DEV_SERVER.match(script)):
        return _Start(_start_script(package, script))
    if script:
        because.append(f"its start script is a development server, not used: {quoted(script)}")
    if builds:
        built = _built_server(package)
        if built is not None:
            return _Start(built)
        site = _site(folder, manifest, asked)
        if site is not None:
            because.append(f"{site.name} leaves files in {site.output}/: served by Caddy")
            files = serve(site.output, fallback=site.fallback)
            return _Start(files, check=_output_check(site.output))
    command = _main_file(package) or _typescript_file(package)
    if command is None and builds and folder.has("index.html"):
        because.append("index.html is there: the files are served by Caddy after the build")
        command = serve("", fallback=False)
    return _Start(command, missing="" if command else _missing(package))


def _start_script(package: _Package, script: str) -> str:
    package.because.append(f"package.json has a start script: {quoted(script)}")
    if package.asked.build_dir:
        package.because.append("settings.buildDir is not used: the start script serves")
    if not _runs_without_npm(package, script):
        package.because.append("it runs by npm start")
        return "npm start --silent"
    package.because.append("it runs without npm, which starts sooner and takes less memory")
    return script


def _runs_without_npm(package: _Package, script: str) -> bool:
    """Whether the script does the same by itself.

    npm costs 0.2 s and 50 MB, and keeps SIGTERM from the app. What it adds: hooks, variables named
    npm_…, and the package's own programs, which the sandbox's PATH has at the root only.
    """
    word = first_word(script)
    return (
        bool(word)
        and (not package.folder.directory or word == "node")
        and not (package.manifest.script("prestart") or package.manifest.script("poststart"))
        and "npm_" not in script
        and len(script) <= COMMAND_LIMIT
    )


def _built_server(package: _Package) -> str | None:
    """Servers that a framework's build leaves, where there is no start script."""
    manifest, because = package.manifest, package.because
    if manifest.depends_on("next") and not _next_exports(package.folder):
        because.append("Next.js without a start script: next start")
        return "node_modules/.bin/next start --port $PORT"
    if manifest.depends_on("nuxt") and "generate" not in manifest.script("build"):
        because.append("Nuxt without a start script: its build leaves .output/server/index.mjs")
        return "node .output/server/index.mjs"
    if manifest.depends_on("@sveltejs/adapter-node"):
        because.append("SvelteKit's adapter-node leaves a server in build/")
        return "node build"
    if manifest.depends_on("astro") and manifest.depends_on("@astrojs/node"):
        because.append("Astro's Node adapter leaves dist/server/entry.mjs")
        return "node dist/server/entry.mjs"
    return None


def _site(folder: Folder, manifest: PackageJson, asked: Asked) -> Framework | None:
    """The site generator whose output is served, with settings.buildDir's place if given."""
    found = next((site for site in SITES if manifest.depends_on(site.package)), None)
    if manifest.depends_on("next"):
        found = Framework("Next.js with output: 'export'", Stack.NODE, output="out")
    elif manifest.depends_on("nuxt"):
        found = Framework("nuxt generate", Stack.NODE, output=".output/public")
    elif manifest.depends_on("@sveltejs/kit"):
        static = manifest.depends_on("@sveltejs/adapter-static")
        found = (
            Framework("SvelteKit", Stack.NODE, output="build", fallback=True) if static else None
        )
    elif found is None and asked.framework is not None and asked.framework.output:
        found = asked.framework
    if asked.build_dir:
        fallback = found is not None and found.fallback
        return Framework("the build", Stack.NODE, output=asked.build_dir, fallback=fallback)
    if found is None or folder.first(*SERVER_FILES) is not None:
        return None
    return _with_vite_directory(folder, found) if found.name == "vite" else found


def _with_vite_directory(folder: Folder, site: Framework) -> Framework:
    config = folder.first("vite.config.js", "vite.config.ts", "vite.config.mjs", "vite.config.mts")
    match = _VITE_OUT_DIR.search(_config(folder, config)) if config else None
    if match is None or ".." in match[1]:
        return site
    output = posixpath.normpath(match[1]).lstrip("/")
    return site._replace(output=output) if output != "." else site


def _next_exports(folder: Folder) -> bool:
    config = folder.first("next.config.js", "next.config.mjs", "next.config.ts")
    return config is not None and _NEXT_EXPORT.search(_config(folder, config)) is not None


def _config(folder: Folder, name: str) -> str:
    return folder.data(name, limit=_CONFIG_LIMIT).decode(errors="replace")


def _output_check(directory: str) -> str:
    """Fails the build, with what to do, when it left nothing to serve."""
    problem = f"The build left no directory {directory}: set settings.buildDir to the one it makes."
    return f"{{ test -d {quote(f'./{directory}')} || {{ echo {quote(problem)} >&2; exit 1; }}; }}"


def _main_file(package: _Package) -> str | None:
    folder, because = package.folder, package.because
    main = _main(package.manifest)
    if main is not None:
        file = folder.first(main, f"{main}.js", f"{main}.cjs", f"{main}.mjs", f"{main}/index.js")
        if file is not None and _serves(folder, file):
            because.append(f"package.json names {main} as its main file")
            return f"node {quote(file)}"
    script = _server_file(folder, (*SCRIPT_FILES, *_IN_SRC))
    if script is not None:
        because.append(f"{script} is there")
        return f"node {script}"
    if main is None or not package.builds or folder.has(main) or not main.endswith(_ENDINGS):
        return None
    because.append(f"package.json names {main} as its main file, which the build makes")
    return f"node {quote(main)}"


def _typescript_file(package: _Package) -> str | None:
    file = package.folder.first(*_TYPESCRIPT)
    runner = next((tool for tool in ("tsx", "ts-node") if package.manifest.depends_on(tool)), None)
    if file is None or runner is None:
        return None
    package.because.append(f"{file} is there, and {runner} runs TypeScript")
    # As a hook of Node's own, tsx takes one process; its command takes two and twice the memory.
    return f"node --import tsx {file}" if runner == "tsx" else f"node_modules/.bin/ts-node {file}"


def _main(manifest: PackageJson) -> str | None:
    """package.json's main as a file's name inside the package; None when it is none."""
    if not isinstance(manifest.main, str) or len(manifest.main) > 1024 or "\0" in manifest.main:
        return None
    main = posixpath.normpath(manifest.main)
    return None if main.startswith(("/", "..", "-", ".")) else main


def _server_file(folder: Folder, names: tuple[str, ...]) -> str | None:
    """The first of the names that is a file and, beside a web page, looks like a server."""
    return next((name for name in names if folder.has(name) and _serves(folder, name)), None)


def _serves(folder: Folder, name: str) -> bool:
    """Beside an index.html, app.js or index.js is as likely the page's own script."""
    if name in SERVER_FILES or not folder.has("index.html"):
        return True
    return _LISTENS.search(folder.data(name, limit=262_144)) is not None


def _missing(package: _Package) -> str:
    manifest = package.manifest
    typescript = package.folder.first(*_TYPESCRIPT)
    if typescript is not None:
        return (
            f"{typescript} is TypeScript, which Node doesn't run here by itself: add tsx to the "
            'dependencies, or a build script and a start script such as "node dist/index.js"'
        )
    if manifest.workspaces:
        return (
            "package.json is the root of workspaces and has no start script: "
            "set settings.directoryPath to the one to deploy, or settings.runCommand"
        )
    if manifest.depends_on("@sveltejs/kit"):
        return "SvelteKit needs @sveltejs/adapter-node or @sveltejs/adapter-static to be deployed"
    if package.builds:
        return (
            "package.json has a build script but no start script, and where the build leaves its "
            "files is not known: set settings.buildDir, or add a start script"
        )
    return (
        "package.json has no start script and no main file, and there is no index.js or server.js"
    )

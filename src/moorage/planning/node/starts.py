"""Finds how a Node package is started: by a script, by its build's output, or by a file."""

import posixpath
import re
from shlex import join, quote, split
from typing import NamedTuple

from moorage.planning.explicit import COMMAND_LIMIT, Asked
from moorage.planning.frameworks import Framework
from moorage.planning.node.builds import compiled_file, without_comments
from moorage.planning.node.imports import entry, imported, may_listen
from moorage.planning.node.package_json import (
    ENDINGS,
    IN_SRC,
    LISTENS,
    SCRIPT_FILES,
    TYPESCRIPT,
    PackageJson,
    build_script,
    command_of,
    is_development_server,
    is_for_development,
    package_json,
    reloads_pages,
    server_file,
    serves,
)
from moorage.planning.node.servers import (
    built_server,
    foreign_adapter,
    is_qwik_city,
    lacks_server,
    needs_nitro,
    site,
    site_base,
)
from moorage.planning.plan import Stack, quoted, with_path
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import first_word, word_set
from moorage.planning.static import function_of, serve

_GENERATORS_SERVER = re.compile(
    r"(?:hugo|jekyll|bundle[ \t]+exec[ \t]+jekyll|mkdocs)[ \t].*\bserve"
)
_HOSTS_SERVER = re.compile(
    r"(?:netlify|vercel|firebase|amplify|sst|serverless|sls|partykit|convex|supabase)[ \t]+"
    r"(?:dev|serve|emulators|emulators:start|offline|start)\b"
)
_LAUNCHER = re.compile(r"(?:npx|bunx|yarn|pnpm exec|npm exec)(?:[ \t]+-\S*)*[ \t]+\Z")
_OPTION = re.compile(
    r"[ \t]+--(?:watch(?:-path|-preserve-output)?|hot|clear-screen)(?:=\S+)?(?=[ \t]|\Z)"
)
_EXPANDED = re.compile(r"[$*?~]")  # the shell expands these, so such commands are not parsed
_NODEMON_VALUES = frozenset(
    ("-w", "--watch", "-e", "--ext", "-i", "--ignore", "--delay", "-d", "-s", "--signal")
)
_TS_NODE_DEV_ALONE = frozenset(
    ("--respawn", "--exit-child", "--poll", "--clear", "--cls", "--notify", "--quiet", "--rs")
)


def without_watching(manifest: PackageJson, name: str) -> str:
    """Returns the script without its watcher; "" if it has none."""
    command = command_of(manifest, name)
    plain = once(command)
    if plain == command:
        return ""
    script = manifest.script(name)
    before = script.removesuffix(command) if script.endswith(command) else ""
    return f"{_LAUNCHER.sub('', before)}{plain}"


def once(command: str) -> str:
    """Returns a plain command without the watching of nodemon, ts-node-dev, tsx, Node or Bun."""
    program, _, rest = command.partition(" ")
    if not first_word(command) or _EXPANDED.search(rest):
        return command
    if program in ("node", "bun"):
        return _OPTION.sub("", command)
    if program == "tsx":
        return _OPTION.sub("", command.replace("tsx watch ", "tsx ", 1))
    try:
        words = split(rest)
    except ValueError:
        return command
    if program == "nodemon":
        return _nodemon(words) or command
    return (_ts_node_dev(words) or command) if program in ("ts-node-dev", "tsnd") else command


def _nodemon(words: list[str]) -> str:
    """Returns what nodemon runs: its --exec, or Node, on the given file."""
    runner, rest = "", iter(words)
    kept: list[str] = []
    for word in rest:
        if word in ("--exec", "-x"):
            runner = next(rest, "")
        elif word in _NODEMON_VALUES:
            next(rest, None)
        elif not word.startswith("-") or kept:
            kept.append(word)
    if not runner and kept:
        runner = "ts-node" if kept[0].endswith(".ts") else "node"
    return f"{runner} {join(kept)}".strip()


def _ts_node_dev(words: list[str]) -> str:
    kept = [word for word in words if word not in _TS_NODE_DEV_ALONE]
    return f"ts-node {join(kept)}" if kept else ""


_VALUED = word_set(
    "-n --names -c --prefix-colors -p --prefix -l --prefix-length -m --max-processes -s "
    "--success --restart-tries --restart-after -t --timestamp-format --hide --name-separator "
    "--kill-signal --default-input-target -i --teardown"
)
_COMPILES = re.compile(
    r"(?:tsc|tsup|tsc-watch|esbuild|webpack|rollup|sass|tailwindcss|@tailwindcss/cli|postcss|babel"
    r"|swc|vite[ \t]+build)\b.*[ \t](?:-w|--watch)\b"
)
_BESIDE = re.compile(
    r"(?:(?:[A-Za-z_]\w*=\S*|cross-env|npx|bunx|yarn|(?:npm|pnpm)[ \t]+exec|-y|--yes|--)[ \t]+)*"
    r"(?P<program>concurrently|npm-run-all|run-p)[ \t]+(?P<rest>[^\n]*)\Z"
)
_BY_NAME = re.compile(r"(?:npm|yarn|pnpm|bun)(?:[ \t]+run)?[ \t]+([\w:-]+)")
_CALLS_LIMIT = 8  # scripts that run one another
_PLACE = r"(?P<place>[\w./-]{1,100})"
_ELSEWHERE = re.compile(
    rf"cd[ \t]+{_PLACE}[ \t]*&&[ \t]*(?:npm|yarn|pnpm|bun)(?:[ \t]+run)?[ \t]+(?P<name>[\w:-]+)\Z"
)
_PREFIX = re.compile(rf"[ \t]+(?:--prefix|--cwd|--dir|-C)[ \t=]+{_PLACE}")
_PARTS_LIMIT = 16


class Part(NamedTuple):
    """One of the commands; `script` is its name if it is a script of the same package."""

    command: str
    script: str


def server_among(folder: Folder, manifest: PackageJson, name: str) -> Part | None:
    """Returns the only command of a script that is no development server and no watching compiler.

    None if the script does not start several commands, has hooks, or that leaves none or more.
    """
    if manifest.script(f"pre{name}") or manifest.script(f"post{name}"):
        return None
    commands = _commands(manifest, _behind(manifest, manifest.script(name)))[:_PARTS_LIMIT]
    serving = [it for it in commands if not _is_for_development(folder, manifest, it)]
    if len(serving) != 1 or len(commands) < 2:
        return None
    return Part(serving[0], _script(manifest, serving[0]))


def _commands(manifest: PackageJson, command: str) -> list[str]:
    """Returns what a script starts beside each other; none if it doesn't."""
    match = _BESIDE.match(command)
    try:
        words = split(match["rest"]) if match else []
    except ValueError:
        return []
    program = match["program"] if match else ""
    if program == "concurrently":
        given = iter(words)
        plain = [it for it in given if not (it in _VALUED and next(given, "")) and it[:1] != "-"]
        return [one for it in plain for one in _shortened(manifest, it)]
    is_parallel = program == "run-p" or not {"-p", "--parallel"}.isdisjoint(words)
    if not is_parallel or not {"-s", "--serial", "--sequential"}.isdisjoint(words):
        return []
    names = [it for it in words if it[:1] != "-"]
    return [one for it in names for one in _shortened(manifest, f"npm:{it}")]


def _shortened(manifest: PackageJson, word: str) -> list[str]:
    """Returns the commands of `npm:name`, also with a `*`, and of any other word itself."""
    manager, colon, name = word.partition(":")
    if not colon or manager not in ("npm", "yarn", "pnpm", "bun") or " " in word:
        return [word]
    if "*" not in name:
        return [f"{manager} run {name}"]
    before, _, after = name.partition("*")
    names = [it for it in manifest.scripts if it.startswith(before) and it.endswith(after)]
    return [f"{manager} run {it}" for it in names]


def _behind(manifest: PackageJson, command: str) -> str:
    """Returns the command of the script that a command runs by its name, if it does that alone."""
    for _ in range(_CALLS_LIMIT):
        name = _script(manifest, command)
        if not name:
            break
        command = manifest.script(name)
    return command


def _script(manifest: PackageJson, command: str) -> str:
    match = _BY_NAME.fullmatch(command.strip())
    return match[1] if match is not None and manifest.script(match[1]) else ""


def _is_for_development(folder: Folder, manifest: PackageJson, command: str) -> bool:
    """Whether a command is a development server or compiles what changes, also in a directory."""
    command = _behind(manifest, command)
    prefix = _PREFIX.search(command)
    plain = command if prefix is None else _PREFIX.sub("", command, count=1)
    elsewhere = _ELSEWHERE.match(command)
    place = elsewhere["place"] if elsewhere else prefix["place"] if prefix else ""
    if place:
        place = posixpath.normpath(place)
        if place.startswith((".", "/")):
            return False
        manifest = package_json(folder.below(place)) or PackageJson()
        plain = f"npm run {elsewhere['name']}" if elsewhere else plain
    last = command_of(PackageJson(scripts={**manifest.scripts, "": plain}), "")
    return is_for_development(last) or _COMPILES.match(last) is not None


_NODE_TS = re.compile(r"node(?:[ \t]+-[\w=/.-]+)*[ \t]+[\w./-]{1,200}\.[cm]?ts(?=[ \t]|\Z)")
_STRIP = re.compile(r"[ \t]+--experimental-(?:strip|transform)-types(?=[ \t])")
# Next.js's documentation asks for these copies; its build doesn't make them.
_STANDALONE_FILES = (
    "cp -r .next/static .next/standalone/.next/ && "
    "{ test ! -d public || cp -r public .next/standalone/; }"
)


class Package(NamedTuple):
    """A folder with a package.json that is being planned."""

    folder: Folder
    manifest: PackageJson
    asked: Asked
    builds: bool  # whether there is a build step
    run: str  # what runs a script by its name, such as `npm run --silent`
    runtime: str  # what runs a file: node or bun
    programs: tuple[str, ...]  # directories of its programs that aren't on every app's PATH
    because: list[str]
    strips_types: bool = False  # whether its Node runs TypeScript by itself
    adds: bool = True  # whether packages that package.json lacks are installed


class Start(NamedTuple):
    """A start command with a check of the build's output, or what is missing for one."""

    command: str | None
    check: str = ""
    missing: str = ""
    build_env: tuple[tuple[str, str], ...] = ()


def runs_typescript(manifest: PackageJson) -> bool:
    """Whether the start script gives Node a TypeScript file, without what compiles it."""
    script = command_of(manifest, "start")
    hooked = re.search(r"--(?:import|loader|require|experimental-loader)\b|[ \t]-r[ \t]", script)
    return _NODE_TS.match(script) is not None and hooked is None


def find_start(package: Package) -> Start:
    """Returns the first way to start a package, in the order of the planner's table."""
    folder, manifest, because = package.folder, package.manifest, package.because
    over_http = next((it for it in manifest.scripts if _OVER_HTTP.fullmatch(it)), "")
    if over_http and manifest.depends_on("@modelcontextprotocol/sdk"):
        return Start(_start_script(package, over_http, manifest.script(over_http)))
    script = manifest.script("start")
    if script:
        unused = _why_unused(package)
        part = None if unused else server_among(folder, manifest, "start")
        if part is not None:
            because.append(f"its start script runs a server beside others: {quoted(script)}")
            because.append(f"only {quoted(part.command)} is started, which is for visitors")
            if part.script:
                return Start(_start_script(package, part.script, manifest.script(part.script)))
            return Start(_run_here(package, once(part.command)))
        if not unused:
            check = _STANDALONE_FILES if package.builds and _is_standalone(package, script) else ""
            return Start(_start_script(package, "start", script), check=check)
        because.append(f"its start script {unused}, not used: {quoted(script)}")
    foreign = foreign_adapter(folder, manifest) if package.builds else ""
    if foreign:
        return Start(None, missing=f"{foreign}, which builds for another platform")
    if package.builds:
        built = _built(package)
        if built is not None:
            return built
    if manifest.is_published and not may_listen(folder, manifest):
        return Start(None, missing=_library(manifest))
    command = _main_file(package) or _compiled_file(package) or _typescript_file(package)
    command = command or (f"node {API}" if exports_app(folder, API) else None)
    place = _page_of_build(folder, manifest) if command is None and package.builds else None
    if place is not None:
        file = f"{place}/index.html".lstrip("/")
        because.append(f"{file} is there: the files are served by Caddy after the build")
        command = serve(place, fallback=False)
    return Start(command, missing="" if command else _missing(package))


_OVER_HTTP = re.compile(r"start:(?:streamable-?)?https?", re.IGNORECASE)


def _page_of_build(folder: Folder, manifest: PackageJson) -> str | None:
    """Returns the directory with a page in the upload that the build leaves files beside."""
    if folder.has("index.html"):
        return ""
    command = manifest.script(build_script(manifest))
    file = entry(folder, command)
    text = command + (folder.data(file, limit=_APP_LIMIT).decode(errors="replace") if file else "")
    named = (it for it in _PAGES if re.search(rf"(?<![\w/-]){it}(?![\w-])", text))
    return next((it for it in named if folder.has(f"{it}/index.html")), None)


_PAGES = ("public", "dist", "build", "www", "static", "docs")


def _library(manifest: PackageJson) -> str:
    what = "a command-line program" if manifest.bin else "a library"
    return (
        f"package.json is that of {what}, and none of its sources listens on a port: add a server "
        "that does, and a start script"
    )


API = "api/index.js"
"""Where Vercel looks for an app that it serves."""
_EXPORTED_APP = re.compile(
    r"\b(?P<name>\w+)\s*=\s*(?:express\s*\(\)|new Koa\s*\()[\s\S]*"
    r"(?:module\.exports\s*=|export\s+default)\s+(?P=name)\b"
)
_IN_DEVELOPMENT = re.compile(
    r"if\s*\(\s*process\.env\.NODE_ENV\s*"
    r"(?:!==?\s*['\"]production['\"]|===?\s*['\"](?:development|dev|local)['\"])\s*\)"
    r"[^}]{0,400}?\.listen\s*\("
)
_APP_LIMIT = 131_072  # bytes of a file


def exports_app(folder: Folder, file: str) -> bool:
    """Whether a file exports an app of Express or Koa, and listens at most in development."""
    if not folder.has(file):
        return False
    text = without_comments(folder.data(file, limit=_APP_LIMIT).decode(errors="replace"))
    return (
        _EXPORTED_APP.search(text) is not None
        and LISTENS.search(_IN_DEVELOPMENT.sub("", text).encode()) is None
    )


def listening(folder: Folder, command: str, because: list[str]) -> str:
    """Returns the command; if its file only exports an app, one that makes this app listen."""
    file = entry(folder, command)
    if not file or not file.endswith(ENDINGS) or not exports_app(folder, file):
        return command
    because.append(f"{file} exports an app that listens nowhere: it is made to listen on PORT")
    return (
        f"node -e \"import('./{file}').then(({{ default: it }}) => "
        '(it.default ?? it).listen(process.env.PORT))"'
    )


def _why_unused(package: Package) -> str:
    """Returns why the start script can't serve visitors; "" if it can."""
    folder, manifest = package.folder, package.manifest
    command = command_of(manifest, "start")
    if reloads_pages(command) and folder.has("index.html"):
        return "is a development server"
    if _GENERATORS_SERVER.match(command):
        return "is a development server of a site"
    if _HOSTS_SERVER.match(command):
        return "is a development server of another host"
    if not package.builds:
        return ""
    if is_development_server(manifest):
        return "is a development server"
    if manifest.script("start:prod") and once(command) != command:
        return "waits for changes of its files"
    return lacks_server(folder, manifest, command)


def _is_standalone(package: Package, script: str) -> bool:
    """Whether it starts Next.js's standalone server without its build copying the files for it."""
    if "standalone/server.js" not in script or "standalone" in package.manifest.script("build"):
        return False
    package.because.append("Next.js's standalone server needs .next/static and public/ beside it")
    return True


def _built(package: Package) -> Start | None:
    """Returns the start after a build: a script for it, a framework's server, or a file server."""
    folder, manifest, because = package.folder, package.manifest, package.because
    production = manifest.script("start:prod")
    if production:
        return Start(_start_script(package, "start:prod", production))
    if not package.asked.build_dir:
        server = built_server(folder, manifest)
        if server is not None:
            because.append(server.because)
            command = _run_here(package, server.command)
            return Start(command, check=server.after_build, build_env=server.build_env)
    for name in _LEFT_BY_BUILD:
        command = command_of(manifest, name)
        file = _RUNS_BUILT.match(command)
        if file is not None and not folder.has(file[1]):
            because.append(f"its {name} script runs what the build leaves: {command}")
            return Start(_run_here(package, command))
    found = _site(package)
    if found is None:
        return None
    script = _script_of_server(package, found.output)
    if script:
        return Start(_start_script(package, script, manifest.script(script)))
    because.append(f"{found.name} leaves files in {found.output}/: served by Caddy")
    if package.asked.build_dir_from:
        because.append(f"{package.asked.build_dir_from} names that directory")
    base = site_base(folder, manifest, found)
    if base:
        because.append(f"it is built for {base}/: visitors of / are sent there")
    return Start(
        serve(found.output, fallback=found.fallback, base=base),
        check=_output_check(found.output, is_given=bool(package.asked.build_dir)),
    )


# Scripts that run a server of the build's, where no start script does.
_LEFT_BY_BUILD = ("production", "prod", "serve", "preview")
_RUNS_BUILT = re.compile(r"(?:node|bun)[ \t]+(?:\./)?((?:dist|build)/[\w./-]{1,100}\.[mc]?js)\Z")
_SERVES_FILES = re.compile(rb"\.static\(|sirv|serve-?[sS]tatic|sendFile|-static['\"]")


def _script_of_server(package: Package, output: str) -> str:
    """Returns the script of a server that serves what the build leaves; "" without one."""
    folder, manifest = package.folder, package.manifest
    for name in manifest.scripts:
        command = once(command_of(manifest, name))
        file = entry(folder, command) if command.startswith(("node ", "tsx ", "bun ")) else ""
        data = folder.data(file, limit=_APP_LIMIT) if file else b""
        is_server = LISTENS.search(data) is not None and _SERVES_FILES.search(data) is not None
        if is_server and posixpath.basename(output).encode() in data:
            return name
    return ""


def _start_script(package: Package, name: str, script: str) -> str:
    said = "a start script" if name == "start" else f"a {name} script"
    package.because.append(f"package.json has {said}: {quoted(script)}")
    if package.asked.build_dir:
        package.because.append("settings.buildDir is not used: the start script serves")
    if script.startswith("pnpx "):  # it is not among the programs of pnpm's newest versions
        runner = "pnpm dlx" if package.run.startswith("pnpm") else "npx --yes"
        package.because.append(f"pnpx is {runner} here")
        return _run_here(package, f"{runner} {script.removeprefix('pnpx ').strip()}")
    attached = _attached(package, script)
    if attached != script:
        return _run_here(package, once(attached))
    unwatched = without_watching(package.manifest, name)
    if unwatched:
        package.because.append("its files don't change here: it is run once, without watching them")
        return _run_here(package, unwatched)
    is_plain = name == "start" and runs_typescript(package.manifest)
    if is_plain and package.adds and not package.strips_types:
        package.because.append("this Node doesn't run TypeScript by itself: tsx is added")
        return _run_here(package, f"node --import tsx {_STRIP.sub('', script)[5:]}")
    if not _runs_by_itself(package, name, script):
        package.because.append(f"it runs by {package.run} {name}")
        return f"{package.run} {name}"
    manager = package.run.partition(" ")[0]
    if not script.startswith(f"{manager} "):
        package.because.append(
            f"it runs without {manager}, which starts sooner and takes less memory"
        )
    return _run_here(package, script)


_DETACHES = re.compile(
    r"(?P<pm2>pm2[ \t]+(?:start|restart|reload)|pm2)[ \t]+(?=[\w./-])|forever[ \t]+start[ \t]+"
)
_ENV_FILE = re.compile(
    r"(?:env-cmd[ \t]+(?:-f|--file)|[ \t]--env-file)[= \t]+(?P<file>[\w./-]{1,100})(?=[ \t]|\Z)"
)


def _attached(package: Package, script: str) -> str:
    """Returns a script that stays until its app ends, and reads no file that the upload lacks."""
    match = _DETACHES.match(script)
    if match is not None:
        runner = "pm2-runtime start " if match["pm2"] else "node "
        package.because.append(f"{match[0].strip()} would return at once: {runner.strip()} stays")
        script = runner + script[match.end() :]
    file = _ENV_FILE.search(script)
    if file is not None and not package.folder.has(posixpath.normpath(file["file"])):
        package.because.append(f"{file['file']} is not in the upload: it is not read")
        script = (script[: file.start()] + script[file.end() :]).strip()
    return script


def _runs_by_itself(package: Package, name: str, script: str) -> bool:
    """Whether the script works without its package manager.

    npm costs 0.2 s and 50 MB, and keeps SIGTERM from the app. It adds hooks, variables named npm_…,
    and the package's own programs, which are on the PATH here.
    """
    return (
        bool(first_word(script))
        and not (package.manifest.script(f"pre{name}") or package.manifest.script(f"post{name}"))
        and "npm_" not in script
        and len(script) <= COMMAND_LIMIT
    )


def _run_here(package: Package, command: str) -> str:
    """Returns the command, with the package's programs on its PATH if it names one of them."""
    if not package.programs or first_word(command) in ("node", "bun"):
        return command
    return with_path(command, *package.programs)


def _site(package: Package) -> Framework | None:
    """Returns the site generator whose output is served, from settings.buildDir if given."""
    asked = package.asked
    found = site(package.folder, package.manifest, asked.framework)
    if not asked.build_dir:
        return found
    fallback = found is not None and found.fallback
    return Framework("the build", Stack.NODE, output=asked.build_dir, fallback=fallback)


def _output_check(directory: str, *, is_given: bool) -> str:
    """Returns a command that fails the build, with advice, if it made nothing to serve."""
    place = quote(f"./{directory}")
    found = f"test -d {place}"
    if not is_given:  # pages may be below, one directory a language
        found = f"find {place} -maxdepth 2 -name index.html 2>/dev/null | grep -q ."
    made = f"directory {directory}" if is_given else f"pages in {directory}"
    problem = f"The build left no {made}: set settings.buildDir to where it leaves them."
    return f"{{ {found} || {{ echo {quote(problem)} >&2; exit 1; }}; }}"


def _main_file(package: Package) -> str | None:
    folder, because, runtime = package.folder, package.because, package.runtime
    main = _main(package.manifest)
    if main is not None:
        file = folder.first(main, f"{main}.js", f"{main}.cjs", f"{main}.mjs", f"{main}/index.js")
        if file is not None and serves(folder, file):
            because.append(f"package.json names {main} as its main file")
            return f"{runtime} {quote(file)}"
    script = server_file(folder, (*SCRIPT_FILES, *IN_SRC))
    if script is not None:
        because.append(f"{script} is there")
        return f"{runtime} {script}"
    if main is None or not package.builds or folder.has(main) or not main.endswith(ENDINGS):
        return None
    if "/" not in main and folder.first(*TYPESCRIPT) is not None:
        return None  # `npm init` writes this name without checking the file
    because.append(f"package.json names {main} as its main file, which the build makes")
    return f"{runtime} {quote(main)}"


def _compiled_file(package: Package) -> str | None:
    """Returns the file that tsc compiles the TypeScript file to in the build."""
    folder = package.folder
    file = folder.first(*TYPESCRIPT)
    if file is None or not package.builds or package.runtime == "bun":
        return None
    steps = (step.strip() for step in package.manifest.script("build").split("&&"))
    last = command_of(package.manifest, "build")
    build = next((step for step in steps if step.partition(" ")[0] == "tsc"), last)
    compiled = compiled_file(folder, file, build=build)
    if compiled:
        package.because.append(f"{compiled} is what tsc makes of {file}")
        return f"node {quote(compiled)}"
    return None


def _typescript_file(package: Package) -> str | None:
    file = package.folder.first(*TYPESCRIPT)
    if file is None:
        return None
    if package.runtime == "bun":
        package.because.append(f"{file} is there, and Bun runs TypeScript")
        return f"bun {quote(file)}"
    runner = next((tool for tool in ("tsx", "ts-node") if package.manifest.depends_on(tool)), None)
    if runner is None:
        # A build that leaves its files elsewhere, or a framework, makes what is started.
        return None if package.builds else typescript(package, file)
    package.because.append(f"{file} is there, and {runner} runs TypeScript")
    # As a hook of Node, tsx takes one process; its command takes two and twice the memory.
    if runner == "tsx":
        return f"node --import tsx {quote(file)}"
    return _run_here(package, f"ts-node {quote(file)}")


def typescript(package: Package, file: str) -> str | None:
    """Returns what runs a TypeScript file without a runner of the app's own; None for nothing."""
    if package.strips_types and imported(package.folder, file).is_plain:
        package.because.append(f"{file} is there, and Node runs it by removing its types")
        return f"node {quote(file)}"
    if not package.adds:
        return None
    package.because.append(f"{file} is there, and tsx, which is added, runs TypeScript")
    return f"node --import tsx {quote(file)}"


def _main(manifest: PackageJson) -> str | None:
    """Returns package.json's main as a file name inside the package; None if it isn't one."""
    if not isinstance(manifest.main, str) or len(manifest.main) > 1024 or "\0" in manifest.main:
        return None
    main = posixpath.normpath(manifest.main)
    return None if main.startswith(("/", "..", "-", ".")) else main


def _missing(package: Package) -> str:
    manifest = package.manifest
    source = package.folder.first(*TYPESCRIPT)
    if source is not None:
        return (
            f"{source} is TypeScript, which Node doesn't run here by itself: add tsx to the "
            'dependencies, or a build script and a start script such as "node dist/index.js"'
        )
    if is_qwik_city(manifest):
        return (
            "Qwik City leaves no server by itself: add an adapter (`qwik add express`, or static)"
        )
    if manifest.depends_on("@sveltejs/kit"):
        return "SvelteKit needs @sveltejs/adapter-node or @sveltejs/adapter-static to be deployed"
    if needs_nitro(manifest):
        return (
            "TanStack Start leaves no server by itself, and a plugin of another platform builds "
            "it: take nitro and its plugin in vite.config instead, or add a start script"
        )
    if package.folder.has("nx.json"):
        return (
            "nx.json is there, and package.json has no scripts: set settings.buildCommand "
            '("npx nx build web") and settings.runCommand to what starts the app\'s output'
        )
    function, host = function_of(package.folder)
    if function:
        return (
            f"{function} is a function of {host}, which does not run here: add a server that "
            "listens on PORT and calls it, and a start script"
        )
    if package.builds:
        return (
            "package.json has a build script but no start script, and where the build leaves its "
            "files is not known: set settings.buildDir, or add a start script"
        )
    return (
        "package.json has no start script and no main file, and there is no index.js or server.js"
    )

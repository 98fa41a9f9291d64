"""Go programs, built into one file."""

import re
from shlex import quote

from moorage.errors import PlanNotFound
from moorage.planning.explicit import Asked, Found, Wanted, find_tool, wanted_from
from moorage.planning.interpreters import unmade, words
from moorage.planning.languages.portless import portless
from moorage.planning.plan import Recipe, Stack, with_path
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import Version
from moorage.planning.toolbox import Toolbox

LOOKED_FOR = ("go.mod and a package main, at the root, below cmd/ or elsewhere", "main.go")

_VERSION = re.compile(r"^go[ \t]+(\d+)\.(\d+)", re.MULTILINE)
_MAIN = re.compile(rb"^package[ \t]+main\b", re.MULTILINE)
_FILES_LIMIT = 100  # sources read
_DOWNLOADS = Version(1, 21, 0)  # the first that gets another Go
_AHEAD = 6  # minor versions, of which there are two a year
_LIKELY = frozenset(("server", "api", "web", "app", "cmd", "http", "backend", "main"))
_ASIDE = frozenset(("internal", "pkg", "vendor", "testdata", "examples", "tools", "node_modules"))
_HEAD = 16_384  # bytes of a file that hold its package clause
_DOWNLOAD = "go mod download"
_INIT = "go mod init app && go mod tidy"
_BUILD = 'go build -ldflags="-w -s"'
_MODULE = re.compile(rb"^module[ \t]+([\w./~-]{1,200})", re.MULTILINE)
# Libraries of command-line programs, whose commands are looked for, or the command itself.
_COMMANDS = {
    "github.com/spf13/cobra": "",
    "github.com/urfave/cli": "",
    "github.com/pocketbase/pocketbase": ' serve --http="0.0.0.0:$PORT"',
}
_SERVE = re.compile(rb"\b(?:Use|Name):[ \t]*\"(serve|server|start|web|api|http)\b")
_ENV_FILE = re.compile(
    rb"godotenv\.Load\((?:\"\.env\")?\)[^}]{0,80}\{\s{0,20}(?:log\.(?:Fatal|Panic)|panic\()"
)
# By the ending of what they read: the ending of what generators make of it, and the generator.
_GENERATORS = {".templ": ("_templ.go", "github.com/a-h/templ", "/cmd/templ", "generate")}
_BUILT = ".bin/app"  # hidden, because a directory may have the program's own name


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """A module with a main package, or a main.go; None without.

    Raises RuntimeUnsupported, and PlanNotFound for what listens on no port.
    """
    module = folder.first("go.mod", "go.work")
    is_module = module is not None
    if not is_module and not folder.has("main.go"):
        return None
    package = _main_package(folder)
    if package is None and asked.run is None:
        step = "as there is no package main: add a main.go that listens on PORT"
        return Recipe(Stack.GO, missing=f"{module} is a library's, {step}")
    is_open = module == "go.mod" and asked.seeks_server
    refusal = portless(folder, "go", "go.mod") if is_open else ""
    if refusal:
        raise PlanNotFound(refusal)
    found, toolchain = _go(folder, asked, toolbox, file=module or "main.go")
    named = quote(package or ".")
    command = _subcommand(folder) if asked.run is None else ""
    build, start = f"{_BUILD} -o {_BUILT} {named}", f"./{_BUILT}{command}"
    generates = _generator(folder)
    build = f"{generates} && {build}" if generates else build
    wants_file = _wants_env_file(folder)
    if wants_file:
        start = f"touch .env && exec {start}"
    if asked.run is not None:
        build, start = _given(folder, asked.run, package) or (build, asked.run)
    run_with = f", run with{command}" if command else ""
    because = (
        f"{module} is there; the program is {package or '.'}{run_with}"
        if is_module
        else "main.go is there, without a go.mod: one is made",
        found.because,
        f"sources are made before the build: {generates}" if generates else "",
        "an empty .env is made before the start, as the program ends without one"
        if wants_file
        else "",
    )
    inputs = ("go.mod", "go.sum") if module == "go.mod" else ()
    recipe = Recipe(
        Stack.GO,
        _DOWNLOAD if is_module else _INIT,
        build,
        start,
        because,
        build_env=(("GOTOOLCHAIN", toolchain), ("GOFLAGS", _flags(folder))),
        tools=(found.tool,),
        install_inputs=tuple(folder.path(it) for it in inputs if folder.has(it)),
    )
    return asked.over(recipe)._replace(start=start if asked.build is None else asked.run or start)


def _flags(folder: Folder) -> str:
    """Returns the flags of builds, which look up what go.mod and go.sum lack if they may not."""
    is_whole = folder.has("go.sum") or folder.has("go.work") or folder.has_directory("vendor")
    return "-buildvcs=false" if is_whole else "-buildvcs=false -mod=mod"


def _given(folder: Folder, run: str, package: str | None) -> tuple[str, str] | None:
    """Returns what builds the programs that a given start runs, and the start; None for none.

    Heroku's buildpack leaves them in bin/, which is on the PATH there, by the names of their
    packages' directories, or of the module.
    """
    module = _MODULE.search(folder.data("go.mod", limit=_HEAD)) if folder.has("go.mod") else None
    own = module[1].decode().rpartition("/")[2] if module else ""
    targets = {path: path for path in unmade(run, folder)}
    bare = [word for word in words(run) if "/" not in word]
    targets |= {f".bin/{w}": w for w in bare if w == own or folder.has_directory(f"cmd/{w}")}
    steps = [
        f"{_BUILD} -o {target} {_package_named(folder, path.rpartition('/')[2]) or package}"
        for target, path in targets.items()
    ]
    if not steps:
        return None
    start = with_path(run, ".bin") if any(t.startswith(".bin/") for t in targets) else run
    return " && ".join(steps), start


def _generator(folder: Folder) -> str:
    """Returns what makes sources that the upload lacks, in the version of go.mod; "" for none."""
    listed = folder.data("go.mod", limit=_HEAD) if folder.has("go.mod") else b""
    for ending, (made, module, program, option) in _GENERATORS.items():
        version = re.search(rb"\b%b (v[\w.+-]{1,40})" % module.encode(), listed)
        read = folder.ending(ending) if version else []
        if version and any(not folder.has(f"{it.removesuffix(ending)}{made}") for it in read):
            return f"go run {module}{program}@{version[1].decode()} {option}"
    return ""


def _package_named(folder: Folder, name: str) -> str | None:
    return f"./cmd/{name}" if folder.has_directory(f"cmd/{name}") else None


def _wants_env_file(folder: Folder) -> bool:
    """Whether the program ends without a .env, whose variables it has anyway."""
    sources = folder.ending(".go")[:_FILES_LIMIT]
    return not folder.has(".env") and any(_ENV_FILE.search(folder.source(name)) for name in sources)


def _subcommand(folder: Folder) -> str:
    """Returns the command of a command-line program that makes it serve, "" for other programs."""
    listed = folder.data("go.mod", limit=_HEAD) if folder.has("go.mod") else b""
    library = next((name for name in _COMMANDS if name.encode() in listed), None)
    if library is None or library == "github.com/pocketbase/pocketbase":
        return _COMMANDS[library] if library else ""
    for name in folder.ending(".go")[:_FILES_LIMIT]:
        found = _SERVE.search(folder.source(name))
        if found is not None:
            return f" {found[1].decode()}"
    return ""


def _go(folder: Folder, asked: Asked, toolbox: Toolbox, *, file: str) -> tuple[Found, str]:
    """Returns the Go to use, and what it builds with: itself, or a newer one that it downloads.

    A Go from 1.21 on downloads the one that go.mod asks for (go.dev/doc/toolchain).
    """
    wanted = asked.version_of("go") or _wanted(folder)
    newest = toolbox.tools("go")[-1:]
    lowest = wanted.range.lowest if wanted is not None else None
    if lowest is None or wanted is None or not newest or asked.version is not None:
        return find_tool(toolbox, "go", wanted, file=file), "local"
    has = newest[0].version
    if lowest.major == has.major and 0 < lowest.minor - has.minor <= _AHEAD and has >= _DOWNLOADS:
        return Found(newest[0], f"{wanted}: {newest[0]} downloads it for the build"), "auto"
    return find_tool(toolbox, "go", wanted, file=file), "local"


def _wanted(folder: Folder) -> Wanted | None:
    file = folder.first("go.mod", "go.work")
    match = _VERSION.search(folder.text(file)) if file else None
    if file is None or match is None:
        return None
    return wanted_from(f">={match[1]}.{match[2]} <{int(match[1]) + 1}", file)


def _main_package(folder: Folder) -> str | None:
    """Returns the program's directory: the root, else the likeliest below cmd/, else another."""
    files = [name for name in folder.ending(".go") if "_test." not in name]
    candidates = [name for name in files if _ASIDE.isdisjoint(name.split("/")[:-1])]
    for name in sorted(candidates, key=_unlikeliness)[:_FILES_LIMIT]:
        if _MAIN.search(folder.data(name, limit=_HEAD)):
            return "." if "/" not in name else f"./{name.rpartition('/')[0]}"
    return None


def _unlikeliness(name: str) -> tuple[int, bool, bool, int, str]:
    """Returns a sort key: the lower, the likelier the file is in the server's main package."""
    *directories, file = name.split("/")
    last = directories[-1] if directories else ""
    place = 0 if not directories else 1 if directories[0] == "cmd" else 2
    return (place, last not in _LIKELY, file != "main.go", len(directories), name)

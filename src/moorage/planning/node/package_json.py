"""The parts of package.json that planning reads."""

import posixpath
import re
from collections.abc import Set
from functools import cached_property

import msgspec

from moorage.errors import UploadInvalid
from moorage.planning.explicit import COMMAND_LIMIT
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import by_word, first_word, table, word_set, word_tuple

SERVER_FILES = ("server.js", "server.mjs", "server.cjs")
ENDINGS = (".js", ".mjs", ".cjs")
SCRIPT_FILES = tuple(
    f"{name}.{ending}"
    for name in ("index", "server", "app", "main")
    for ending in ("js", "mjs", "cjs")
)
TYPESCRIPT_FILES = ("index.ts", "server.ts", "app.ts", "main.ts")
IN_SRC = tuple(f"src/{name}" for name in SCRIPT_FILES)
TYPESCRIPT = (*TYPESCRIPT_FILES, *(f"src/{name}" for name in TYPESCRIPT_FILES))
LISTENS = re.compile(rb"\.listen\s*\(|createServer\s*\(|\bserve\s*\(")
"""What a program calls to listen: Node's servers, Bun.serve, Deno.serve, Hono's serve."""


def server_file(folder: Folder, names: tuple[str, ...]) -> str | None:
    """Returns the first name that is a file; beside a web page it must look like a server."""
    return next((name for name in names if folder.has(name) and serves(folder, name)), None)


def serves(folder: Folder, name: str) -> bool:
    """Whether a file is the app's; beside an index.html it may be the page's script."""
    if name in SERVER_FILES or not folder.has("index.html"):
        return True
    return LISTENS.search(folder.data(name, limit=262_144)) is not None


PACKAGES = table("node/packages")
"""What is known of npm's packages; the file says what each table is."""

_WORD = re.compile(r"[\w:./@-]+")
Versions = dict[str, str]
INSTALL_SCRIPTS = word_set(
    "preinstall install postinstall prepare preprepare postprepare prepublish pnpm:devPreinstall"
)


class PackageJson(msgspec.Struct, rename="camel", dict=True):
    """The fields that say how a package is installed, built and started."""

    name: object = None
    version: object = None
    scripts: dict[str, str] = {}
    main: object = None
    homepage: object = None
    dependencies: Versions = {}
    dev_dependencies: Versions = {}
    optional_dependencies: Versions = {}
    peer_dependencies: Versions = {}
    workspaces: object = None
    package_manager: object = None
    engines: object = None
    private: object = None
    bin: object = None
    exports: object = None
    files: object = None
    types: object = None

    @property
    def installs(self) -> bool:
        """Whether an install has anything to do: dependencies, or scripts of its own."""
        return bool(
            self.dependencies
            or self.dev_dependencies
            or self.optional_dependencies
            or self.peer_dependencies
            or self.workspaces
            or self.runs_at_install
        )

    @property
    def runs_at_install(self) -> bool:
        """Whether an install runs the package's own scripts, which may read any of its files."""
        return not self.scripts.keys().isdisjoint(INSTALL_SCRIPTS)

    @property
    def depends_on_files(self) -> bool:
        """Whether a dependency is a file or a directory of the upload."""
        return any(
            version.startswith(("file:", "link:", "portal:", "./", "../", "/"))
            for versions in (
                self.dependencies,
                self.dev_dependencies,
                self.optional_dependencies,
            )
            for version in versions.values()
        )

    @property
    def workspace_patterns(self) -> tuple[str, ...]:
        """The globs of `workspaces`, in npm's or Yarn's form; none without it."""
        listed = self.workspaces
        if isinstance(listed, dict):
            listed = listed.get("packages")
        if not isinstance(listed, list):
            return ()
        return tuple(item for item in listed if isinstance(item, str))

    @cached_property
    def commands(self) -> tuple[str, ...]:
        """The scripts that a build or a start runs, those that they run by name among them."""
        left = [name for name in _RUN if name in self.scripts]
        found: dict[str, str] = {}
        while left:
            name = left.pop()
            command = self.script(name)
            if name not in found and command and len(command) <= COMMAND_LIMIT:
                found[name] = command
                left += [word for word in _WORD.findall(command) if word in self.scripts]
        return tuple(found.values())

    @property
    def is_published(self) -> bool:
        """Whether it is a package for others to install: a library, or a command."""
        return self.private is not True and bool(
            self.bin or self.exports or self.files or self.types
        )

    def engine(self, name: str) -> str:
        """The range that `engines` gives a program, "" when it gives none."""
        found = self.engines.get(name) if isinstance(self.engines, dict) else None
        return found.strip() if isinstance(found, str) else ""

    def depends_on(self, package: str) -> bool:
        """Whether the package is a dependency, for development or not."""
        return package in self.dependencies or package in self.dev_dependencies

    def depends_on_any(self, packages: Set[str]) -> bool:
        """Whether any of the packages is a dependency, for development or not."""
        own, others = self.dependencies.keys(), self.dev_dependencies.keys()
        return not (own.isdisjoint(packages) and others.isdisjoint(packages))

    def script(self, name: str) -> str:
        """A script's command, "" when there is none."""
        return self.scripts.get(name, "").strip()


_decoder = msgspec.json.Decoder(PackageJson)


def package_json(folder: Folder) -> PackageJson | None:
    """The folder's package.json; None when there is none.

    Raises UploadInvalid, naming the file, when it is not JSON or a field has the wrong type.
    """
    if not folder.has("package.json"):
        return None
    try:
        manifest = _decoder.decode(folder.text("package.json"))
    except msgspec.MsgspecError as error:
        raise _invalid(folder, str(error)) from error
    except RecursionError as error:
        raise _invalid(folder, "nested too deeply") from error
    if any("\0" in command for command in manifest.scripts.values()):
        raise _invalid(folder, "a script contains NUL")
    return manifest


def _invalid(folder: Folder, problem: str) -> UploadInvalid:
    return UploadInvalid(
        f"is not a valid package.json: {problem}", path=folder.path("package.json")
    )


NEXT_START = re.compile(r"next[ \t]+start\b")
"""Serves the output of Next.js's build."""

# What precedes the program: variables, and runners of packages' programs.
_BEFORE = re.compile(
    r"(?:(?:[A-Za-z_]\w*=(?:'[^']*'|\"[^\"]*\"|[^\s'\"]*)|cross-env(?:-shell)?|env|exec|npx|bunx"
    r"|(?:npm|yarn|pnpm|bun)[ \t]+(?:exec|dlx|x)|-y|--yes|--bun|--)[ \t]+)*"
)
_FLAGS = r"(?:[ \t]+-[\w-]+)*"
_BY_NAME = re.compile(
    rf"(?:npm|yarn|pnpm|bun){_FLAGS}(?:[ \t]+run(?:-script)?{_FLAGS})?"
    r"[ \t]+(?P<name>[\w:./@-]+)(?P<rest>[ \t].*)?\Z"
)
_DOCUMENTS = re.compile(r"(?:vitepress|vuepress)[ \t]+build\b")
_RELOADS = re.compile(r"(?:live-server|lite-server|browser-sync[ \t]+start)(?:[ \t]+-.*)?\Z")
_CALLS_LIMIT = 8  # scripts that run one another
_RUN = tuple(
    f"{when}{base}"
    for base in word_tuple(
        "preinstall install postinstall prepare build heroku-postbuild start start:prod"
    )
    for when in ("pre", "", "post")
)
"""The scripts that builds and starts run, and those that run beside them by their names."""

_MANAGERS = re.compile(
    r"(?:^|[\s;&|(\"'])(?:exec[ \t]+)?(pnpm|pnpx|yarn|yarnpkg|bun|bunx)(?=[ \t])"
)
# Development servers: they serve a site's sources, or are not meant for visitors.
_OF_GENERATORS = (
    "astro|gatsby|modern|next|nuxi|nuxt|quasar|react-router|remix|rsbuild|rspack|rspress|slidev"
    "|solid-start|svelte-kit|umi|max|vinxi|vitepress|vuepress|vuepress-vite|waku"
)
_DEV_SERVER = re.compile(
    rf"(?:(?:{_OF_GENERATORS})[ \t]+dev\b.*"
    r"|(?:react-scripts|craco|react-app-rewired|docusaurus|expo|nest)[ \t]+start"
    r"|(?:next|rsbuild|slidev|vite)"
    r"|(?:rsbuild|rspack|vite|vitepress)[ \t]+preview\b.*"
    r"|vite[ \t]+(?:dev|serve)|remix[ \t]+vite:dev"
    r"|(?:docusaurus|gatsby|ionic|ng|rspack|vue-cli-service|webpack)[ \t]+serve\b.*"
    r"|sapper[ \t]+dev\b.*|brunch[ \t]+(?:w|watch)\b.*|preact[ \t]+(?:watch|serve)\b.*"
    r"|gulp(?:[ \t]+(?:serve|server|watch|dev|develop|start|default))?"
    r"|ng[ \t]+s|(?:ember|hexo|hugo)[ \t]+(?:s|serve|server)|gatsby[ \t]+develop"
    r"|webpack-dev-server|parcel(?:[ \t]++(?!build\b).*+)?|(?:@11ty/)?eleventy\b.*[ \t]--serve"
    r"|(?:astro|nuxi|nuxt)[ \t]+preview\b.*|stencil[ \t]+build\b.*[ \t]--serve"
    r"|nx[ \t]+(?:serve|dev)\b.*|turbo[ \t]+(?:run[ \t]+)?(?:dev|start)\b.*)"
    r"(?:[ \t]+-.*)?\Z"
)


def command_of(manifest: PackageJson, name: str) -> str:
    """Returns the last command that a script runs, also through other scripts.

    "" without such a script, or if it is too long or runs itself.
    """
    command = manifest.script(name)
    for _ in range(_CALLS_LIMIT):
        if len(command) > COMMAND_LIMIT:
            return ""
        command = _program(command)
        by_name = _BY_NAME.match(command)
        if by_name is None:
            return command
        called, rest = by_name["name"], by_name["rest"] or ""
        if not manifest.script(called):
            is_file = command.startswith("bun") and "." in called
            return command if is_file else f"{called}{rest}"  # a program, as in `yarn vite`
        command = f"{manifest.script(called)}{rest}"
    return ""


def build_script(manifest: PackageJson) -> str:
    """Returns the name of the script that builds the package, "" without one."""
    documents = "docs:build"  # as VitePress's and VuePress's own commands write it
    if not (manifest.script("build") and not manifest.is_published) and _DOCUMENTS.match(
        command_of(manifest, documents)
    ):
        return documents
    # heroku-postbuild often builds a page in a directory of its own.
    return next((name for name in ("build", "heroku-postbuild") if manifest.script(name)), "")


def managers_called(manifest: PackageJson) -> tuple[str, ...]:
    """Returns the package managers besides npm that the scripts of a build or a start run."""
    words = (word for command in manifest.commands for word in _MANAGERS.findall(command))
    return tuple(sorted({_NAMES.get(word, word) for word in words}))


def directories_entered(manifest: PackageJson) -> tuple[str, ...]:
    """Returns the directories whose packages these scripts run, and in which none installs."""
    found: dict[str, bool] = {}
    for command in manifest.commands:
        directory = ""
        for step in _LIST.split(command):
            entered = _CD.match(step)
            if entered is not None:
                directory = posixpath.normpath(posixpath.join(directory, entered[1]))
            elif directory or _CALLS.search(step) is not None:
                option = _IN.search(step)
                at = posixpath.normpath(posixpath.join(directory, option[1] if option else ""))
                found[at] = found.get(at, False) or _INSTALLED.search(step) is not None
    return tuple(at for at, installs in found.items() if not installs and at[0] not in "./")


_CD = re.compile(r"[\s({]*cd[ \t]+[\"']?([\w./-]{1,100})[\"']?\s*\Z")
_IN = re.compile(r"[ \t](?:--(?:prefix|cwd|dir)[ \t=]+|-C[ \t]+)[\"']?([\w./-]{1,100})")
_CALLS = re.compile(r"(?:^|[\s({\"'])(?:npm|yarn|pnpm|bun)(?=\s|\Z)")
_INSTALLED = re.compile(r"[ \t](?:install|ci|i)(?=[\s)\"']|\Z)|(?:^|[\s(])yarn[\s)]*\Z")


def builds_directory(manifest: PackageJson, name: str) -> bool:
    """Whether a script that a build or a start runs builds what is in a directory."""
    place = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
    return any(place.search(it) and _BUILDS.search(it) for it in manifest.commands)


def builds_workspaces(manifest: PackageJson) -> bool:
    """Whether a script that a build or a start runs builds all workspaces."""
    return any(_BUILDS_ALL.search(it) for it in manifest.commands)


_BUILDS_ALL = re.compile(
    r"\b(?:turbo|lerna|wsrun|nx[ \t]+run-many|workspaces[ \t]+(?:run|foreach))\b"
    r"|[ \t](?:-r|--recursive|-ws|--workspaces|--filter[= \t]+['\"]?\*['\"]?)[ \t]"
)


_BUILDS = re.compile(
    r"\b(?:build|bundle|compile|export|generate|parcel|prod|rollup|vite|webpack)\b"
)


def tools_called(manifest: PackageJson) -> tuple[str, ...]:
    """Returns the packages whose programs these scripts run, of those that many have globally."""
    parts = (part for command in manifest.commands for part in _LIST.split(command))
    bare = [(part.strip(), _BEFORE.sub("", part.strip(), count=1)) for part in parts]
    words = {first_word(command) for _, command in bare}
    words |= {"cross-env" for part, _ in bare if _CROSS_ENV.match(part)}
    return tuple(sorted({_TOOLS[word] for word in words if word in _TOOLS}))


_LIST = re.compile(r"&&|\|\||[;|]")
_CROSS_ENV = re.compile(r"(?:npx[ \t]+)?cross-env(?:-shell)?[ \t]")
_SAME = PACKAGES["tools_same"]["names"].split()
_TOOLS = by_word(PACKAGES["tools"]) | dict(zip(_SAME, _SAME, strict=True))
_NAMES = {"pnpx": "pnpm", "yarnpkg": "yarn", "bunx": "bun"}


def is_development_server(manifest: PackageJson) -> bool:
    """Whether the start script is for development only."""
    return is_for_development(command_of(manifest, "start"))


def is_for_development(command: str) -> bool:
    """Whether a command, from its program on, is a development server."""
    return _DEV_SERVER.match(command) is not None


def _program(command: str) -> str:
    """Returns the last command of a list, which keeps running, from its program on."""
    return _BEFORE.sub("", command.rpartition("&&")[2].strip(), count=1)


def reloads_pages(command: str) -> bool:
    """Whether a command serves files for development, and reloads pages on changes."""
    return _RELOADS.match(command) is not None

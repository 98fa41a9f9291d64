"""package.json's scripts: which commands they run, and which are for development only."""

import re

from moorage.planning.explicit import COMMAND_LIMIT
from moorage.planning.node.package_json import PackageJson
from moorage.planning.reading.shell import first_word

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
_RUN = (
    *("preinstall", "install", "postinstall", "prepare", "build", "heroku-postbuild"),
    *("start", "start:prod"),
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
    if not manifest.script("build") and _DOCUMENTS.match(command_of(manifest, documents)):
        return documents
    # heroku-postbuild often builds a page in a directory of its own.
    return next((name for name in ("build", "heroku-postbuild") if manifest.script(name)), "")


def managers_called(manifest: PackageJson) -> tuple[str, ...]:
    """Returns the package managers besides npm that the scripts of a build or a start run."""
    words = (word for command in _commands(manifest) for word in _MANAGERS.findall(command))
    return tuple(sorted({_NAMES.get(word, word) for word in words}))


def tools_called(manifest: PackageJson) -> tuple[str, ...]:
    """Returns the packages whose programs these scripts run, of those that many have globally."""
    parts = (part for command in _commands(manifest) for part in _LIST.split(command))
    bare = [(part.strip(), _BEFORE.sub("", part.strip(), count=1)) for part in parts]
    words = {first_word(command) for _, command in bare}
    words |= {"cross-env" for part, _ in bare if _CROSS_ENV.match(part)}
    return tuple(sorted({_TOOLS[word] for word in words if word in _TOOLS}))


def _commands(manifest: PackageJson) -> list[str]:
    """Returns the scripts that a build or a start runs, those that they run by name among them."""
    left = [name for base in _RUN for name in (f"pre{base}", base, f"post{base}")]
    found: dict[str, str] = {}
    while left:
        name = left.pop()
        command = manifest.script(name)
        if name not in found and command and len(command) <= COMMAND_LIMIT:
            found[name] = command
            left += [word for word in re.findall(r"[\w:./@-]+", command) if manifest.script(word)]
    return list(found.values())


_LIST = re.compile(r"&&|\|\||[;|]")
_CROSS_ENV = re.compile(r"(?:npx[ \t]+)?cross-env(?:-shell)?[ \t]")
_TOOLS = {
    **{name: name for name in ("concurrently", "copyfiles", "env-cmd", "esbuild", "http-server")},
    **{name: name for name in ("json-server", "knex", "npm-run-all", "prisma", "rimraf", "serve")},
    **{name: name for name in ("shx", "ts-node", "tsup", "tsx", "cross-env", "drizzle-kit")},
    "dotenv": "dotenv-cli",
    "dotenvx": "@dotenvx/dotenvx",
    "pm2-runtime": "pm2",
    "run-p": "npm-run-all",
    "run-s": "npm-run-all",
    "sequelize": "sequelize-cli",
    "tsc": "typescript",
}
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

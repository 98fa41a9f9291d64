"""Finds the server among the commands that a script starts beside each other.

In development a page's own server and compilers that watch files run beside it; here the page is
built, and the server is started alone.
"""

import posixpath
import re
from shlex import split
from typing import NamedTuple

from moorage.planning.node.package_json import PackageJson, package_json
from moorage.planning.node.scripts import command_of, is_for_development
from moorage.planning.reading.folder import Folder

_VALUED = frozenset(
    (
        *("-n", "--names", "-c", "--prefix-colors", "-p", "--prefix", "-l", "--prefix-length"),
        *("-m", "--max-processes", "-s", "--success", "--restart-tries", "--restart-after"),
        *("-t", "--timestamp-format", "--hide", "--name-separator", "--kill-signal"),
        *("--default-input-target", "-i", "--teardown"),
    )
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

"""Removes watchers, which restart an app when its files change, from scripts.

Here files don't change, and a watcher would not restart an app that ended by itself.
"""

import re
from shlex import join, split

from moorage.planning.node.package_json import PackageJson
from moorage.planning.node.scripts import command_of
from moorage.planning.reading.shell import first_word

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

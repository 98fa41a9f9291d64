"""Versions that an app asks for, where they are written, and the tool chosen for them."""

import re
from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning.reading import semver
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import Range, Version
from moorage.planning.toolbox import Tool, Toolbox

_TEXT_LIMIT = 64  # characters of a version in a sentence
_FILE_LIMIT = 4096  # bytes


class Wanted(NamedTuple):
    """The versions of a program that are acceptable."""

    text: str  # as it is written
    source: str  # the file or the setting that asks for them
    range: Range
    is_strict: bool = True  # else the nearest is accepted, as for a version manager's file

    def __str__(self) -> str:
        return f"{self.source} asks for {self.text[:_TEXT_LIMIT]}"


class Found(NamedTuple):
    """The tool chosen, and a sentence that says why, or ""."""

    tool: Tool
    because: str = ""


def pinned(folder: Folder, file: str) -> str:
    """Returns the version in a file of one line; "" without the file."""
    if not folder.has(file):
        return ""
    lines = folder.data(file, limit=_FILE_LIMIT).decode(errors="replace").splitlines()
    said = (line.split("#")[0].strip() for line in lines)
    return next((line for line in said if line), "")


def pinned_tool(folder: Folder, *names: str) -> tuple[str, str]:
    """Returns a program's version in .tool-versions or mise.toml, and which file; "" without."""
    either = "|".join(names)
    for file, pattern in (
        (".tool-versions", rf"^(?:{either})[ \t]+([^\s#]{{1,40}})"),
        ("mise.toml", rf"^['\"]?(?:{either})['\"]?[ \t]*=[ \t]*['\"]([^'\"\n]{{1,40}})['\"]"),
        (".mise.toml", rf"^['\"]?(?:{either})['\"]?[ \t]*=[ \t]*['\"]([^'\"\n]{{1,40}})['\"]"),
    ):
        text = folder.data(file, limit=_FILE_LIMIT) if folder.has(file) else b""
        match = re.search(pattern, text.decode(errors="replace"), re.MULTILINE)
        if match is not None:
            return match[1], file
    return "", ""


def wanted_from(text: str, source: str, *, is_strict: bool = True) -> Wanted | None:
    """Reads a range of npm's grammar; None when it isn't one."""
    found = semver.version_range(text) if text else None
    return Wanted(text, source, found, is_strict) if found is not None else None


def find_tool(
    toolbox: Toolbox, program: str, wanted: Wanted | None, *, also: Range = semver.ANY
) -> Found:
    """Returns a tool that fits what is wanted, and what the rest of the app needs (`also`).

    Raises RuntimeUnsupported, naming the source, when none is available.
    """
    both = _Both(wanted.range if wanted else semver.ANY, also)
    tool = _choose(toolbox, program, both)
    if tool is not None:
        return Found(tool, f"{wanted}: {tool}" if wanted else "")
    if wanted is not None and not wanted.is_strict:
        tool = _nearest(toolbox, program, wanted.range.lowest, also)
        if tool is not None:
            return Found(tool, f"{wanted}, which is not to be had here: the nearest is {tool}")
    field = wanted.source if wanted else "upload"
    asked = (
        f"{program} {wanted.text[:_TEXT_LIMIT]} is asked for" if wanted else f"{program} is needed"
    )
    if not toolbox.has(program):
        said = f"{asked}, but this gateway has no {program}. {toolbox.otherwise}"
        raise RuntimeUnsupported(field, said)
    offer = toolbox.offer(program, near=wanted.range.lowest if wanted else None)
    said = f"{asked}, but this gateway has {program} {offer}: ask for one that it has"
    raise RuntimeUnsupported(field, said)


class _Both(NamedTuple):
    one: Range
    other: Range

    def allows(self, version: Version) -> bool:
        return self.one.allows(version) and self.other.allows(version)


def _choose(toolbox: Toolbox, program: str, both: _Both) -> Tool | None:
    return toolbox.choose(program, both, preferred=is_kept_long if program == "node" else None)


def is_kept_long(version: Version) -> bool:
    """Whether it is an even major of Node, which is maintained for years (release schedule)."""
    return version.major % 2 == 0


def _nearest(toolbox: Toolbox, program: str, to: Version, also: Range) -> Tool | None:
    """Returns the tool of the closest version: of the same major first, then later ones first."""
    tools = [tool for tool in toolbox.tools(program) if also.allows(tool.version)]
    return min(tools, key=lambda tool: _distance(tool.version, to), default=None)


def _distance(version: Version, to: Version) -> tuple[int, int, int, bool]:
    return (
        abs(version.major - to.major),
        abs(version.minor - to.minor),
        abs(version.patch - to.patch),
        version < to,
    )

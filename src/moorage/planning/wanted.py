"""A version that somebody asks for, where it is written, and the tool that answers it."""

from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning import semver
from moorage.planning.folder import Folder
from moorage.planning.semver import Range, Version
from moorage.planning.toolbox import Tool, Toolbox

_TEXT_LIMIT = 64  # characters of a version that are repeated
_FILE_LIMIT = 4096  # bytes


class Wanted(NamedTuple):
    """Versions of a program that will do."""

    text: str  # as it is written
    source: str  # the file or the setting that says so
    range: Range
    is_strict: bool = True  # else the nearest will do, as for a file that sets up a workplace

    def __str__(self) -> str:
        return f"{self.source} asks for {self.text[:_TEXT_LIMIT]}"


class Found(NamedTuple):
    """The tool chosen, and the sentence that says why, if there is something to say."""

    tool: Tool
    because: str = ""


def pinned(folder: Folder, file: str) -> str:
    """The version that a file of one line names; "" without the file."""
    if not folder.has(file):
        return ""
    lines = folder.data(file, limit=_FILE_LIMIT).decode(errors="replace").splitlines()
    said = (line.split("#")[0].strip() for line in lines)
    return next((line for line in said if line), "")


def wanted_from(text: str, source: str, *, is_strict: bool = True) -> Wanted | None:
    """What a range of npm's grammar asks for; None when it isn't one."""
    found = semver.version_range(text) if text else None
    return Wanted(text, source, found, is_strict) if found is not None else None


def find_tool(
    toolbox: Toolbox, program: str, wanted: Wanted | None, *, also: Range = semver.ANY
) -> Found:
    """The tool that does what is wanted, and what the rest of the app needs (`also`).

    Raises RuntimeUnsupported, naming where it is written, when none can be had.
    """
    both = _Both(wanted.range if wanted else semver.ANY, also)
    tool = _choose(toolbox, program, both)
    if tool is not None:
        return Found(tool, f"{wanted}: {tool}" if wanted else "")
    if wanted is not None and not wanted.is_strict:
        tool = _nearest(toolbox, program, wanted.range.least, also)
        if tool is not None:
            return Found(tool, f"{wanted}, which is not to be had here: the nearest is {tool}")
    field = wanted.source if wanted else "upload"
    asked = (
        f"{program} {wanted.text[:_TEXT_LIMIT]} is asked for" if wanted else f"{program} is needed"
    )
    offer = f"{program} {toolbox.offer(program)}" if toolbox.has(program) else f"no {program}"
    raise RuntimeUnsupported(field, f"{asked}, but this gateway has {offer}")


class _Both(NamedTuple):
    one: Range
    other: Range

    def allows(self, version: Version) -> bool:
        return self.one.allows(version) and self.other.allows(version)


def _choose(toolbox: Toolbox, program: str, both: _Both) -> Tool | None:
    return toolbox.choose(program, both, preferred=is_kept_long if program == "node" else None)


def is_kept_long(version: Version) -> bool:
    """Node's even majors are maintained for years (its release schedule)."""
    return version.major % 2 == 0


def _nearest(toolbox: Toolbox, program: str, to: Version, also: Range) -> Tool | None:
    """The tool whose version is closest, of the same major first, later ones before earlier."""
    tools = [tool for tool in toolbox.tools(program) if also.allows(tool.version)]
    return min(tools, key=lambda tool: _distance(tool.version, to), default=None)


def _distance(version: Version, to: Version) -> tuple[int, int, int, bool]:
    return (
        abs(version.major - to.major),
        abs(version.minor - to.minor),
        abs(version.patch - to.patch),
        version < to,
    )

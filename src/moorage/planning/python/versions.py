"""Chooses the Python that an app runs on."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from moorage.errors import RuntimeUnsupported
from moorage.planning.explicit import Asked
from moorage.planning.python.wheels import Wheels
from moorage.planning.reading import semver
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import Version
from moorage.planning.toolbox import Allows, Tool, Toolbox
from moorage.planning.wanted import pinned, pinned_tool

SPECIFIER_LIMIT = 256  # characters

_NUMBERS = re.compile(r"(?:python-|cpython-|==?|v)?(\d)(?:\.(\d{1,3}))?(?:\.(\d{1,3}))?(?:\.\*)?\Z")


class _Wanted(NamedTuple):
    text: str
    source: str
    specifiers: SpecifierSet
    is_strict: bool = True

    def allows(self, version: Version) -> bool:
        return self.specifiers.contains(str(version))


class Found(NamedTuple):
    """The Python chosen: its command, which is on the PATH, and why.

    `older` is the machine's next older one, where the app asks for none.
    """

    tool: Tool
    because: str
    older: str = ""

    @property
    def command(self) -> str:
        """The interpreter's name, such as python3.13."""
        return f"python{self.tool.version.major}.{self.tool.version.minor}"


def python_for(
    folder: Folder,
    asked: Asked,
    toolbox: Toolbox,
    *,
    document: Mapping[str, object],
    fitting: Wheels,
) -> Found:
    """Returns the Python for the app; `document` is its pyproject.toml, or Pipfile.

    `fitting` are those that its packages have wheels for.

    Raises RuntimeUnsupported, naming the source, when the wanted version is not available.
    """
    required = _required(document)
    wanted = _asked(asked) or _pinned(folder) or required
    tool, wheel = _newest(toolbox, wanted, fitting)
    if tool is not None:
        asks = f"{wanted.source} asks for Python {wanted.text}" if wanted else ""
        said = "; ".join(part for part in (asks, wheel) if part)
        older = _older(toolbox, tool) if wanted is None else ""
        return Found(tool, f"{said}: {tool}" if said else "", older)
    if wanted is None:
        raise RuntimeUnsupported("upload", "this gateway has no Python")
    nearest = None if wanted.is_strict else _nearest(toolbox, wanted, required, fitting)
    if nearest is None:
        raise RuntimeUnsupported(
            wanted.source,
            f"Python {wanted.text} is asked for, but this gateway has {toolbox.offer('python')}",
        )
    return Found(
        nearest,
        f"{wanted.source} asks for Python {wanted.text}, which is not to be had here: "
        f"the nearest is {nearest}",
    )


def _older(toolbox: Toolbox, chosen: Tool) -> str:
    own = (tool.version for tool in toolbox.tools("python") if tool.is_hosts)
    older = [version for version in own if version[:2] < chosen.version[:2]]
    return str(older[-1]) if older else ""


def _asked(asked: Asked) -> _Wanted | None:
    if asked.program != "python" or asked.version is None:
        return None
    return _from_numbers(asked.version.text, asked.version.source, is_strict=True)


def _pinned(folder: Folder) -> _Wanted | None:
    for place in (folder, *folder.parents()):
        for file, is_strict in ((".python-version", False), ("runtime.txt", True)):
            found = _from_numbers(pinned(place, file), place.path(file), is_strict=is_strict)
            if found is not None:
                return found
        text, file = pinned_tool(place, "python")
        found = _from_numbers(text, place.path(file), is_strict=False)
        if found is not None:
            return found
    return None


def _from_numbers(text: str, source: str, *, is_strict: bool) -> _Wanted | None:
    """Returns a version with one, two or three parts. Any newer third part is accepted."""
    match = _NUMBERS.match(text.strip())
    if match is None:
        return None
    minor = f".{match[2]}" if match[2] else ""
    return _Wanted(
        text.strip(), source, SpecifierSet(f"=={match[1]}{minor}.*"), is_strict=is_strict
    )


def _required(document: Mapping[str, object]) -> _Wanted | None:
    """Returns pyproject's requires-python, Poetry's `python`, or the Pipfile's version."""
    project, pipenv = document.get("project"), document.get("requires")
    if isinstance(project, dict):
        found = _specifiers(project.get("requires-python"), "pyproject.toml's requires-python")
        if found is not None:
            return found
    poetry = _table(_table(document.get("tool")).get("poetry"))
    written = _table(poetry.get("dependencies")).get("python")
    if isinstance(written, str):
        return _caret(written, "pyproject.toml's python dependency")
    if isinstance(pipenv, dict):
        text = pipenv.get("python_full_version", pipenv.get("python_version"))
        if isinstance(text, str):
            return _from_numbers(text, "the Pipfile's [requires]", is_strict=True)
    return None


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _specifiers(text: object, source: str) -> _Wanted | None:
    if not isinstance(text, str) or len(text) > SPECIFIER_LIMIT:
        return None
    try:
        return _Wanted(text, source, SpecifierSet(text))
    except InvalidSpecifier:
        return None


def _caret(text: str, source: str) -> _Wanted | None:
    """Reads Poetry's `^3.11` and `~3.11`, which PEP 440 lacks."""
    plain = _specifiers(text, source)
    if plain is not None:
        return plain
    found = semver.version_range(text)
    if found is None or len(found.spans) != 1:
        return None
    span = found.spans[0]
    below = f",<{span.below}" if span.below else ""
    return _Wanted(text, source, SpecifierSet(f">={span.lowest}{below}"))


class _Both(NamedTuple):
    one: Allows
    other: Allows

    def allows(self, version: Version) -> bool:
        return self.one.allows(version) and self.other.allows(version)


def _newest(toolbox: Toolbox, wanted: _Wanted | None, having: Wheels) -> tuple[Tool | None, str]:
    """Returns the newest that is wanted; an older one if the packages have wheels for that alone.

    The sentence says which package decided.
    """
    newest = toolbox.choose("python", wanted or semver.ANY)
    fitting = toolbox.choose("python", _Both(wanted or semver.ANY, having))
    lacking = "" if newest is None else having.lacking(newest.version)
    if newest is None or not lacking:
        return newest, ""
    if fitting is None:
        return newest, f"{lacking} {newest}, and no other Python that will do is here"
    return fitting, f"{lacking} {newest}"


def _nearest(
    toolbox: Toolbox, wanted: _Wanted, required: _Wanted | None, having: Wheels
) -> Tool | None:
    """Returns the allowed Python nearest to the pinned one, of those that the packages run on.

    Later versions are preferred.
    """
    match = _NUMBERS.match(wanted.text)
    if match is None:
        return None
    major, minor = int(match[1]), int(match[2] or 0)
    tools = [t for t in toolbox.tools("python") if required is None or required.allows(t.version)]
    tools = [tool for tool in tools if tool.version.major == major]
    return min(
        [tool for tool in tools if having.allows(tool.version)] or tools,
        key=lambda t: (t.version.minor < minor, abs(t.version.minor - minor), -t.version.patch),
        default=None,
    )

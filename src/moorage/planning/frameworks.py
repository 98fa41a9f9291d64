"""The frameworks that planning knows, and what their builds produce: `frameworks.toml`."""

from typing import NamedTuple

from moorage.planning.plan import Stack
from moorage.planning.reading.formats import by_word, table


class Framework(NamedTuple):
    """A framework: its stack, and for a site generator what its row of the table says."""

    name: str
    stack: Stack
    package: str = ""  # the npm package that identifies it
    output: str = ""  # the directory of files to serve that a build makes; "" for a server
    fallback: bool = False  # unknown paths get index.html, which routes in the browser
    config: tuple[str, ...] = ()
    setting: str = ""
    base: str = ""


_TABLE = table("frameworks")
SITES = tuple(
    Framework(**{**row, "stack": Stack.NODE, "config": tuple(row.get("config", ()))})
    for row in _TABLE["site"]
)
"""In the order of detection: a framework comes before those that it builds on."""

_NAMED = {site.name: site for site in SITES} | {
    name: Framework(name, Stack(stack)) for name, stack in by_word(_TABLE["servers"]).items()
}
_ALIASES = by_word(_TABLE["aliases"])


def framework_named(name: str) -> Framework | None:
    """Returns the framework of that lower-case name; None when it isn't known."""
    return _NAMED.get(_ALIASES.get(name, name))

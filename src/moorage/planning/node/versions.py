"""Which Node an app runs on."""

from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning.explicit import Asked
from moorage.planning.node.engines import Met, Need
from moorage.planning.node.package_json import PackageJson
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import ANY, Range, Version, version_range
from moorage.planning.toolbox import Tool, Toolbox
from moorage.planning.wanted import (
    Found,
    Wanted,
    find_tool,
    is_kept_long,
    pinned,
    pinned_tool,
    wanted_from,
)

PIN_FILES = (".nvmrc", ".node-version")
# Node's long-term releases by their names in nvm (nodejs.org, release schedule).
_NAMED = {
    "argon": "4",
    "boron": "6",
    "carbon": "8",
    "dubnium": "10",
    "erbium": "12",
    "fermium": "14",
    "gallium": "16",
    "hydrogen": "18",
    "iron": "20",
    "jod": "22",
    "krypton": "24",
}


_STRIPS = ">=22.18.0 <23 || >=23.6.0"
"""The Nodes that run TypeScript by removing its types (Node's documentation, Modules)."""


def strips_types(version: Version) -> bool:
    """Whether this Node runs TypeScript by itself."""
    found = version_range(_STRIPS)
    return found is not None and found.allows(version)


def typescript_need() -> Need:
    """Returns what a script that gives Node a TypeScript file needs."""
    return Need("its start script", _STRIPS, version_range(_STRIPS) or ANY)


def node_for(
    folder: Folder,
    manifest: PackageJson | None,
    asked: Asked,
    toolbox: Toolbox,
    *,
    also: Range = ANY,
    needs: tuple[Need, ...] = (),
) -> Found:
    """Returns the Node for the app. `also` is what its package manager needs.

    `needs` of packages that refuse any other go before files that ask for one, those of others
    after them. Raises RuntimeUnsupported, also where a package refuses what settings.runtime names.
    """
    wanted = asked.version if asked.program == "node" else None
    is_given = wanted is not None
    wanted = wanted or _pinned(folder)
    if wanted is None and manifest is not None:
        wanted = wanted_from(manifest.engine("node"), "package.json's engines.node")
    floors = tuple(need for need in needs if need.is_floor)
    if wanted is not None and (unmet := _unmet(toolbox, floors, wanted, also)):
        if is_given:
            problem = f"{unmet}: leave {wanted.source} out, and a Node that will do is taken"
            raise RuntimeUnsupported(wanted.source, problem)
        return _found(toolbox, floors, also, f"{wanted}, but {unmet}")
    found = find_tool(toolbox, "node", wanted, also=also)
    unmet = next((need for need in needs if not need.range.allows(found.tool.version)), None)
    if unmet is None:
        return found
    if wanted is not None:
        both = _choose(toolbox, Met(needs, also), wanted)
        if both is not None:
            return Found(both, f"{wanted}, and {unmet}: {both}")
        within = _choose(toolbox, Met(floors, also), wanted) or found.tool
        return Found(within, found.because if within == found.tool else f"{wanted}: {within}")
    tool = _choose(toolbox, Met(needs, also))
    if tool is None and not floors:
        return Found(found.tool, f"{unmet}, which is not to be had here: {found.tool}")
    return _found(toolbox, needs if tool else floors, also, str(unmet))


class _Within(NamedTuple):
    """The Nodes that satisfy packages and a request."""

    met: Met
    wanted: Wanted

    def allows(self, version: Version) -> bool:
        return self.wanted.range.allows(version) and self.met.allows(version)


def _choose(toolbox: Toolbox, met: Met, wanted: Wanted | None = None) -> Tool | None:
    allowed = met if wanted is None else _Within(met, wanted)
    return toolbox.choose("node", allowed, preferred=is_kept_long)


def _unmet(toolbox: Toolbox, floors: tuple[Need, ...], wanted: Wanted, also: Range) -> Need | None:
    """Returns a package that refuses every available Node that is as wanted, or the nearest."""
    if not floors or _choose(toolbox, Met(floors, also), wanted):
        return None
    tools = [t.version for t in toolbox.tools("node") if wanted.range.allows(t.version)]
    asked = tools or [wanted.range.lowest]
    return next((it for it in floors if not any(it.range.allows(v) for v in asked)), None)


def _found(toolbox: Toolbox, needs: tuple[Need, ...], also: Range, because: str) -> Found:
    """Returns a Node that satisfies the packages. Raises RuntimeUnsupported if none does."""
    tool = _choose(toolbox, Met(needs, also))
    if tool is None:
        offer = f"node {toolbox.offer('node')}"
        raise RuntimeUnsupported("package.json", f"{because}, but this gateway has {offer}")
    return Found(tool, f"{because}: {tool}")


def npm_for(node: Tool, toolbox: Toolbox) -> Tool:
    """Returns an npm for this Node, preferably the machine's. Raises RuntimeUnsupported."""
    fitting = next((r for min_major, r in _NPM_BY_NODE if node.version.major >= min_major), "6")
    fits = version_range(fitting)
    own = toolbox.choose("npm", fits or ANY)
    if own is not None:
        return own
    return find_tool(toolbox, "npm", None).tool


# From each npm's own `engines`.
_NPM_BY_NODE = ((22, ">=10 <12"), (20, ">=10 <12"), (18, "9 || 10"), (16, "8"), (14, "6"))


def _pinned(folder: Folder) -> Wanted | None:
    """Returns the version in the nearest version manager's file, here or in a parent folder."""
    for place in (folder, *folder.parents()):
        for file in PIN_FILES:
            text = pinned(place, file)
            name = text.lower().removeprefix("lts/")
            wanted = wanted_from(_NAMED.get(name, name), place.path(file), is_strict=False)
            if wanted is not None:
                return wanted
        text, file = pinned_tool(place, "nodejs", "node")
        wanted = wanted_from(text.lower().removeprefix("lts/"), place.path(file), is_strict=False)
        if wanted is not None:
            return wanted
    return None

"""Which Node an app runs on."""

from moorage.planning.explicit import Asked
from moorage.planning.node.engines import Met, Need
from moorage.planning.node.package_json import PackageJson
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import ANY, Range, version_range
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

    `needs`, of its packages, count if the app asks for nothing itself. Raises RuntimeUnsupported.
    """
    wanted = asked.version if asked.program == "node" else None
    wanted = wanted or _pinned(folder)
    if wanted is None and manifest is not None:
        wanted = wanted_from(manifest.engine("node"), "package.json's engines.node")
    found = find_tool(toolbox, "node", wanted, also=also)
    unmet = [need for need in needs if not need.range.allows(found.tool.version)]
    if wanted is not None or not unmet:
        return found
    tool = toolbox.choose("node", Met(needs, also), preferred=is_kept_long)
    if tool is None:
        return Found(found.tool, f"{unmet[0]}, which is not to be had here: {found.tool}")
    return Found(tool, f"{unmet[0]}: {tool}")


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

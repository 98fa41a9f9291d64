"""The programs that a Dockerfile's stages need, in the versions that the machine has."""

from moorage.errors import RuntimeUnsupported
from moorage.planning.dockerfile.stages import Stage
from moorage.planning.node.package_json import package_json
from moorage.planning.node.package_managers import Manager, manager_for, manager_named
from moorage.planning.node.versions import npm_for
from moorage.planning.plan import Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Tool, Toolbox
from moorage.planning.wanted import find_tool

Environment = dict[str, str]
_GO = {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}


def programs(
    stages: list[Stage], folder: Folder, toolbox: Toolbox
) -> tuple[tuple[Tool, ...], Environment]:
    """Returns the programs, and the environment that their installs need.

    Raises RuntimeUnsupported for what the machine lacks, or needs in two versions.
    """
    found: dict[str, Tool] = {}
    environment: Environment = {}
    for stage in stages:
        tool, stack = stage.image.tool, stage.image.stack
        if tool is not None and found.setdefault(tool.program, tool) != tool:
            raise RuntimeUnsupported(
                "Dockerfile", f"its stages need two versions: {found[tool.program]}, and {tool}"
            )
        if stack is Stack.GO:
            environment |= _GO
        if stack is Stack.NODE and tool is not None and tool.program == "node":
            found.setdefault("npm", npm_for(tool, toolbox))
            environment |= manager_named("npm", "", folder, toolbox).commands.environment
        for name, version in stage.scope.managers.items():
            manager = _manager(name, version, folder, toolbox)
            environment |= manager.commands.environment
            if manager.tool is not None:
                found[name] = manager.tool
        _check_present(stage, toolbox)
    return tuple(found.values()), environment


def _manager(name: str, version: str, folder: Folder, toolbox: Toolbox) -> Manager:
    """Returns pnpm or Yarn: the version that the Dockerfile names, else the one of the files."""
    manifest = package_json(folder)
    if not version and manifest is not None:
        chosen = manager_for(folder, manifest, toolbox)
        if chosen.name == name:
            return chosen
    return manager_named(name, version, folder, toolbox)


def _check_present(stage: Stage, toolbox: Toolbox) -> None:
    """Raises RuntimeUnsupported for a program that comes with no image and isn't here."""
    needed = sorted(stage.scope.programs & {"composer", "uv"})
    if stage.image.stack is Stack.STATIC:
        needed.append("caddy")
    if stage.image.stack is Stack.RUBY and any("bundle " in line for line in stage.script):
        needed.append("bundler")
    if stage.scope.is_python:
        needed.append("uv")
    for program in needed:
        find_tool(toolbox, program, None)

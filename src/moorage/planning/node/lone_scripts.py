"""Plans programs for Node or Bun that no package.json starts, with the packages they import."""

import posixpath
from shlex import quote

from moorage.errors import PlanNotFound, RuntimeUnsupported
from moorage.planning.explicit import Asked, Found, find_tool
from moorage.planning.node.builds import implied_build
from moorage.planning.node.imports import Imports, absent_file, entry, imported, name_of
from moorage.planning.node.package_json import (
    IN_SRC,
    LISTENS,
    SCRIPT_FILES,
    TYPESCRIPT,
    TYPESCRIPT_FILES,
    PackageJson,
    build_script,
    server_file,
)
from moorage.planning.node.package_managers import (
    bun_manager,
    node_for,
    npm_for,
    npm_manager,
    strips_types,
)
from moorage.planning.node.servers import site
from moorage.planning.node.starts import Package, typescript
from moorage.planning.plan import Recipe, Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.static import serve
from moorage.planning.toolbox import Tool, Toolbox

_ELEVENTY = (".eleventy.js", *(f"eleventy.config.{end}" for end in ("js", "mjs", "cjs")))
_NAMED_LIMIT = 12  # packages in a sentence
_SOURCE_LIMIT = 262_144  # bytes


def script_alone(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """Plans `node server.js` for files without a package.json, with the packages they import."""
    script = _lone_script(folder, asked)
    if script is None:
        return None
    found = imported(folder, script)
    because: list[str] = []
    if asked.program == "bun" or (not asked.program and (found.uses_bun or found.is_fetch)):
        runtime = _bun_for(folder, script, found, asked, toolbox)
        manager, package = bun_manager(folder, asked.version, toolbox), "bun"
        tools: tuple[Tool, ...] = (runtime.tool,)
        run = f"bun {quote(script)}"
    else:
        runtime = node_for(folder, None, asked, toolbox)
        manager, package = npm_manager(folder), "node"
        tools = (runtime.tool,)
        run = f"node {quote(script)}"
    lone = Package(
        *(folder, PackageJson(), asked, False, "", package, (), because),
        strips_types=strips_types(runtime.tool.version),
        adds=asked.install is None,
    )
    if package == "node" and script.endswith("ts") and asked.run is None:
        given = typescript(lone, script)
        if given is None:
            return None
        run = given
    if asked.install is None and found.unknown:
        raise PlanNotFound(
            f"{folder.path(script)} imports {found.unknown}, which is not here and may be "
            "its owner's alone: add a package.json that has it among its dependencies."
        )
    packages = (*found.packages, *(("tsx@latest",) if "--import tsx" in run else ()))
    if packages and package == "node":
        tools = (*tools, npm_for(runtime.tool, toolbox))
    named = ", ".join(map(name_of, packages[:_NAMED_LIMIT]))
    what = f"installed with {named}, which it needs" if packages else "nothing to install"
    there = f"{script} is there, without a package.json: {what}"
    said = (there, *because, runtime.because)
    install = f"{manager.commands.add} {' '.join(map(quote, packages))}" if packages else None
    if "tsx@latest" in packages and found.is_module:
        install = f"{install} && npm pkg set type=module"  # else tsx takes no await at the top
    return Recipe(
        Stack.NODE,
        install if asked.install is None else asked.install,
        asked.build,
        asked.run or run,
        tuple(sentence for sentence in said if sentence),
        build_env=manager.commands.environment if install else (),
        tools=tools,
        risks=absent_file(found.absent),
    )


def site_alone(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """Plans a site of Eleventy, which has a configuration and no package.json."""
    config = folder.first(*_ELEVENTY)
    found = site(folder, PackageJson(dependencies={"@11ty/eleventy": ""}), None)
    if config is None or found is None or asked.run is not None:
        return None
    runtime, manager = node_for(folder, None, asked, toolbox), npm_manager(folder)
    needed = imported(folder, config)
    packages = [it for it in needed.packages if name_of(it) != "@11ty/eleventy"]
    install = f"{manager.commands.add} {' '.join(map(quote, ('@11ty/eleventy@latest', *packages)))}"
    if needed.is_module:
        install = f"{install} && npm pkg set type=module"
    because = (f"{config} is there, without a package.json: Eleventy is installed", runtime.because)
    return Recipe(
        Stack.NODE,
        install if asked.install is None else asked.install,
        "npx eleventy" if asked.build is None else asked.build,
        serve(asked.build_dir or found.output, fallback=False),
        tuple(sentence for sentence in because if sentence),
        build_env=manager.commands.environment,
        tools=(runtime.tool, npm_for(runtime.tool, toolbox)),
    )


def _lone_script(folder: Folder, asked: Asked) -> str | None:
    """Returns the file to run where no package.json names one."""
    if asked.run is not None and (given := entry(folder, asked.run)):
        return given
    script = server_file(folder, SCRIPT_FILES)
    if script is not None:
        return script
    if asked.program == "bun":
        return server_file(folder, TYPESCRIPT_FILES)
    # Files of other names may be another app's, or a page's.
    likely = (*IN_SRC, *TYPESCRIPT)
    alone = [name for name in folder.files() if name.endswith((".js", ".mjs", ".cjs", ".ts"))]
    names = (*likely, *(alone if len(alone) == 1 else ()))
    files = (name for name in names if folder.has(name) and not name.startswith("-"))
    return next((name for name in files if _answers(folder, name)), None)


def _answers(folder: Folder, name: str) -> bool:
    """Whether a file is a program that answers requests."""
    if name.endswith(".d.ts"):
        return False
    text = folder.data(name, limit=_SOURCE_LIMIT)
    return LISTENS.search(text) is not None or imported(folder, name).is_fetch


def _bun_for(folder: Folder, script: str, found: Imports, asked: Asked, toolbox: Toolbox) -> Found:
    """Returns the Bun that runs a program. Raises RuntimeUnsupported, naming the file."""
    if asked.program == "bun" or toolbox.has("bun"):
        return find_tool(toolbox, "bun", asked.version)
    why = "uses Bun" if found.uses_bun else "exports fetch and listens nowhere, as for Bun"
    raise RuntimeUnsupported(
        folder.path(script),
        f"it {why}, but this gateway has no bun: listen on PORT with node:http or a framework",
    )


def with_bun(folder: Folder, manifest: PackageJson, asked: Asked, toolbox: Toolbox) -> Asked:
    """Asks for Bun where a package without scripts is a program for it."""
    if (
        manifest.script("start")
        or build_script(manifest)
        or implied_build(folder, manifest) is not None
    ):
        return asked
    main = manifest.main if isinstance(manifest.main, str) else ""
    file = folder.first(posixpath.normpath(main), *TYPESCRIPT, *SCRIPT_FILES, *IN_SRC)
    found = imported(folder, file) if file else Imports()
    if not file or not (found.uses_bun or found.is_fetch):
        return asked
    _bun_for(folder, file, found, asked, toolbox)
    return asked._replace(program="bun")

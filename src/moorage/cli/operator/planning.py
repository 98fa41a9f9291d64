"""`moorage plan`: how a gateway on this machine would build and run a directory."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.flags import NO_FLAGS, AppFlags
from moorage.cli.screen import Screen
from moorage.cli.variables import VariableReader
from moorage.cli.wording import in_cli_words


def plan(
    directory: Path,
    /,
    *,
    app: AppFlags = NO_FLAGS,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show how a directory would be built and run, and why.

    It sees the files that `moorage deploy` would upload, and takes the same flags.

    Parameters
    ----------
    directory
        What would be deployed.
    json
        Print one JSON document.
    """
    from moorage.gateway.platform.toolchains import toolbox_here
    from moorage.planning.pages import left_out
    from moorage.planning.planner import make_plan
    from moorage.planning.static import said
    from moorage.records.deployment import said_left_out
    from moorage.sdk.archive import list_files
    from moorage.uploads.request import deploy_settings
    from moorage.uploads.tree import DirectoryTree

    screen = Screen(json=json)
    asked = app.settings(VariableReader(os.environ, sys.stdin.buffer))
    settings = deploy_settings(msgspec.to_builtins(asked))
    listing = list_files(directory)
    for warning in listing.warnings:
        screen.warn(warning)
    tree = DirectoryTree(directory, listing.sizes)
    made = make_plan(tree, settings, asyncio.run(toolbox_here()))
    for finding in left_out(tree, made):
        screen.warn(in_cli_words(said_left_out(finding)))
    screen.document(made)
    for reason in made.because:
        screen.result(f"- {in_cli_words(reason)}")
    used = {**made.host_tools, **made.toolchains}
    versions = ", ".join(f"{name} {version}" for name, version in used.items())
    screen.result(f"{'versions:':<10}{versions or '(any)'}")
    steps = {"install": made.install, "build": made.build, "start": said(made.start)}
    for step, command in steps.items():
        screen.result(f"{step + ':':<10}{command or '(nothing)'}")
    return Exit.OK

"""`moorage show`, `env`, `configure` and `restart`: how a project is run, and changing that."""

import asyncio
import os
import sys
from collections.abc import Iterable
from typing import Annotated

from cyclopts import Parameter
from msgspec import UNSET, UnsetType

from moorage.cli import following
from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.screen import Screen, with_nulls
from moorage.cli.variables import VariableReader
from moorage.cli.wallet.projects import find_project, status_text
from moorage.cli.wording import in_cli_words
from moorage.sdk.errors import ClientMisconfigured
from moorage.wire.deployments import DeploymentProgress
from moorage.wire.projects import ChangeBody, ProjectChanged, ProjectShown


def show(project: str, /, *, options: Options = DEFAULTS) -> int:
    """Show a project whole: what serves, its health path, the names of its variables.

    Parameters
    ----------
    project
        The project's name or id.
    """
    found = _shown(project, options)
    screen = Screen(json=options.json)
    screen.document(found)
    for line in project_lines(found):
        screen.result(line)
    for warning in found.warnings or []:
        screen.warn(in_cli_words(warning.message))
    return Exit.OK


def env(
    project: str,
    variables: tuple[str, ...] = (),
    /,
    *,
    unset: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    build: Annotated[bool, Parameter(negative=())] = False,
    follow: bool = True,
    options: Options = DEFAULTS,
) -> int:
    """List the names of a project's variables, or set some: `moorage env shop MODE=fast TOKEN=-`.

    The app is started again with them; the present one serves until that is healthy, and also if
    it is not. Values are never shown. Exits with 1 when it failed.

    Parameters
    ----------
    project
        The project's name or id.
    variables
        `NAME=VALUE`; for secrets, which shells keep in their history, `NAME=@FILE`, `NAME=-` (from
        standard input, both without the last line's end), or `NAME` (from your environment).
    unset
        Take this one away.
    build
        Those of builds instead, which the next upload sees.
    follow
        Wait until the change is served, or has failed.
    """
    if not variables and not unset:
        return _list_names(project, options)
    changes: dict[str, str | None] = dict.fromkeys(unset)
    changes |= VariableReader(os.environ, sys.stdin.buffer).read(variables)
    change = ChangeBody(build_vars=changes) if build else ChangeBody(run_envs=changes)
    return _change(project, change, options, follow=follow)


def configure(
    project: str,
    /,
    *,
    display_name: str | None = None,
    description: str | None = None,
    health_path: str | None = None,
    volume: Annotated[bool, Parameter(negative=())] = False,
    follow: bool = True,
    options: Options = DEFAULTS,
) -> int:
    """Change what a project is called, its health path, or give it a volume, without an upload.

    Where the app has to be started again, the present one serves until that is healthy, and also
    if it is not. Exits with 1 when it failed.

    Parameters
    ----------
    project
        The project's name or id.
    display_name
        A title for people.
    description
        What it is.
    health_path
        Path that must answer below 500 before a version is served; / is the usual one.
    volume
        Give it a /data that outlives its versions; it goes with the project alone.
    follow
        Wait until the change is served, or has failed.
    """
    change = ChangeBody(
        display_name=_unless_none(display_name),
        description=_unless_none(description),
        health_path=_unless_none(health_path),
        volume=volume or UNSET,
    )
    if change == ChangeBody():
        raise ClientMisconfigured(
            "say what to change: --display-name, --description, --health-path or --volume; "
            "`moorage env` sets variables"
        )
    return _change(project, change, options, follow=follow)


def restart(project: str, /, *, follow: bool = True, options: Options = DEFAULTS) -> int:
    """Start a project's app again, as it is; the present one serves until that is healthy.

    Parameters
    ----------
    project
        The project's name or id.
    follow
        Wait until it is served, or has failed.
    """
    return _change(project, ChangeBody(restart=True), options, follow=follow)


def pause(project: str, /, *, options: Options = DEFAULTS) -> int:
    """Stop a project's app: it burns nothing, and its address says that it is paused.

    Its files and data are kept as long as those of a project that is out of credits.

    Parameters
    ----------
    project
        The project's name or id.
    """
    return _change(project, ChangeBody(paused=True), options, follow=False)


def unpause(project: str, /, *, options: Options = DEFAULTS) -> int:
    """Start a project's app again that `moorage pause` stopped; it burns credits from then on.

    Parameters
    ----------
    project
        The project's name or id.
    """
    return _change(project, ChangeBody(paused=False), options, follow=False)


def project_lines(found: ProjectShown) -> Iterable[str]:
    """A project, for a person."""
    yield f"{found.name}: {found.status}" + (f" at {found.url}" if found.url else "")
    if found.blocked_reason:
        yield f"suspended:   by the operator: {found.blocked_reason}"
    elif found.suspended_because == "project_paused":
        yield "suspended:   you have paused it: `moorage unpause PROJECT` starts it again"
    elif found.suspended_because == "no_capacity":
        yield "suspended:   the gateway's disk is nearly full; it starts again when there is room"
    elif found.suspended_because == "out_of_credits":
        yield "suspended:   out of credits: `moorage topup AMOUNT` resumes it"
    yield f"id:          {found.id}"
    yield f"serves:      {found.serving_deployment_id or '-'}"
    if found.deployment_in_progress:
        yield f"under way:   {found.deployment_in_progress}"
    yield f"domains:     {', '.join(found.domains) or '-'}"
    yield f"health path: {found.health_path}"
    yield f"variables:   {', '.join(found.run_env_names) or '-'}"
    yield f"of builds:   {', '.join(found.build_var_names) or '-'}"
    yield f"burns:       ${found.burn_per_hour_usd:f} an hour"
    yield f"as it runs:  ${found.price_per_hour_usd:f} an hour"


def _unless_none(text: str | None) -> str | UnsetType:
    return UNSET if text is None else text


def _list_names(project: str, options: Options) -> int:
    found = _shown(project, options)
    screen = Screen(json=options.json)
    names = {"runEnvNames": found.run_env_names, "buildVarNames": found.build_var_names}
    screen.document(names)
    rows = [(name, "app") for name in found.run_env_names]
    rows += [(name, "build") for name in found.build_var_names]
    screen.table(("NAME", "SEEN BY"), rows)
    return Exit.OK


def _shown(project: str, options: Options) -> ProjectShown:
    connection = find_connection(options)

    async def ask() -> ProjectShown:
        async with connection.signed_client() as client:
            return await client.project(await find_project(client, project))

    return asyncio.run(ask())


def _change(project: str, change: ChangeBody, options: Options, *, follow: bool) -> int:
    screen, connection = Screen(json=options.json), find_connection(options)

    async def make() -> tuple[ProjectChanged, DeploymentProgress | None]:
        async with connection.signed_client() as client:
            changed = await client.change(await find_project(client, project), change)
            if not changed.deployment_id or not follow:
                return changed, None
            ids = changed.project_id, changed.deployment_id
            return changed, await following.follow(client, screen, *ids, copies=True)

    changed, status = asyncio.run(make())
    screen.document(with_nulls(changed) | ({"outcome": status} if status else {}))
    if status is None:
        screen.result(f"{project}: {in_cli_words(changed.message)}")
        return Exit.OK
    screen.result(status_text(project, status))
    return following.exit_of(status, followed=True)

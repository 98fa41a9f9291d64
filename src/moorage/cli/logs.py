"""`moorage logs`: what a build or an app wrote, page by page or live."""

import asyncio
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.projects import find_project
from moorage.cli.screen import Colour, Screen
from moorage.sdk.answers import LogLine
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientMisconfigured

_COLOURS = {"err": Colour.RED, "gateway": Colour.CYAN}


def logs(
    project: str,
    deployment: str | None = None,
    /,
    *,
    build: Annotated[bool, Parameter(negative=())] = False,
    follow: Annotated[bool, Parameter(alias="-f", negative=())] = False,
    tail: Annotated[int | None, Parameter(validator=Number(gte=1, lte=10_000))] = None,
    since: str | None = None,
    times: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULTS,
) -> int:
    """Show what your app wrote, or its build.

    What it wrote to stderr is red, what the gateway says cyan. With --follow, --json prints a
    document for each line.

    Parameters
    ----------
    project
        The project's name or id.
    deployment
        The deployment's id; the one that serves, or the newest for --build, if not given.
    build
        The build's log, not the app's.
    follow
        Go on with what comes, until nothing more can.
    tail
        Only the last so many lines; 500 if neither this nor --since is given.
    since
        Only what is not older: a time such as 2026-04-07T10:00:00Z, or Unix milliseconds.
    times
        Put its time before each line.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def show() -> None:
        async with connection.signed_client() as client:
            project_id = await find_project(client, project)
            found = deployment or await _deployment(client, project_id, build=build)
            kind = "build" if build else "runtime"
            if follow:
                async for line in client.follow_logs(
                    project_id, found, kind=kind, tail=tail, since=since
                ):
                    _show(screen, line, times=times)
                    _show_document(screen, line)
                return
            page = await client.logs(project_id, found, kind=kind, tail=tail, since=since)
            screen.document(page)
            while page.lines and not screen.json:
                for line in page.lines:
                    _show(screen, line, times=times)
                page = await client.logs(project_id, found, kind=kind, after=page.next)

    asyncio.run(show())
    return Exit.OK


async def _deployment(client: Client, project_id: str, *, build: bool) -> str:
    """The one whose log is meant: for the app's the one that serves, else the newest."""
    listed = (await client.deployments(project_id)).deployments
    if not listed:
        raise ClientMisconfigured("this project has no deployment yet")
    serving = [] if build else [each for each in listed if each.is_serving]
    return (serving or listed)[0].id


def _show(screen: Screen, line: LogLine, *, times: bool) -> None:
    before = f"{line.time or '-'} " if times else ""
    screen.result(before + line.text, colour=_COLOURS.get(line.stream))


def _show_document(screen: Screen, line: LogLine) -> None:
    if screen.json:
        print(msgspec.json.encode(line).decode(), flush=True)

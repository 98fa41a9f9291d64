"""`moorage logs`: what a build or an app wrote, page by page or live."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, TypedDict

from cyclopts import Parameter
from cyclopts.validators import Number

from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.screen import Colour, Screen
from moorage.cli.wallet.projects import find_project
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientMisconfigured
from moorage.wire.logs import LogItem

_COLOURS = {"err": Colour.RED, "gateway": Colour.CYAN}


class _Asked(TypedDict):
    """Which lines of a log, as the client takes it."""

    kind: str
    tail: int | None
    since: str | None
    after: str | None


def logs(
    project: str,
    deployment: str | None = None,
    /,
    *,
    build: Annotated[bool, Parameter(negative=())] = False,
    follow: Annotated[bool, Parameter(alias="-f", negative=())] = False,
    tail: Annotated[int | None, Parameter(validator=Number(gte=1, lte=10_000))] = None,
    since: str | None = None,
    after: str | None = None,
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
        Only the last so many lines; 500 if neither this nor --since nor --after is given.
    since
        Only what is not older: a time such as 2026-04-07T10:00:00Z, or Unix milliseconds.
    after
        Only what is behind this place, which is the `next` of an earlier --json.
    times
        Put its time before each line.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)
    kind = "build" if build else "runtime"
    asked = _Asked(kind=kind, tail=tail, since=since, after=after)

    async def show() -> None:
        async with connection.signed_client() as client:
            project_id = await find_project(client, project)
            found = deployment or await _deployment(client, project_id, build=build)
            lines = _lines(screen, client, (project_id, found), asked, follow=follow)
            async for line in lines:
                before = f"{line.time or '-'} " if times else ""
                screen.result(before + line.text, colour=_COLOURS.get(line.stream))

    asyncio.run(show())
    return Exit.OK


async def _deployment(client: Client, project_id: str, *, build: bool) -> str:
    """The deployment whose log to show: the serving one for the app's log, else the newest."""
    if not build and (serving := (await client.project(project_id)).serving_deployment_id):
        return serving
    listed = (await client.deployments(project_id, limit=1)).deployments
    if not listed:
        raise ClientMisconfigured("this project has no deployment yet")
    return listed[0].id


async def _lines(
    screen: Screen, client: Client, deployment: tuple[str, str], asked: _Asked, *, follow: bool
) -> AsyncIterator[LogItem]:
    """The lines there are by now, or all that come; with --json one page, or each line."""
    if follow:
        async for line in client.follow_logs(*deployment, **asked):
            screen.document_line(line)
            yield line
        return
    page = await client.logs(*deployment, **asked)
    screen.document(page)
    if not page.kept:
        screen.note("This log is not kept any more.")
    for line in page.lines:
        yield line
    # The last lines of a log are all that was asked for; of others there may be more pages.
    is_all = screen.json or asked["tail"] is not None or not (asked["since"] or asked["after"])
    while not is_all and page.lines and not page.ended:
        page = await client.logs(*deployment, kind=asked["kind"], after=page.next)
        for line in page.lines:
            yield line

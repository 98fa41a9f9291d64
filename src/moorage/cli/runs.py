"""`moorage run`, `moorage runs`: commands beside an app, and how they ended."""

import shlex
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from moorage.cli.connection import Session, client_command
from moorage.cli.flags import Switch
from moorage.cli.main import Exit
from moorage.cli.projects import Project, find_project
from moorage.wire.runs import RunItem


@client_command
async def run(
    session: Session,
    project: Project,
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    timeout_seconds: Annotated[
        int, Parameter(name="--timeout", validator=Number(gte=1, lte=3_600))
    ] = 600,
    size: str | None = None,
    detach: Switch = False,
) -> int:
    """Run a command once, in a copy of the files that the app serves with.

    Shows what it writes, and exits with its exit code. Several words are quoted for the shell; one
    is a line for it: moorage run shop -- 'ls | wc -l'.

    Parameters
    ----------
    command
        The command, behind --.
    timeout_seconds
        How many seconds it may take.
    size
        One of `moorage sizes`, if not the app's.
    detach
        Only queue it, and print its id.
    """
    client, screen = await session.client(), session.screen
    project_id = await find_project(client, project)
    line = command[0] if len(command) == 1 else shlex.join(command)
    queued = await client.run(project_id, line, timeout_seconds=timeout_seconds, size=size)
    if detach:
        screen.document(queued)
        screen.result(queued.run_id)
        return Exit.OK
    async for each in client.follow_run(project_id, queued.run_id):
        screen.result(each.text)
    ended = await client.run_state(project_id, queued.run_id)
    screen.document(ended)
    if ended.status != "succeeded":
        screen.note(f"{ended.status}: {ended.reason or ''}")
    return ended.exit_code or (Exit.OK if ended.status == "succeeded" else Exit.FAILED)


@client_command
async def runs(session: Session, project: Project, /, *, limit: int = 20) -> int:
    """List a project's runs, newest first.

    Parameters
    ----------
    limit
        How many to show, 1-100.
    """
    client, screen = await session.client(), session.screen
    found = await client.runs(await find_project(client, project), limit=limit)
    screen.document(found)
    rows = [
        (it.run_id, it.status, it.created_at, it.schedule or "", _what(it)) for it in found.runs
    ]
    screen.table(("RUN", "STATUS", "CREATED", "SCHEDULE", ""), rows)
    return Exit.OK


def _what(run: RunItem) -> str:
    return run.command or run.path or ""

"""`moorage deployments`, `rollback` and `cancel`: what was deployed, undone or ended."""

import asyncio

from moorage.cli import following
from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.screen import Screen
from moorage.cli.wallet.projects import find_project, status_text
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientMisconfigured
from moorage.wire.deployments import Cancelled, DeploymentItem, DeploymentList, DeploymentProgress

_UNDER_WAY = frozenset({"queued", "building", "deploying"})


def deployments(project: str, /, *, limit: int = 20, options: Options = DEFAULTS) -> int:
    """List a project's deployments, newest first, and which can be rolled back to.

    Parameters
    ----------
    project
        The project's name or id.
    limit
        How many to show, 1-100.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def ask() -> DeploymentList:
        async with connection.signed_client() as client:
            return await client.deployments(await find_project(client, project), limit=limit)

    found = asyncio.run(ask())
    screen.document(found)
    rows = [(each.id, each.status, each.created_at, _remark(each)) for each in found.deployments]
    screen.table(("DEPLOYMENT", "STATUS", "CREATED", ""), rows)
    return Exit.OK


def rollback(
    project: str,
    deployment: str | None = None,
    /,
    *,
    follow: bool = True,
    options: Options = DEFAULTS,
) -> int:
    """Serve an earlier release of a project again.

    Costs nothing while you have credits. What serves now does so until the release answers.

    Parameters
    ----------
    project
        The project's name or id.
    deployment
        The release's deployment id; what served before the present one, if not given.
    follow
        Wait until the address answers.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def roll_back() -> DeploymentProgress:
        async with connection.signed_client() as client:
            begun = await client.rollback(await find_project(client, project), deployment)
            if not follow:
                return DeploymentProgress(status=begun.status, deployment_id=begun.deployment_id)
            ids = begun.project_id, begun.deployment_id
            return await following.follow(client, screen, *ids, copies=True)

    status = asyncio.run(roll_back())
    screen.document(status)
    screen.result(status_text(project, status))
    return following.exit_of(status, followed=follow)


def cancel(project: str, deployment: str | None = None, /, *, options: Options = DEFAULTS) -> int:
    """End a deployment that is under way; what served before it serves on.

    Parameters
    ----------
    project
        The project's name or id.
    deployment
        The deployment's id; the one under way, if not given.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def end() -> Cancelled:
        async with connection.signed_client() as client:
            project_id = await find_project(client, project)
            ended = deployment or await _under_way(client, project_id)
            return await client.cancel(project_id, ended)

    cancelled = asyncio.run(end())
    screen.document(cancelled)
    screen.result(f"{project}: the deployment {cancelled.deployment_id} is cancelled.")
    return Exit.OK


async def _under_way(client: Client, project_id: str) -> str:
    found = await client.deployments(project_id)
    for each in found.deployments:
        if each.status in _UNDER_WAY:
            return each.id
    raise ClientMisconfigured("no deployment of this project is under way; nothing was cancelled")


def _remark(each: DeploymentItem) -> str:
    if each.is_serving:
        return "serves"
    if each.can_roll_back:
        return "can be rolled back to"
    return each.reason_code or ""

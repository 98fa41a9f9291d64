"""`moorage projects`, `status` and `delete`: what a wallet has running."""

import asyncio
import uuid
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from msgspec import UnsetType

from moorage.cli import following
from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.screen import Screen
from moorage.cli.wording import in_cli_words
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientMisconfigured, NotFound
from moorage.wire.deployments import DeploymentItem, DeploymentProgress
from moorage.wire.projects import ProjectAdopted, ProjectItem, ProjectList


def projects(
    *,
    of_all: Annotated[bool, Parameter(name="--all", negative=())] = False,
    hours: int = 24,
    config: Path | None = None,
    options: Options = DEFAULTS,
) -> int:
    """List your projects and their addresses; as an operator, with --all, those of all wallets.

    Parameters
    ----------
    of_all
        Those of all wallets and what they used, the most processor time first: for who runs
        the gateway, on its machine.
    hours
        With --all: use in the last hours.
    config
        With --all: the gateway's settings, as TOML; without it that of `moorage dev` is meant.
    """
    if of_all:
        from moorage.cli.operator.customers import every_project
        from moorage.cli.operator.options import OperatorOptions

        data_dir = None if options.data_dir is None else str(options.data_dir)
        operator = OperatorOptions(config=config, data_dir=data_dir, json=options.json)
        return every_project(hours=hours, options=operator)
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def ask() -> ProjectList:
        async with connection.signed_client() as client:
            return await client.projects()

    found = asyncio.run(ask())
    screen.document(found)
    if not found.projects:
        screen.result("No projects yet. Next: moorage deploy DIR --name NAME")
        return Exit.OK
    rows = [(each.name, each.status, each.url or "-", each.created_at) for each in found.projects]
    screen.table(("NAME", "STATUS", "ADDRESS", "CREATED"), rows)
    return Exit.OK


def status(project: str, deployment: str | None = None, /, *, options: Options = DEFAULTS) -> int:
    """Show where a deployment stands.

    Exits with 1 when it failed.

    Parameters
    ----------
    project
        The project's name or id.
    deployment
        The deployment's id; the newest, whatever made it, if not given.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def ask() -> DeploymentProgress:
        async with connection.signed_client() as client:
            found = await find_project(client, project)
            return await client.status(found, deployment or (await newest(client, found)).id)

    answer = asyncio.run(ask())
    screen.document(answer)
    for warning in answer.warnings or []:
        screen.warn(in_cli_words(warning.message))
    screen.result(status_text(project, answer))
    return following.exit_of(answer, followed=False)


def delete(
    project: str,
    /,
    *,
    yes: Annotated[bool, Parameter(alias="-y", negative=())] = False,
    options: Options = DEFAULTS,
) -> int:
    """Stop a project and remove it for good.

    Its address, files and data are gone; unspent credits stay with your wallet.

    Parameters
    ----------
    project
        The project's name or id.
    yes
        Do not ask.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)
    if not yes and not screen.can_ask():
        raise ClientMisconfigured("nobody to ask: pass --yes to delete. Nothing was deleted.")
    if not yes and not screen.confirm(f"Delete {project}, its files and its data?"):
        screen.note("Nothing was deleted.")
        return Exit.FAILED

    async def remove() -> Any:
        async with connection.signed_client() as client:
            return await client.delete(await find_project(client, project))

    gone = asyncio.run(remove())
    screen.document(gone)
    screen.result(f"{project} is deleted; unspent credits stay with your wallet.")
    return Exit.OK


def adopt(project: str, /, *, options: Options = DEFAULTS) -> int:
    """Have a project that a payment alone has opened share your wallet's credits.

    Parameters
    ----------
    project
        The project's name or id.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def take() -> ProjectAdopted:
        async with connection.signed_client() as client:
            return await client.adopt(await find_project(client, project))

    adopted = asyncio.run(take())
    screen.document(adopted)
    screen.result(
        f"{project} shares your credits, with ${adopted.moved_usd:.2f} that it had of its own: "
        f"${adopted.credits_usd:.2f} now."
    )
    return Exit.OK


def status_text(project: str, answer: DeploymentProgress) -> str:
    """A deployment's state, for a person."""
    if answer.status == "ready":
        return f"{project}: ready at {answer.endpoint}" + _after(answer.message)
    if answer.status == "failed":
        failed = f"{project}: failed: {in_cli_words(answer.reason or '')}"
        return failed + _after(answer.log_tail) + _after(_next(answer))
    return f"{project}: {answer.status}" + (
        f" ({answer.deployment_status})" if answer.deployment_status else ""
    )


def _next(answer: DeploymentProgress) -> str:
    actions = " · ".join(answer.next_actions or [])
    return actions and f"Next: {in_cli_words(actions)}"


def _after(text: str | UnsetType) -> str:
    return f"\n{text.rstrip()}" if text else ""


async def find_project(client: Client, project: str) -> str:
    """The id of `project`, which may be one already."""
    if _is_id(project):
        return project
    return (await _listed(client, project)).id


async def _listed(client: Client, project: str) -> ProjectItem:
    for found in (await client.projects()).projects:
        if project.lower() in {found.name, found.id}:
            return found
    sentence = f"your wallet has no project {project!r}. See: moorage projects"
    raise NotFound(
        status=404,
        code="project_not_found",
        error=sentence,
        retryable=False,
        body=msgspec.to_builtins({"error": sentence}),
    )


async def newest(client: Client, project_id: str) -> DeploymentItem:
    """A project's newest deployment, whatever made it. Raises ClientMisconfigured without one."""
    listed = (await client.deployments(project_id, limit=1)).deployments
    if not listed:
        raise ClientMisconfigured("this project has no deployment yet")
    return listed[0]


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False

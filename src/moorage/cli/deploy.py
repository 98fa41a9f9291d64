"""`moorage deploy`, `deployments`, `rollback`, `cancel`, `logs`: versions, and what they wrote."""

import os
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from moorage.cli import progress
from moorage.cli.connection import Session, client_command
from moorage.cli.flags import (
    NO_FLAGS,
    AppFlags,
    Switch,
    VariableReader,
    in_cli_words,
)
from moorage.cli.main import Exit
from moorage.cli.progress import Chain, Follow, Token, Yes, payer_of, payment_document
from moorage.cli.projects import Project, find_project, newest, status_text
from moorage.cli.screen import Colour, Screen, counted
from moorage.sdk.archive import Collected, OpenExport, read_upload
from moorage.sdk.budget import read_dollars
from moorage.sdk.client import Client, DeployRequest
from moorage.sdk.errors import ClientMisconfigured, FilesWouldBeLost
from moorage.sdk.payer import Bought, deploy_request
from moorage.wire.deploy import Deployed, Quoted
from moorage.wire.deployments import DeploymentItem, DeploymentProgress, LogItem

_UNDER_WAY = frozenset({"queued", "building", "deploying"})


@client_command
async def deployments(session: Session, project: Project, /, *, limit: int = 20) -> None:
    """List a project's deployments, newest first, and which can be rolled back to.

    Parameters
    ----------
    limit
        How many to show, 1-100.
    """
    client, screen = await session.client(), session.screen
    found = await client.deployments(await find_project(client, project), limit=limit)
    screen.document(found)
    rows = [(each.id, each.status, each.created_at, _remark(each)) for each in found.deployments]
    screen.table(("DEPLOYMENT", "STATUS", "CREATED", ""), rows)


@client_command
async def rollback(
    session: Session, project: Project, deployment: str | None = None, /, *, follow: Follow = True
) -> int:
    """Serve an earlier release of a project again.

    Costs nothing while you have credits. What serves now does so until the release answers.

    Parameters
    ----------
    deployment
        The release's deployment id; what served before the present one, if not given.
    """
    client, screen = await session.client(), session.screen
    begun = await client.rollback(await find_project(client, project), deployment)
    status = DeploymentProgress(status=begun.status, deployment_id=begun.deployment_id)
    if follow:
        ids = begun.project_id, begun.deployment_id
        status = await progress.follow(client, screen, *ids, copies=True)
    screen.document(status)
    screen.result(status_text(project, status))
    return progress.exit_of(status, followed=follow)


@client_command
async def cancel(session: Session, project: Project, deployment: str | None = None, /) -> None:
    """End a deployment that is under way; what served before it serves on.

    Parameters
    ----------
    deployment
        The deployment's id; the one under way, if not given.
    """
    client, screen = await session.client(), session.screen
    project_id = await find_project(client, project)
    cancelled = await client.cancel(project_id, deployment or await _under_way(client, project_id))
    screen.document(cancelled)
    screen.result(f"{project}: the deployment {cancelled.deployment_id} is cancelled.")


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


_COLOURS = {"err": Colour.RED, "gateway": Colour.CYAN}


class _Asked(TypedDict):
    """Which lines of a log, as the client takes it."""

    kind: str
    tail: int | None
    since: str | None
    after: str | None


@client_command
async def logs(
    session: Session,
    project: Project,
    deployment: str | None = None,
    /,
    *,
    build: Switch = False,
    follow: Annotated[bool, Parameter(alias="-f", negative=())] = False,
    tail: Annotated[int | None, Parameter(validator=Number(gte=1, lte=10_000))] = None,
    since: str | None = None,
    after: str | None = None,
    times: Switch = False,
) -> None:
    """Show what your app wrote, or its build.

    What it wrote to stderr is red, what the gateway says cyan. With --follow, --json prints a
    document for each line.

    Parameters
    ----------
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
    client, screen = await session.client(), session.screen
    kind = "build" if build else "runtime"
    asked = _Asked(kind=kind, tail=tail, since=since, after=after)
    project_id = await find_project(client, project)
    found = deployment or await _deployment(client, project_id, build=build)
    async for line in _lines(screen, client, (project_id, found), asked, follow=follow):
        before = f"{line.time or '-'} " if times else ""
        screen.result(before + line.text, colour=_COLOURS.get(line.stream))


async def _deployment(client: Client, project_id: str, *, build: bool) -> str:
    """The deployment whose log to show: the serving one for the app's log, else the newest."""
    if not build and (serving := (await client.project(project_id)).serving_deployment_id):
        return serving
    return (await newest(client, project_id)).id


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


@client_command
async def deploy(  # noqa: PLR0913 - each is a flag
    session: Session,
    directory: Path,
    /,
    *,
    name: str,
    display_name: str | None = None,
    description: str | None = None,
    months: int = 1,
    chain: Chain = "arbitrum",
    token: Token = "usdc",  # noqa: S107 - a token that pays, not one that logs in
    use_existing_credits: Switch = False,
    discard_written: Switch = False,
    yes: Yes = False,
    max_usd: str | None = None,
    dry_run: Switch = False,
    follow: Follow = True,
    app: AppFlags = NO_FLAGS,
) -> int:
    """Deploy a directory, or an archive that `moorage export` wrote, and print its address.

    The price is shown first; on a terminal you are asked before it is paid.

    Run the same command again after any failure: a payment is never made twice.

    Parameters
    ----------
    directory
        What to deploy, or an archive. .gitignore and .moorageignore are respected; .env* files
        stay behind, except examples and a .env that holds only variables of pages
        (VITE_…).
    name
        Its name, unique at the gateway and part of its address: 4-32 of a-z, 0-9, -.
    display_name
        A title for people; if not given, the one it has, else the name.
    description
        What it is.
    months
        How many months to pay for, 1-24.
    use_existing_credits
        Deploy from credits that other projects also live on, instead of paying.
    discard_written
        Lose what the running version has written outside its volume, without asking.
    max_usd
        Pay without asking up to this many dollars, and never more.
    dry_run
        Say what it would cost, and how it would be built; pay and change nothing.
    """
    ceiling = None if max_usd is None else read_dollars(max_usd, of="--max-usd")
    client, screen = await session.client(), session.screen
    settings = app.settings(VariableReader(os.environ, sys.stdin.buffer))
    found = read_upload(directory)
    for warning in (*session.connection.warnings, *found.warnings):
        screen.warn(warning)
    screen.note(_uploading(directory, found))
    request = await deploy_request(
        client,
        found,
        name=name,
        display_name=display_name,
        description=description,
        months=months,
        settings=settings,
    )
    request = msgspec.structs.replace(
        request,
        discard_written=discard_written,
        purse=app.asked_purse(),
    )
    if dry_run:
        quoted = await client.quote(request)
        screen.document(quoted)
        _show_quote(screen, quoted)
        return Exit.OK
    payer = payer_of(
        client,
        session,
        allowed=yes or ceiling is not None,
        allow="--yes, or --max-usd with a limit",
        then="deploy",
        ceiling=ceiling,
    )

    async def buy(asked: DeployRequest) -> Bought[Deployed]:
        return await payer.deploy(
            asked, chain=chain, token=token, use_existing_credits=use_existing_credits
        )

    try:
        deployed = await buy(request)
    except FilesWouldBeLost as lost:
        _require_consent(screen, lost)
        deployed = await buy(msgspec.structs.replace(request, discard_written=True))
    return await _conclude(client, screen, name, deployed, follow=follow)


def show_plan(
    screen: Screen,
    warned: Iterable[str],
    because: Iterable[str],
    steps: Mapping[str, str | None],
) -> None:
    """Shows what a plan warns of, its reasons, and its commands by step."""
    for message in warned:
        screen.warn(in_cli_words(message))
    for reason in because:
        screen.result(f"- {in_cli_words(reason)}")
    for step, command in steps.items():
        screen.result(f"{step + ':':<10}{command or '(nothing)'}")


def _show_quote(screen: Screen, quoted: Quoted) -> None:
    steps: dict[str, str | None] = {}
    if understood := quoted.understood:
        steps = {
            "install": understood.install_command,
            "build": understood.build_command,
            "release": understood.release_command,
            "start": understood.run_command,
        }
    warned = [*(quoted.warnings or ()), *(quoted.risks or ())]
    show_plan(screen, [it.message for it in warned], quoted.plan.because, steps)
    price = f"${quoted.amount_usd:.2f}" if quoted.payment_required else "nothing: credits suffice"
    screen.result(f"{'costs:':<10}{price}")


def _require_consent(screen: Screen, lost: FilesWouldBeLost) -> None:
    """Asks whether files may be lost. Raises `lost` if not, or if there is nobody to ask."""
    if screen.can_ask():
        screen.warn(in_cli_words(lost.message))
        if screen.confirm("Deploy without these files?"):
            return
    raise lost


async def _conclude(
    client: Client, screen: Screen, name: str, deployed: Bought[Deployed], *, follow: bool
) -> Exit:
    """Follows what was accepted if `follow`, and prints the outcome."""
    answer, accepted_seconds = deployed.answer, time.monotonic()
    if deployed.payment is None:  # else the price came with them
        for warning in answer.warnings or ():
            screen.warn(in_cli_words(warning.message))
    status = DeploymentProgress(status="deploying", deployment_id=answer.deployment_id)
    if follow:
        status = await progress.follow(client, screen, answer.project_id, answer.deployment_id)
    took_seconds = time.monotonic() - accepted_seconds
    screen.document(deploy_document(name, deployed, status))
    for line in deploy_lines(name, deployed, status, took_seconds):
        screen.result(line)
    return progress.exit_of(status, followed=follow)


def deploy_document(
    name: str, deployed: Bought[Deployed], status: DeploymentProgress
) -> dict[str, Any]:
    """The JSON document of a deploy."""
    return {
        "status": status.status,
        "name": name,
        "projectId": deployed.answer.project_id,
        "deploymentId": deployed.answer.deployment_id,
        "endpoint": status.endpoint or None,
        "reason": status.reason or None,
        "reason_code": status.reason_code or None,
        "message": status.message or deployed.answer.message,
        "log_tail": status.log_tail or None,
        "next_actions": status.next_actions or None,
        "next_settings": status.next_settings or None,
        "payment": payment_document(deployed.payment),
    }


def deploy_lines(
    name: str, deployed: Bought[Deployed], status: DeploymentProgress, took_seconds: float
) -> Iterable[str]:
    """The outcome and what to do next, for a person."""
    if status.status == "ready":
        where = status.endpoint or "a worker, without an address"
        yield f"{name} is live after {took_seconds:.1f} s: {where}"
        if status.message:
            yield in_cli_words(status.message)
        yield f"Next: moorage status {name} · moorage projects · moorage delete {name}"
    elif status.status == "failed":
        yield f"{name} failed: {in_cli_words(status.reason or '')}"
        if status.log_tail:
            yield status.log_tail.rstrip()
        for action in (status.next_actions or [])[:-1]:  # the last is what follows
            yield f"Next: {in_cli_words(action)}"
        yield "Unspent credits stay with your wallet. Fix it and run the same command again."
    else:
        yield f"{name} is deploying. {deployed.answer.message}".rstrip()
        answer = deployed.answer
        yield f"Next: moorage status {answer.project_id} {answer.deployment_id}"


def _uploading(directory: Path, found: Collected | OpenExport) -> str:
    if isinstance(found, OpenExport):
        return f"Deploying {directory}, an export of {found.manifest.project}"
    files = counted(found.file_count, "file")
    return f"Uploading {files} from {directory} ({found.total_bytes / 1000:.1f} kB)"

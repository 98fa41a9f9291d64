"""`moorage deploy`, `deployments`, `rollback`, `cancel`, `logs`: versions, and what they wrote."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from moorage.cli import progress
from moorage.cli.connection import DEFAULTS, Connection, Options, find_connection
from moorage.cli.flags import NO_FLAGS, AppFlags, VariableReader, in_cli_words
from moorage.cli.main import Exit
from moorage.cli.progress import approver, payment_document, step_teller
from moorage.cli.projects import find_project, status_text
from moorage.cli.screen import Colour, Screen, counted
from moorage.money import MicroUsd
from moorage.sdk.archive import Collected, OpenExport, collect, read_export
from moorage.sdk.budget import read_budget, read_dollars
from moorage.sdk.client import Client, DeployRequest, Exported, Settings
from moorage.sdk.errors import ClientMisconfigured, FilesWouldBeLost
from moorage.sdk.journal import Journal
from moorage.sdk.payer import Approve, Bought, Payer, titled
from moorage.sdk.signer import Signer
from moorage.wire.deploy import Deployed
from moorage.wire.deployments import Cancelled, DeploymentItem, DeploymentList, DeploymentProgress
from moorage.wire.logs import LogItem

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
            return await progress.follow(client, screen, *ids, copies=True)

    status = asyncio.run(roll_back())
    screen.document(status)
    screen.result(status_text(project, status))
    return progress.exit_of(status, followed=follow)


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


def deploy(
    directory: Path,
    /,
    *,
    name: str,
    display_name: str | None = None,
    description: str | None = None,
    months: int = 1,
    chain: str = "arbitrum",
    token: str = "usdc",  # noqa: S107 - a token that pays, not one that logs in
    use_existing_credits: Annotated[bool, Parameter(negative=())] = False,
    discard_written: Annotated[bool, Parameter(negative=())] = False,
    yes: Annotated[bool, Parameter(alias="-y", negative=())] = False,
    max_usd: str | None = None,
    follow: bool = True,
    app: AppFlags = NO_FLAGS,
    options: Options = DEFAULTS,
) -> int:
    """Deploy a directory, or an archive that `moorage export` wrote, and print its address.

    The price is shown before it is paid, and asked about on a terminal.

    Run the same command again after any failure: a payment is never made twice.

    Parameters
    ----------
    directory
        What to deploy, or an archive. .gitignore and .moorageignore are respected; .env* files
        stay behind.
    name
        Its name, unique at the gateway and part of its address: 4-32 of a-z, 0-9, -.
    display_name
        A title for people; if not given, the one it has, else the name.
    description
        What it is.
    months
        How many months to pay for, 1-24.
    chain
        The chain to pay on.
    token
        The token to pay with.
    use_existing_credits
        Deploy from credits that other projects also live on, instead of paying.
    discard_written
        Lose what the running version has written outside its volume, without asking.
    yes
        Pay without asking.
    max_usd
        Pay without asking up to this many dollars, and never more.
    follow
        Wait until the address answers.
    """
    screen = Screen(json=options.json)
    ceiling = None if max_usd is None else read_dollars(max_usd, of="--max-usd")
    connection = find_connection(options)
    signer = Signer(connection.required_key())
    settings = app.settings(VariableReader(os.environ, sys.stdin.buffer))
    collected = read_export(directory) if directory.is_file() else collect(directory)
    warnings = () if isinstance(collected, OpenExport) else collected.warnings
    for warning in (*connection.warnings, *warnings):
        screen.warn(warning)
    request = DeployRequest(
        unique_name=name,
        display_name=display_name or name,
        description=description,
        months=months,
        settings=_with_variables(settings, collected),
        upload=(
            Exported(sha256=collected.sha256)
            if isinstance(collected, OpenExport)
            else collected.upload
        ),
        discard_written=discard_written,
    )
    screen.note(_uploading(directory, collected))
    session = _Session(connection, signer, screen)
    approve = approver(
        screen, allowed=yes or ceiling is not None, allow="--yes, or --max-usd with a limit"
    )
    means = _Means(chain=chain, token=token, use_existing_credits=use_existing_credits)
    untitled = display_name is None
    return asyncio.run(
        session.deploy(
            request,
            means,
            approve,
            export=collected.content if isinstance(collected, OpenExport) else None,
            untitled=untitled,
            ceiling=ceiling,
            follow=follow,
        )
    )


class _Means(msgspec.Struct, frozen=True):
    """How the person wants to pay."""

    chain: str
    token: str
    use_existing_credits: bool


class _Session:
    """One run of the command."""

    def __init__(self, connection: Connection, signer: Signer, screen: Screen) -> None:
        self._connection = connection
        self._signer = signer
        self._screen = screen

    async def deploy(
        self,
        request: DeployRequest,
        means: _Means,
        approve: Approve,
        *,
        export: bytes | None,
        untitled: bool,
        ceiling: MicroUsd | None,
        follow: bool,
    ) -> Exit:
        """Deploys, pays if asked to, follows if `follow`, and prints the outcome."""
        async with self._connection.signed_client() as client:
            if export is not None:
                await client.store_export(export)
            if untitled:
                request = await titled(client, request)
            payer = Payer(
                client,
                self._signer,
                chains=self._connection.chains,
                journal=Journal(self._connection.state_dir),
                approve=approve,
                ceiling=ceiling,
                budget=read_budget(os.environ),
                on_step=step_teller(self._screen, then="deploy"),
            )
            named = msgspec.structs.asdict(means)
            try:
                deployed = await payer.deploy(request, **named)
            except FilesWouldBeLost as lost:
                self._require_consent(lost)
                request = msgspec.structs.replace(request, discard_written=True)
                deployed = await payer.deploy(request, **named)
            accepted_seconds = time.monotonic()
            if deployed.payment is None:  # else the price came with them
                for warning in deployed.answer.warnings or ():
                    self._screen.warn(in_cli_words(warning.message))
            status = _begun(deployed)
            if follow:
                ids = deployed.answer.project_id, deployed.answer.deployment_id
                status = await progress.follow(client, self._screen, *ids)
        took_seconds = time.monotonic() - accepted_seconds
        return self._conclude(request.unique_name, deployed, status, took_seconds, follow=follow)

    def _require_consent(self, lost: FilesWouldBeLost) -> None:
        """Asks whether files may be lost. Raises `lost` if not, or if there is nobody to ask."""
        if self._screen.can_ask():
            self._screen.warn(in_cli_words(lost.message))
            if self._screen.confirm("Deploy without these files?"):
                return
        raise lost

    def _conclude(
        self,
        name: str,
        deployed: Bought[Deployed],
        status: DeploymentProgress,
        took_seconds: float,
        *,
        follow: bool,
    ) -> Exit:
        self._screen.document(deploy_document(name, deployed, status))
        for line in deploy_lines(name, deployed, status, took_seconds):
            self._screen.result(line)
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
        yield f"{name} is live after {took_seconds:.1f} s: {status.endpoint}"
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


def _with_variables(settings: Settings, collected: Collected | OpenExport) -> Settings:
    """Adds the variables that an export brings to those of the flags, which take precedence."""
    if not isinstance(collected, OpenExport):
        return settings
    return msgspec.structs.replace(
        settings,
        run_envs={**collected.run, **(settings.run_envs or {})} or None,
        build_vars={**collected.build, **(settings.build_vars or {})} or None,
    )


def _uploading(directory: Path, collected: Collected | OpenExport) -> str:
    if isinstance(collected, OpenExport):
        return f"Deploying {directory}, an export of {collected.manifest.project}"
    files = counted(collected.file_count, "file")
    return f"Uploading {files} from {directory} ({collected.total_bytes / 1000:.1f} kB)"


def _begun(deployed: Bought[Deployed]) -> DeploymentProgress:
    return DeploymentProgress(status="deploying", deployment_id=deployed.answer.deployment_id)

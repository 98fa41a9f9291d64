"""The commands about a project: list, show, configure, usage, domains, delete."""

import asyncio
import hashlib
import os
import sys
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from msgspec import UNSET, UnsetType

from moorage.archive.project import new_key
from moorage.cli import progress
from moorage.cli.connection import DEFAULTS, Options, Session, client_command
from moorage.cli.flags import Switch, VariableReader, idle_seconds, in_cli_words
from moorage.cli.main import Exit, require_gateway
from moorage.cli.screen import table_lines, with_nulls
from moorage.sdk.archive import read_export
from moorage.sdk.budget import dollars_of
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientMisconfigured, Forbidden, NotFound, RequestRefused
from moorage.wire.credits import Purse, PurseBody
from moorage.wire.deployments import DeploymentItem, DeploymentProgress
from moorage.wire.projects import (
    ChangeBody,
    DomainItem,
    DomainList,
    DomainRemoved,
    ExportItem,
    LatencyItem,
    ProjectItem,
    ProjectShown,
    TransferBody,
    TransferItem,
    TransferList,
    UsageItem,
)

Project = Annotated[str, Parameter(help="The project's name or id.")]
FollowChange = Annotated[bool, Parameter(help="Wait until the change is served, or has failed.")]


def projects(
    *,
    of_all: Annotated[bool, Parameter(name="--all", negative=())] = False,
    hours: int = 24,
    config: Path | None = None,
    options: Options = DEFAULTS,
) -> None:
    """List your projects and their addresses; as an operator, with --all, those of all wallets.

    Parameters
    ----------
    of_all
        Those of all wallets and what they used, the most processor time first: for who runs
        the gateway, on its machine.
    hours
        With --all: use in the last hours.
    config
        With --all: the gateway's settings, as TOML; without it those of `moorage dev`.
    """
    if of_all:
        require_gateway("projects --all")
        from moorage.cli.operator.customers import every_project
        from moorage.cli.operator.gateway import OperatorOptions

        data_dir = None if options.data_dir is None else str(options.data_dir)
        operator = OperatorOptions(config=config, data_dir=data_dir, json=options.json)
        every_project(hours=hours, options=operator)
    else:
        _own_projects(options=options)


@client_command
async def _own_projects(session: Session, /) -> None:
    screen, found = session.screen, await (await session.client()).projects()
    screen.document(found)
    if not found.projects:
        screen.result("No projects yet. Next: moorage deploy DIR --name NAME")
        return
    rows = [(each.name, each.status, each.url or "-", each.created_at) for each in found.projects]
    screen.table(("NAME", "STATUS", "ADDRESS", "CREATED"), rows)


@client_command
async def status(session: Session, project: Project, deployment: str | None = None, /) -> int:
    """Show where a deployment stands.

    Exits with 1 when it failed.

    Parameters
    ----------
    deployment
        The deployment's id; the newest, whatever made it, if not given.
    """
    client, screen = await session.client(), session.screen
    found = await find_project(client, project)
    answer = await client.status(found, deployment or (await newest(client, found)).id)
    screen.document(answer)
    for warning in answer.warnings or []:
        screen.warn(in_cli_words(warning.message))
    screen.result(status_text(project, answer))
    return progress.exit_of(answer, followed=False)


@client_command
async def delete(
    session: Session,
    project: Project,
    /,
    *,
    yes: Annotated[bool, Parameter(help="Do not ask.", alias="-y", negative=())] = False,
) -> int:
    """Stop a project and remove it for good.

    Its address, files and data are gone; unspent credits stay with your wallet.
    """
    screen, client = session.screen, await session.client()
    if not yes and not screen.can_ask():
        raise ClientMisconfigured("no terminal to ask at: pass --yes. Nothing was deleted.")
    if not yes and not screen.confirm(f"Delete {project}, its files and its data?"):
        screen.note("Nothing was deleted.")
        return Exit.FAILED
    screen.document(await client.delete(await find_project(client, project)))
    screen.result(f"{project} is deleted; unspent credits stay with your wallet.")
    return Exit.OK


@client_command
async def purse(
    session: Session,
    project: Project,
    /,
    *,
    add: str | None = None,
    take: str | None = None,
    shared: bool | None = None,
    limit: str | None = None,
) -> None:
    """Give a project credits of its own, which it burns first, or limit what it burns in a month.

    Without an option, its purse is shown.

    Parameters
    ----------
    add
        Dollars to move from your credits into its purse.
    take
        Dollars to move back to your credits.
    shared
        Whether it burns your credits once its purse is empty.
    limit
        Most dollars that it burns in a calendar month (UTC), builds too; none for no limit.
    """
    client, screen = await session.client(), session.screen
    project_id = await find_project(client, project)
    new_limit = None if limit is None or limit == "none" else dollars_of(limit, of="--limit")
    change = PurseBody(
        add_usd=UNSET if add is None else dollars_of(add, of="--add"),
        take_usd=UNSET if take is None else dollars_of(take, of="--take"),
        shared=UNSET if shared is None else shared,
        limit_usd_month=UNSET if limit is None else new_limit,
    )
    if change == PurseBody():
        has = (await client.project(project_id)).purse
        screen.document(has)
        screen.result(_purse_text(project, None if isinstance(has, UnsetType) else has))
        return
    changed = await client.set_purse(project_id, change)
    screen.document(changed)
    screen.result(_purse_text(project, changed))
    screen.result(f"Your credits beside it: ${changed.credits_usd:.2f}.")


def _purse_text(project: str, has: Purse | None) -> str:
    if has is None:
        return f"{project} has no purse: it burns your credits."
    then = "then your credits" if has.shared else "and nothing else"
    limit = ""
    if has.limit_usd_month is not None:
        limit = f"; at most ${has.limit_usd_month:.2f} a month"
    until = f", until {has.runs_out_at}" if has.runs_out_at else ""
    return f"{project} burns ${has.balance_usd:.2f} of its own, {then}{limit}{until}."


@client_command
async def adopt(session: Session, project: Project, /) -> None:
    """Have a project that a payment alone has opened share your wallet's credits."""
    client, screen = await session.client(), session.screen
    adopted = await client.adopt(await find_project(client, project))
    screen.document(adopted)
    screen.result(
        f"{project} shares your credits, with ${adopted.moved_usd:.2f} that it had of its own: "
        f"${adopted.credits_usd:.2f} now."
    )


@client_command
async def transfer(
    session: Session,
    project: Project,
    to: Annotated[str, Parameter(help="The wallet that may take it.")],
    /,
    *,
    purse: Annotated[Switch, Parameter(help="The credits of its purse go along.")] = False,
    variables: Annotated[
        Switch, Parameter(help="Its variables go along; else its app starts without them.")
    ] = False,
    days: Annotated[int, Parameter(help="How long it can be taken, 30 at most.")] = 7,
) -> None:
    """Offer a project to another wallet, which takes it with `moorage transfers --accept`."""
    client, screen = await session.client(), session.screen
    body = TransferBody(
        to=to,
        with_purse=purse,
        with_variables=variables,
        not_after=datetime.now(UTC) + timedelta(days=days),
    )
    offered = await client.offer(await find_project(client, project), body)
    screen.document(offered)
    screen.result(transfer_text(offered))
    screen.note(f"Next, as {offered.to}: moorage transfers --accept {offered.offer}")


@client_command
async def transfers(
    session: Session,
    /,
    *,
    accept: Annotated[str, Parameter(help="Take the project of this offer.")] = "",
    end: Annotated[str, Parameter(help="End this offer.")] = "",
    purse: Annotated[
        str | None, Parameter(help="Dollars that its purse must bring along, at least.")
    ] = None,
) -> None:
    """List the projects that you have offered or were offered; take one, or end an offer."""
    client, screen = await session.client(), session.screen
    if accept and end:
        raise ClientMisconfigured("--accept and --end are two commands: pass one.")
    if accept:
        taken = await client.accept(
            accept, purse_usd=None if purse is None else dollars_of(purse, of="--purse")
        )
        screen.document(taken)
        screen.result(f"{taken.name}: {taken.status}. {taken.message}")
        return
    found = [await client.withdraw(end)] if end else await client.transfers()
    screen.document(TransferList(transfers=found))
    for each in found:
        screen.result(transfer_text(each))


def transfer_text(offer: TransferItem) -> str:
    """An offer, for a person."""
    along = [
        *([f"${offer.purse_usd or 0:.2f} of its purse"] if offer.with_purse else []),
        *(["its variables"] if offer.with_variables else []),
    ]
    with_ = f", with {' and '.join(along)}" if along else ""
    until = f" until {offer.not_after}" if offer.state == "open" else ""
    hands = f"{offer.name} from {offer.from_} to {offer.to}"
    return f"{offer.offer}: {hands}{with_}: {offer.state}{until}"


def status_text(project: str, answer: DeploymentProgress) -> str:
    """A deployment's state, for a person."""
    if answer.status == "ready":
        where = f"ready at {answer.endpoint}" if answer.endpoint else "its worker runs"
        return f"{project}: {where}" + _after(answer.message)
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
    try:
        return (await _listed(client, project)).id
    except Forbidden:  # a delegate for one project may not list its owner's
        return (await client.project(project)).id


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


@client_command
async def show(session: Session, project: Project, /) -> None:
    """Show a project whole: what serves, its health path, the names of its variables."""
    client, screen = await session.client(), session.screen
    found = await client.project(await find_project(client, project))
    screen.document(found)
    for line in project_lines(found):
        screen.result(line)
    for warning in found.warnings or []:
        screen.warn(in_cli_words(warning.message))


@client_command
async def env(
    session: Session,
    project: Project,
    variables: tuple[str, ...] = (),
    /,
    *,
    unset: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    build: Switch = False,
    follow: FollowChange = True,
) -> int:
    """List the names of a project's variables, or set some: `moorage env shop MODE=fast TOKEN=-`.

    The app is started again with them; the present one serves until the new one is healthy, and if
    it is not. Values are never shown. Exits with 1 when it failed.

    Parameters
    ----------
    variables
        `NAME=VALUE`; for secrets, which shells keep in their history, `NAME=@FILE`, `NAME=-` (from
        standard input, both without the last line's end), or `NAME` (from your environment).
    unset
        Take this one away.
    build
        Those of builds instead, which the next upload sees.
    """
    if not variables and not unset:
        await _list_names(session, project)
        return Exit.OK
    changes: dict[str, str | None] = dict.fromkeys(unset)
    changes |= VariableReader(os.environ, sys.stdin.buffer).read(variables)
    change = ChangeBody(build_vars=changes) if build else ChangeBody(run_envs=changes)
    return await _change(session, project, change, follow=follow)


@client_command
async def configure(
    session: Session,
    project: Project,
    /,
    *,
    display_name: str | None = None,
    description: str | None = None,
    health_path: str | None = None,
    volume: Switch = False,
    size: str | None = None,
    sleep: str | None = None,
    follow: FollowChange = True,
) -> int:
    """Change a project's name for people, health path, size, sleep or volume, without an upload.

    Where the app has to be started again, the present one serves until the new one is healthy, and
    if it is not. Exits with 1 when it failed.

    Parameters
    ----------
    display_name
        A title for people.
    description
        What it is.
    health_path
        Path that must answer below 500 before a version is served; / is the usual one.
    volume
        Give it a /data that outlives its versions; it goes with the project alone.
    size
        Its size, of those that `moorage sizes` lists; its price counts from the switch on.
    sleep
        How long it idles before it sleeps, for less, until a request: such as 10m; or never.
    """
    change = ChangeBody(
        display_name=_unless_none(display_name),
        description=_unless_none(description),
        health_path=_unless_none(health_path),
        volume=volume or UNSET,
        size=_unless_none(size),
        sleep_after_seconds=UNSET if sleep is None else _idle_seconds(sleep),
    )
    if change == ChangeBody():
        raise ClientMisconfigured(
            "say what to change: --display-name, --description, --size, --health-path, --volume or "
            "--sleep; `moorage env` sets variables"
        )
    return await _change(session, project, change, follow=follow)


@client_command
async def restart(
    session: Session,
    project: Project,
    /,
    *,
    follow: Annotated[bool, Parameter(help="Wait until it is served, or has failed.")] = True,
) -> int:
    """Start a project's app again; the present one serves until the new one is healthy."""
    return await _change(session, project, ChangeBody(restart=True), follow=follow)


@client_command
async def pause(session: Session, project: Project, /) -> int:
    """Stop a project's app: it burns nothing, and its address says that it is paused.

    Its files and data are kept as long as those of a project that is out of credits.
    """
    return await _change(session, project, ChangeBody(paused=True), follow=False)


@client_command
async def unpause(session: Session, project: Project, /) -> int:
    """Start a project's app again that `moorage pause` stopped; it burns credits from then on."""
    return await _change(session, project, ChangeBody(paused=False), follow=False)


def project_lines(found: ProjectShown) -> Iterable[str]:
    """A project, for a person."""
    yield f"{found.name}: {found.status}" + (f" at {found.url}" if found.url else "")
    if found.blocked_reason:
        yield f"suspended:   by the operator: {found.blocked_reason}"
    elif found.suspended_because == "project_paused":
        yield "suspended:   you have paused it: `moorage unpause PROJECT` starts it again"
    elif found.suspended_because == "no_capacity":
        yield "suspended:   the gateway's disk is nearly full; it starts again when there is room"
    elif found.suspended_because == "limit_reached":
        yield "suspended:   its limit of the month is reached: `moorage purse PROJECT` raises it"
    elif found.suspended_because == "out_of_credits":
        yield "suspended:   out of credits: `moorage topup AMOUNT` resumes it"
    yield f"id:          {found.id}"
    yield f"serves:      {found.serving_deployment_id or '-'}"
    if found.deployment_in_progress:
        yield f"under way:   {found.deployment_in_progress}"
    yield f"domains:     {', '.join(found.domains) or '-'}"
    yield f"health path: {found.health_path}"
    yield f"size:        {found.size}"
    yield f"variables:   {', '.join(found.run_env_names) or '-'}"
    yield f"of builds:   {', '.join(found.build_var_names) or '-'}"
    yield f"burns:       ${found.burn_per_hour_usd:f} an hour"
    yield f"as it runs:  ${found.price_per_hour_usd:f} an hour"
    idle = found.sleep_after_seconds
    sleeps = "never" if idle is None else f"after {idle} s without a request or connection"
    yield f"sleeps:      {sleeps}; ${found.asleep_per_hour_usd:f} an hour asleep"
    for each in found.schedules or ():
        yield f"schedule:    {each.name}, {each.cron} {each.timezone}; next {each.next_due_at}"


def _idle_seconds(text: str) -> int | None:
    return None if text == "never" else idle_seconds(text)


def _unless_none(text: str | None) -> str | UnsetType:
    return UNSET if text is None else text


async def _list_names(session: Session, project: str) -> None:
    client, screen = await session.client(), session.screen
    found = await client.project(await find_project(client, project))
    screen.document({"runEnvNames": found.run_env_names, "buildVarNames": found.build_var_names})
    rows = [(name, "app") for name in found.run_env_names]
    rows += [(name, "build") for name in found.build_var_names]
    screen.table(("NAME", "SEEN BY"), rows)


async def _change(session: Session, project: str, change: ChangeBody, *, follow: bool) -> int:
    client, screen = await session.client(), session.screen
    changed = await client.change(await find_project(client, project), change)
    if not changed.deployment_id or not follow:
        screen.document(changed)
        screen.result(f"{project}: {in_cli_words(changed.message)}")
        return Exit.OK
    ids = changed.project_id, changed.deployment_id
    status = await progress.follow(client, screen, *ids, copies=True)
    screen.document(with_nulls(changed) | {"outcome": status})
    screen.result(status_text(project, status))
    return progress.exit_of(status, followed=True)


@client_command
async def domains(
    session: Session,
    project: Project,
    what: Literal["list", "add", "verify", "remove"] = "list",
    domain: str = "",
    /,
) -> int:
    """Have a domain of your own lead to a project: `moorage domains shop add shop.example`.

    Exits with 1 when `verify` does not find the record.

    Parameters
    ----------
    what
        `list` says how they stand; `add` says which DNS records to set; `verify` looks at them
        now; `remove` removes a domain.
    domain
        The domain, for all but `list`.
    """
    if (what == "list") == bool(domain):
        raise ClientMisconfigured("write: moorage domains PROJECT add|verify|remove DOMAIN")
    client, screen = await session.client(), session.screen
    project_id = await find_project(client, project)
    answer: DomainList | DomainItem | DomainRemoved
    match what:
        case "list":
            answer = await client.domains(project_id)
        case "add":
            answer = await client.add_domain(project_id, domain)
        case "verify":
            answer = await client.verify_domain(project_id, domain)
        case "remove":
            answer = await client.remove_domain(project_id, domain)
    screen.document(answer)
    if isinstance(answer, DomainList):
        rows = [(each.domain, each.status, each.problem or "-") for each in answer.domains]
        none = f"No domains of its own. Next: moorage domains {project} add DOMAIN"
        screen.table(("DOMAIN", "STATUS", "LAST LOOK"), rows, none=none)
    else:
        screen.result(domain_text(project, answer))
    is_pending = isinstance(answer, DomainItem) and answer.status != "verified"
    return Exit.FAILED if what == "verify" and is_pending else Exit.OK


def domain_text(project: str, answer: DomainItem | DomainRemoved) -> str:
    """A domain, as it stands or gone, and what to do, for a person."""
    if isinstance(answer, DomainRemoved):
        return f"{answer.domain} is removed."
    lines = [f"{answer.domain}: {answer.status}" + (f" at {answer.url}" if answer.url else "")]
    lines += [answer.problem] if answer.problem else []
    is_pending = answer.status != "verified"
    records = [each for each in answer.records if is_pending or each.type != "TXT"]
    rows = [(each.type, each.name, each.value) for each in records]
    lines += ["", *table_lines(("RECORD", "NAME", "VALUE"), rows), ""]
    if is_pending:
        lines.append("The TXT record proves that the domain is yours, the other points it here.")
    lines.append("Where a zone allows no CNAME at its top, give it the A and AAAA that VALUE has.")
    return "\n".join([*lines, _next_look(project, answer)] if is_pending else lines)


def _next_look(project: str, pending: DomainItem) -> str:
    when = pending.next_check_at
    by_itself = f"The next check is at {when}" if when else "It is not checked automatically"
    return f"{by_itself}. To check now: moorage domains {project} verify {pending.domain}"


_MIB = 1024 * 1024
_HOUR_MS = 3_600_000
_COLUMNS = (
    *("FROM", "REQUESTS", "5XX", "MEDIAN", "95 %", "SLOWEST"),
    *("IN", "OUT", "CPU", "MOST MEMORY"),
)
_FLAGS = {"from": "--since", "to": "--until"}


@client_command
async def usage(
    session: Session,
    project: Project,
    /,
    *,
    since: str | None = None,
    until: str | None = None,
    fine: bool = False,
) -> None:
    """Show traffic and resource use of a project's app, by the hour, of the last day.

    Parameters
    ----------
    since
        Hours from this time on, such as 2026-04-07T10:00:00Z or Unix milliseconds.
    until
        Hours before this time; 31 days at most are shown at once.
    fine
        By five minutes in place of hours; those are kept for a day.
    """
    client, screen = await session.client(), session.screen
    found, by = await find_project(client, project), "5m" if fine else ""
    try:
        used = await client.usage(found, since=since, until=until, by=by)
    except RequestRefused as refused:
        raise _in_flags(refused) from refused
    screen.document(used)
    if used.now is None:
        screen.result(
            "Now: not known; it does not run, or was started within the last half minute."
        )
    else:
        screen.result(
            f"Now: {used.now.cpu_millis / 10:.0f} % of a core, {_mib(used.now.memory_bytes)}."
        )
    rows = [_row(hour.hour, hour) for hour in used.hours]
    rows += [_row(span.begins, span) for span in used.spans or ()]
    screen.table(_COLUMNS, [*rows, _row("in all", used.totals)])
    for spent in used.states:
        screen.result(f"{spent.state}: {spent.ms / _HOUR_MS:.2f} hours, ${spent.burned_usd:f}.")
    if held := used.totals.held:
        screen.result(
            f"Requests that waited until the app was started: {held}, for "
            f"{used.totals.held_ms / held / 1000:.1f} s on average."
        )


def _in_flags(refused: RequestRefused) -> RequestRefused:
    """The refusal with the name of the flag in place of the field's."""
    field = str(refused.body.get("field"))
    return RequestRefused(
        status=refused.status,
        code=refused.code,
        error=refused.error.replace(f"{field}:", f"{_FLAGS.get(field, field)}:", 1),
        retryable=refused.retryable,
        body=refused.body,
    )


def _row(name: str, used: UsageItem) -> tuple[str, ...]:
    return (
        name,
        str(used.requests),
        str(used.status.get("5xx", 0)),
        *_latency(used.latency),
        _mib(used.bytes_in),
        _mib(used.bytes_out),
        f"{used.cpu_ms / 1000:.1f} s",
        _mib(used.memory_peak_bytes),
    )


def _latency(latency: LatencyItem | UnsetType) -> tuple[str, str, str]:
    if latency is UNSET:
        return ("–", "–", "–")
    return (
        f"{latency.median_ms} ms",
        f"{latency.p95_ms} ms",
        f"{latency.slowest_ms} ms",
    )


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"


_POLL_SECONDS = 1.0
_WAIT_SECONDS = 1800


@client_command
async def export(session: Session, project: Project, file: Path | None = None, /) -> None:
    """Fetch an archive of a project: files, volume, logs, and variables for a new key.

    The key is written beside it, as FILE.key: keep it to yourself. `moorage deploy FILE --name
    OTHER` deploys it, on whichever gateway, with the variables that the key opens.

    Parameters
    ----------
    file
        The file to write, which must not exist; NAME.tar in this directory if not given.
    """
    client, screen = await session.client(), session.screen
    target = file or Path(f"{project}.tar")
    if target.exists():
        raise ClientMisconfigured(f"{target} is there already: name another file")
    private, public = new_key()
    made = await _ready(client, await find_project(client, project), public)
    await _write(client, made, target)
    manifest = read_export(target).manifest
    if manifest.sealed_to is not None:
        _write_key(Path(f"{target}.key"), private)
    screen.document(made)
    for what, why in manifest.left_out.items():
        screen.warn(f"{what}: not in the archive: {why}")
    screen.result(f"{target}: {made.bytes:,} bytes, sha256 {made.sha256}")
    screen.result(f"Next: moorage deploy {target} --name NAME")


async def _ready(client: Client, project_id: str, public_key: str) -> ExportItem:
    async with asyncio.timeout(_WAIT_SECONDS):
        while True:
            found = await client.export(project_id, public_key=public_key)
            if found.state == "ready":
                return found
            if found.state == "failed":
                raise ClientMisconfigured(f"the export could not be made: {found.reason}")
            await asyncio.sleep(_POLL_SECONDS)


async def _write(client: Client, export: ExportItem, target: Path) -> None:
    """Writes the archive; the file gets its name once it is whole."""
    draft, digest = target.with_name(f"{target.name}.part"), hashlib.sha256()
    with draft.open("wb") as out:
        os.fchmod(out.fileno(), 0o600)
        async for piece in client.fetch_export(export):
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != export.sha256:
        raise ClientMisconfigured(f"{draft} came otherwise than it was sent: run this again")
    draft.replace(target)


def _write_key(path: Path, private_key: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(f"{private_key}\n")

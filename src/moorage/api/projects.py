"""The endpoints of projects, their domains, and what they used."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from moorage.address import checksum_address
from moorage.api.discovery.guide import Facts
from moorage.api.http.caller import Caller, Front, require_bound
from moorage.api.http.idempotency import Idempotency
from moorage.api.http.problems import problem_of
from moorage.api.http.request import (
    LAST_TIME_MS,
    decode_whole,
    parse_small,
    read_whole,
    time_ms,
    whole_number,
)
from moorage.api.money import purse_body, runs_out
from moorage.api.refunds import shown_refund
from moorage.api.runs import schedules_shown
from moorage.clock import iso_utc
from moorage.errors import InvalidField, MoorageError
from moorage.hosting.addresses.addresses import Hosts
from moorage.hosting.addresses.domains import Domains
from moorage.hosting.entrance.attempt import written_warnings
from moorage.hosting.entrance.configuration import (
    Changed,
    CurrentConfig,
    Effect,
    ProjectConfiguration,
    change_request,
)
from moorage.hosting.entrance.written import Written
from moorage.hosting.keeping.deletion import DAY_MS, Deletion
from moorage.hosting.keeping.suspension import Paused, Pausing
from moorage.ledger.metering import Metering, PurseChange
from moorage.ledger.running_costs import hour_of
from moorage.money import NOTHING, MicroUsd, credits_in, usd_number, usd_text
from moorage.parsers.pool import ParserPool
from moorage.payments.relay.refund_requests import RefundRequests
from moorage.payments.taking.payment_required import Seller
from moorage.records.domain import Domain, DomainStatus
from moorage.records.project import Kind, Project, ProjectStatus
from moorage.records.usage import Consumption, UsageHour, UsageSpan, latency_in
from moorage.storage import idempotency
from moorage.storage.apps import domains, projects, usage
from moorage.storage.apps.projects import NEWEST, Place, ProjectQuery
from moorage.storage.database import MAX_IDS
from moorage.storage.money import accounts, billing
from moorage.wire.credits import Purse, PurseBody, PurseChanged
from moorage.wire.projects import (
    DnsRecord,
    DomainBody,
    DomainItem,
    DomainList,
    DomainRemoved,
    LatencyItem,
    LoadItem,
    ProjectAdopted,
    ProjectChanged,
    ProjectDeleted,
    ProjectItem,
    ProjectList,
    ProjectShown,
    ProjectUsage,
    StateItem,
    UsageHourItem,
    UsageItem,
    UsageSpanItem,
)
from moorage.wire.refunds import DeleteBody, RefundShown


@dataclass(frozen=True, kw_only=True)
class DomainRoom(Front):
    """What the handlers of domains need."""

    domains: Domains
    hosts: Hosts


async def add_domain(room: DomainRoom, request: Request, project: Project) -> DomainItem:
    """`POST /agent/projects/{projectId}/domains`: claim a domain; says which records it needs."""
    body = parse_small(await read_whole(request), DomainBody)
    claim = await room.domains.claim(project, body.domain)
    return _item(room, project, claim)


async def list_domains(room: DomainRoom, project: Project) -> DomainList:
    """`GET /agent/projects/{projectId}/domains`: a project's domains, and how they stand."""
    claims = await room.domains.of_project(project)
    listed = [_item(room, project, claim) for claim in claims]
    return DomainList(project_id=project.id, domains=listed)


async def verify_domain(room: DomainRoom, request: Request, project: Project) -> DomainItem:
    """`POST /agent/projects/{projectId}/domains/{domain}/verify`: look at its record now."""
    claim = await room.domains.verify(project, request.path_params["domain"])
    return _item(room, project, claim)


async def remove_domain(room: DomainRoom, request: Request, project: Project) -> DomainRemoved:
    """`DELETE /agent/projects/{projectId}/domains/{domain}`: remove a domain."""
    claim = await room.domains.remove(project, request.path_params["domain"])
    return DomainRemoved(domain=claim.host)


def _item(room: DomainRoom, project: Project, claim: Domain) -> DomainItem:
    target = room.hosts.host(project.unique_name)
    return DomainItem(
        domain=claim.host,
        status=claim.status,
        url=room.hosts.url_of(claim.host) if claim.status is DomainStatus.VERIFIED else None,
        problem=claim.problem,
        records=[
            DnsRecord(type="TXT", name=claim.record_name, value=claim.record_value),
            DnsRecord(type="CNAME", name=claim.host, value=target),
        ],
        next_actions=_next_actions(claim, target),
        created_at=iso_utc(claim.created_at_ms),
        verified_at=_time(claim.verified_at_ms),
        checked_at=_time(claim.checked_at_ms),
        next_check_at=_time(claim.next_check_at_ms),
    )


def _next_actions(claim: Domain, target: str) -> list[str]:
    lead = (
        f"Point {claim.host} here: a CNAME record to {target}, or where a zone allows none at its "
        f"top, A and AAAA records with the addresses of {target}."
    )
    if claim.status is DomainStatus.VERIFIED:
        return [lead]
    prove = f'Set the TXT record {claim.record_name} to "{claim.record_value}".'
    ask = "We check automatically for 7 days. To check now: POST …/verify."
    if claim.next_check_at_ms is None:
        ask = "We no longer check automatically. To check now: POST …/verify."
    return [prove, lead, ask]


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else iso_utc(time_ms)


_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_MAX_DAYS = 31
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_SUMS = (
    *("requests", "bytes_in", "bytes_out", "held", "held_ms"),
    *("cpu_ms", "memory_byte_seconds"),
)


@dataclass(frozen=True, kw_only=True)
class ProjectRoom(Front):
    """What the handlers of projects need."""

    configuration: ProjectConfiguration
    deletion: Deletion
    metering: Metering
    hosts: Hosts
    written: Written
    seller: Seller
    pausing: Pausing
    idempotency: Idempotency
    requests: RefundRequests
    facts: Facts
    parsers: ParserPool


async def show_usage(room: ProjectRoom, request: Request, project: Project) -> ProjectUsage:
    """What was used between two times, a day up to now unless given, and the sum."""
    until_ms = time_ms(request, "to", default=min(room.clock.now_ms(), LAST_TIME_MS))
    from_ms = time_ms(request, "from", default=max(0, until_ms - _DAY_MS))
    if not from_ms <= until_ms <= from_ms + _MAX_DAYS * _DAY_MS:
        raise InvalidField("from", f"must be before `to`, by at most {_MAX_DAYS} days")
    hours, spans = await _measured(room, request, project, from_ms=from_ms, until_ms=until_ms)
    spent = await room.metering.spent(room.db, project.id, start_ms=from_ms, end_ms=until_ms)
    return ProjectUsage(
        project_id=project.id,
        from_=iso_utc(from_ms),
        to=iso_utc(until_ms),
        now=await _load(room, project),
        totals=UsageItem(**_amounts(hours if spans is None else spans)),
        states=[
            StateItem(
                state="asleep" if asleep else "awake",
                ms=each.ms,
                burned_usd=usd_number(each.burned),
            )
            for asleep, each in spent.items()
        ],
        hours=[UsageHourItem(hour=iso_utc(hour.hour_ms), **_amounts([hour])) for hour in hours],
        spans=UNSET if spans is None else [_span_item(each) for each in spans],
    )


def _span_item(span: UsageSpan) -> UsageSpanItem:
    return UsageSpanItem(begins=iso_utc(span.begins_ms), **_amounts([span]))


async def _measured(
    room: Front, request: Request, project: Project, *, from_ms: int, until_ms: int
) -> tuple[list[UsageHour], list[UsageSpan] | None]:
    """Returns the hours, or, where the request asks for these, the stretches of five minutes."""
    times = {"from_ms": from_ms, "until_ms": until_ms}
    match request.query_params.get("by", "hour"):
        case "hour":
            return await usage.between(room.db, project.id, **times), None
        case "5m":
            return [], await usage.spans_between(room.db, project.id, **times)
    raise InvalidField("by", "must be hour or 5m")


async def _load(room: Front, project: Project) -> LoadItem | None:
    load = await usage.load(room.db, project.serving_deployment_id or "")
    if load is None:
        return None
    return LoadItem(cpu_millis=load.cpu_millis, memory_bytes=load.memory_bytes)


def _amounts(hours: Sequence[Consumption]) -> dict[str, Any]:
    """Returns the sum of the hours, the highest of their peaks, and the latency in all of them."""
    return {
        "latency": _latency(hours),
        "status": {
            name: sum(getattr(hour, f"status_{name}") for hour in hours) for name in _CLASSES
        },
        "memory_peak_bytes": max((hour.memory_peak_bytes for hour in hours), default=0),
    } | {name: sum(getattr(hour, name) for hour in hours) for name in _SUMS}


def _latency(hours: Sequence[Consumption]) -> LatencyItem | UnsetType:
    latency = latency_in(hours)
    return UNSET if latency is None else LatencyItem(**latency._asdict())


MAX_CHANGE_BYTES = 4 * 1024 * 1024
"""Enough for the largest set of variables as JSON, unless it is full of control characters."""

_ALL = 2**31 - 2
_MAX_ITEMS = 100
_PLACE = re.compile(r"(?P<at_ms>[0-9]{1,15})-(?P<id>[!-~]{1,64})")
_STATUSES = [each.value for each in ProjectStatus if each is not ProjectStatus.DELETED]

_MESSAGES = {
    Effect.NONE: "Nothing is changed: all of this was so before.",
    Effect.AT_ONCE: "Changed. The app runs on as it is.",
    Effect.NOTHING_RUNS: "Nothing of this project has served yet, so nothing was restarted: "
    "deploy it again.",
    Effect.DEPLOYING: "The app is started again; the present one serves until the new one is "
    "healthy. Poll status for updates.",
    Effect.UNDER_WAY: "The deployment under way takes this in. Poll its status for updates.",
    Effect.NEXT_UPLOAD: "This takes effect with the next upload.",
}
_MESSAGES_WHILE_SUSPENDED = _MESSAGES | {
    Effect.DEPLOYING: "The project is out of credits and nothing of it serves: the app is started "
    "again, and serves once the credits pay its next hour. Poll status for updates.",
}
_MESSAGES_BEFORE_ANY_SERVED = _MESSAGES | {
    Effect.NEXT_UPLOAD: "Nothing of this project has served yet: this takes effect with the next "
    "upload. POST /agent/deploy with the same uniqueName.",
}
_MESSAGES_OF_PAUSES = {
    Paused.AS_BEFORE: "Nothing is changed: it was so before.",
    Paused.PAUSED: "The project is paused: its app stops within seconds and burns nothing, and its "
    'address says so. Its files and data are kept for {days} days: {{"paused": false}} resumes it.',
    Paused.RESUMED: "The project is resumed: its app starts within seconds, and burns credits.",
    Paused.WAITING: "The project is no longer paused: its app starts as soon as the credits pay "
    "its next hour, and there is room for it.",
}
_NOT_FOR_EVER = ("out_of_credits", "project_paused")  # causes that retention ends


async def list_projects(room: ProjectRoom, request: Request, caller: Caller) -> ProjectList:
    """`GET /agent/projects`: the wallet's projects."""
    query, before = _query(caller.wallet, request), _place(request.query_params.get("before"))
    limit = whole_number(request, "limit", default=_ALL, min_=1, max_=_MAX_ITEMS)
    found = await projects.project_page(room.db, query, before=before, limit=limit + 1)
    has_more, found = len(found) > limit, found[-limit:]
    return ProjectList(
        wallet=checksum_address(caller.wallet),
        count=len(found) if limit == _ALL else await projects.count_projects(room.db, query),
        projects=[_project_item(room, project) for project in found],
        next=f"{found[0].created_at_ms}-{found[0].id}" if has_more else UNSET,
    )


def _query(wallet: str, request: Request) -> ProjectQuery:
    asked = request.query_params
    status, ids = asked.get("status", ""), asked.get("ids")
    if status and status not in _STATUSES:
        raise InvalidField("status", f"must be one of {', '.join(_STATUSES)}")
    named = tuple(ids.split(",")) if ids is not None else ()
    if len(named) > MAX_IDS:
        raise InvalidField("ids", f"must be {MAX_IDS} at most")
    return ProjectQuery(wallet, text=asked.get("search", ""), status=status, ids=named)


def _place(text: str | None) -> Place:
    if text is None:
        return NEWEST
    found = _PLACE.fullmatch(text)
    if found is None:
        raise InvalidField("before", "must be `next` of the page before this one")
    return Place(int(found["at_ms"]), found["id"])


async def show_project(room: ProjectRoom, project: Project) -> ProjectShown:
    """`GET /agent/projects/{projectId}`: one project whole."""
    now = await room.configuration.show(project)
    verified = await domains.verified_of(room.db, project.id)
    burns = await room.metering.bills(room.db, project.id)
    shown = _shown(room, project, now, verified, burns=burns)
    if shown.suspended_because == "out_of_credits" and await room.metering.is_at_limit(
        room.db, project
    ):
        shown = msgspec.structs.replace(shown, suspended_because="limit_reached", kept_until=UNSET)
    written = await room.written.by(project.serving_deployment_id)
    told = written_warnings(written, room.written.successor(project))
    purse = await _purse(room, project)
    by_clock = await schedules_shown(room.db, project)
    return msgspec.structs.replace(
        shown, warnings=list(told) or UNSET, purse=purse, schedules=by_clock or UNSET
    )


async def _purse(room: ProjectRoom, project: Project) -> Purse | UnsetType:
    """Returns what a project has of its own, if it has anything, and its limit."""
    purse = await accounts.purse(room.db, project.id)
    if purse is None or purse.is_plain:
        return UNSET
    return await purse_body(room.db, room.metering, purse)


async def set_purse(room: ProjectRoom, request: Request, project: Project) -> Response:
    """`PUT /agent/projects/{projectId}/purse`: move credits to or from it, and set its terms."""
    body = await read_whole(request)
    change = _purse_change(parse_small(body, PurseBody))
    async with room.idempotency.attempt(
        request, hashlib.sha256(body).hexdigest(), PurseChanged, wallet=project.wallet
    ) as keyed:
        if keyed.answer is not None:
            return keyed.answer
        async with room.db.transaction(durable=True) as tx:
            current = await projects.living(tx, project)
            purse = await room.metering.change_purse(tx, current, change)
            shown = await purse_body(tx, room.metering, purse)
            left = usd_number(await accounts.balance(tx, project.wallet))
            changed = PurseChanged(**msgspec.structs.asdict(shown), credits_usd=left)
            await idempotency.carried_out(tx, keyed.claim, changed)
        return keyed.answered(changed)


def _purse_change(body: PurseBody) -> PurseChange:
    """Returns the change that a body asks for. Raises InvalidField."""
    if body.add_usd is not UNSET and body.take_usd is not UNSET:
        raise InvalidField("take_usd", "must be left out where add_usd is given")
    limit = body.limit_usd_month
    return PurseChange(
        add=NOTHING if body.add_usd is UNSET else credits_in("add_usd", body.add_usd),
        take=NOTHING if body.take_usd is UNSET else credits_in("take_usd", body.take_usd),
        shared=None if body.shared is UNSET else body.shared,
        limit=limit if limit is None or limit is UNSET else credits_in("limit_usd_month", limit),
    )


async def adopt_project(room: ProjectRoom, project: Project) -> ProjectAdopted:
    """`POST /agent/projects/{projectId}/adopt`: have it share the wallet's credits."""
    async with room.db.transaction(durable=True) as tx:
        moved = await room.metering.adopt(tx, await projects.living(tx, project))
        left = await accounts.balance(tx, project.wallet)
        burning = await billing.open_of_wallet(tx, project.wallet)
    return ProjectAdopted(
        project_id=project.id,
        moved_usd=usd_number(moved),
        credits_usd=usd_number(left),
        burn_per_hour_usd=usd_number(hour_of(*(each.monthly_price_micro_usd for each in burning))),
        runs_out_at=runs_out(room.metering, left, burning),
    )


async def change_project(room: ProjectRoom, request: Request, project: Project) -> ProjectChanged:
    """`PATCH /agent/projects/{projectId}`: change what it is called, or how its app is run."""
    body = await read_whole(request, max_bytes=MAX_CHANGE_BYTES)
    document = await decode_whole(body, request.scope, room.parsers)
    change = change_request(document, min_sleep_seconds=room.facts.min_sleep_seconds)
    if change.paused is not None:
        return await _pause(room, project, paused=change.paused)
    written = None
    if change.volume and not project.volume:
        written = await room.written.by(project.serving_deployment_id, freshly=True)
    changed = await room.configuration.change(project, change, written=written)
    return _changed(project, changed)


async def _pause(room: ProjectRoom, project: Project, *, paused: bool) -> ProjectChanged:
    pausing = room.pausing
    done = await (pausing.pause(project) if paused else pausing.resume(project))
    message = _MESSAGES_OF_PAUSES[done].format(days=room.facts.retention_days)
    return ProjectChanged(project_id=project.id, status="changed", message=message)


def _changed(project: Project, changed: Changed) -> ProjectChanged:
    messages = _MESSAGES
    if project.status is ProjectStatus.SUSPENDED:
        messages = _MESSAGES_WHILE_SUSPENDED
    elif project.serving_deployment_id is None:
        messages = _MESSAGES_BEFORE_ANY_SERVED
    return ProjectChanged(
        project_id=project.id,
        deployment_id=changed.deployment_id or UNSET,
        status="deploying" if changed.deployment_id else "changed",
        message=messages[changed.effect],
    )


async def delete_project(
    room: ProjectRoom, request: Request, caller: Caller, project: Project
) -> ProjectDeleted:
    """`DELETE /agent/projects/{projectId}`: stop the app and forget the project.

    With a quote, the refund is asked for after the deletion, which stays even if that is refused.
    """
    content = await read_whole(request)
    refund = parse_small(content, DeleteBody).refund if content else ""
    if content:
        require_bound(request, caller)
        room.requests.check(caller.wallet, refund, suspend=False)
    await room.deletion.delete(project)
    shown, refused = await _refund(room, caller, refund)
    left = None  # what its wallet has is told its wallet, and nobody who may delete alone
    if caller.managed is None and not caller.delegations:
        left = await accounts.balance(room.db, project.wallet)
    deleted = _deleted(project, left, refunds=room.seller.refunds)
    return msgspec.structs.replace(deleted, refund=shown, refund_refused=refused)


async def _refund(
    room: ProjectRoom, caller: Caller, quote: str
) -> tuple[RefundShown | UnsetType, str | UnsetType]:
    """Asks for the refund of a quote, if there is one; returns it, or the code of its refusal."""
    if not quote:
        return UNSET, UNSET
    try:
        asked = await room.requests.request(caller.wallet, quote, expected=None, suspend=None)
        return shown_refund(room, await room.requests.one(caller.wallet, asked.id)), UNSET
    except MoorageError as refusal:
        return UNSET, problem_of(refusal).code


def _deleted(project: Project, left: MicroUsd | None, *, refunds: str) -> ProjectDeleted:
    data = "its volume with all that was in /data" if project.volume else "its files"
    gone = f"The app, its address and {data} are gone for good. It burns nothing more"
    if left is None:
        message = f"{gone}; credits that are left stay with its wallet."
    else:
        message = f"{gone}; {usd_text(left)} of credits is left. {refunds}"
    return ProjectDeleted(
        project_id=project.id,
        volume_deleted=project.volume,
        credits_usd=UNSET if left is None else usd_number(left),
        message=message,
    )


def _url(room: ProjectRoom, project: Project) -> str | None:
    has_address = project.serving_deployment_id is not None and project.kind is Kind.WEB
    return room.hosts.url(project.unique_name) if has_address else None


def _project_item(room: ProjectRoom, project: Project) -> ProjectItem:
    return ProjectItem(
        id=project.id,
        name=project.unique_name,
        display_name=project.display_name,
        description=project.description,
        status=project.status,
        url=_url(room, project),
        kind=project.kind,
        created_at=iso_utc(project.created_at_ms),
    )


def _shown(
    room: ProjectRoom, project: Project, now: CurrentConfig, verified: list[str], *, burns: bool
) -> ProjectShown:
    cause = _because(project) if project.status is ProjectStatus.SUSPENDED else None
    an_hour, asleep = hour_of(project.monthly_price_micro_usd), project.asleep_since_ms is not None
    an_hour_asleep = hour_of(project.asleep_price_micro_usd)
    now_burns = (an_hour_asleep if asleep else an_hour) if burns else NOTHING
    return ProjectShown(
        id=project.id,
        name=project.unique_name,
        display_name=project.display_name,
        description=project.description,
        status=project.status,
        url=_url(room, project),
        kind=project.kind,
        domains=verified,
        created_at=iso_utc(project.created_at_ms),
        serving_deployment_id=project.serving_deployment_id,
        deployment_in_progress=now.under_way[0].id if now.under_way else None,
        run_env_names=sorted(now.variables.run),
        build_var_names=sorted(now.variables.build),
        health_path=now.health_path,
        size=project.size,
        volume=project.volume,
        asleep=asleep,
        sleep_after_seconds=project.sleep_after_seconds,
        burn_per_hour_usd=usd_number(now_burns),
        price_per_hour_usd=usd_number(an_hour),
        asleep_per_hour_usd=usd_number(an_hour_asleep),
        suspended_because=cause or UNSET,
        kept_until=_kept_until(room, project) if cause in _NOT_FOR_EVER else UNSET,
        blocked_reason=project.blocked_reason or UNSET,
    )


def _kept_until(room: ProjectRoom, project: Project) -> str | UnsetType:
    """Returns when a project is deleted if it stays suspended; its time is billed time."""
    if project.suspended_at_ms is None:
        return UNSET
    kept_ms = room.facts.retention_days * DAY_MS
    return iso_utc(room.metering.time.wall_ms(project.suspended_at_ms) + kept_ms)


def _because(project: Project) -> str:
    """Returns why a project is suspended."""
    if project.blocked_reason is not None:
        return "project_blocked"
    if project.paused_at_ms is not None:
        return "project_paused"
    return "out_of_credits" if project.no_space_since_ms is None else "no_capacity"

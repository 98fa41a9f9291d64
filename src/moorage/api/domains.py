"""The endpoints of a project's domains."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.bodies import parse_small, read_whole
from moorage.api.http.caller import Front, owned_project
from moorage.api.http.problems import json_response
from moorage.clock import iso_utc
from moorage.deploy.addresses.domains import Domains
from moorage.deploy.addresses.hosts import Hosts
from moorage.records.domain import Domain, DomainStatus
from moorage.records.project import Project
from moorage.wire.domains import DnsRecord, DomainBody, DomainItem, DomainList, DomainRemoved


@dataclass(frozen=True, kw_only=True)
class DomainRoom(Front):
    """What the handlers of domains need."""

    domains: Domains
    hosts: Hosts


async def add_domain(room: DomainRoom, request: Request) -> Response:
    """`POST /agent/projects/{projectId}/domains`: claim a domain; says which records it needs."""
    project = await owned_project(room, request)
    body = parse_small(await read_whole(request), DomainBody)
    claim = await room.domains.claim(project, body.domain)
    return json_response(_item(room, project, claim))


async def list_domains(room: DomainRoom, request: Request) -> Response:
    """`GET /agent/projects/{projectId}/domains`: a project's domains, and how they stand."""
    project = await owned_project(room, request)
    claims = await room.domains.of_project(project)
    listed = [_item(room, project, claim) for claim in claims]
    return json_response(DomainList(project_id=project.id, domains=listed))


async def verify_domain(room: DomainRoom, request: Request) -> Response:
    """`POST /agent/projects/{projectId}/domains/{domain}/verify`: look at its record now."""
    project = await owned_project(room, request)
    claim = await room.domains.verify(project, request.path_params["domain"])
    return json_response(_item(room, project, claim))


async def remove_domain(room: DomainRoom, request: Request) -> Response:
    """`DELETE /agent/projects/{projectId}/domains/{domain}`: remove a domain."""
    project = await owned_project(room, request)
    claim = await room.domains.remove(project, request.path_params["domain"])
    return json_response(DomainRemoved(domain=claim.host))


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

"""Answers in place of apps: pages for visitors, and the proxy's requests to wake an app."""

from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.auth.rate_limit import TrustedProxies
from moorage.certificates.services import CertificateServices
from moorage.gateway.assembly import Rooms
from moorage.hosting.keeping.restarts import next_try
from moorage.records.project import Kind, Project, ProjectStatus
from moorage.routing.pages import Absence, HostState, fallback_app
from moorage.routing.waking import Visitor, Waking
from moorage.storage.apps import jobs

CHALLENGES = "/.well-known/acme-challenge/"
"""Where certificate authorities ask, at any host and over plain HTTP (RFC 8555, 8.3)."""


def pages_app(rooms: Rooms) -> Any:
    """Returns the app that answers visitors when their host's app does not."""
    return fallback_app(
        _lookup(rooms),
        base_domain=rooms.platform.hosts.base_domain,
        gateway_url=rooms.platform.gateway_url,
        visitor=_visitor(rooms.api.proxies),
    )


def challenges_app(secured: CertificateServices | None, *, otherwise: ASGIApp) -> ASGIApp:
    """Returns an app that answers authorities; `otherwise` has all else, tokens of others too."""
    if secured is None:
        return otherwise
    answer = secured.proofs.answer

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        token = path.removeprefix(CHALLENGES) if path.startswith(CHALLENGES) else ""
        found = await answer(token) if token else None
        shown = otherwise if found is None else Response(found, media_type="text/plain")
        await shown(scope, receive, send)

    return app


def waking(rooms: Rooms) -> Waking:
    """Returns what has apps started for the proxy."""

    async def owner(host: str) -> str | None:
        project = await rooms.deploy.addresses.project_at(host)
        return None if project is None else project.wallet

    return Waking(rooms.deploy.waking.host, owner=owner, visitor=_visitor(rooms.api.proxies))


def _visitor(trusted: TrustedProxies) -> Visitor:
    """Returns a look-up of what an address is counted by; None for another proxy's."""

    def visitor(address: str) -> str | None:
        return None if not address or trusted.trusts(address) else trusted.limit_key(address)

    return visitor


def _lookup(rooms: Rooms) -> Callable[[str], Awaitable[Absence]]:
    """Returns a look-up of why no app answers at a host."""

    deploy = rooms.deploy

    async def lookup(host: str) -> Absence:
        project = await deploy.addresses.project_at(host)
        if project is None or project.status is ProjectStatus.DELETING:
            return Absence(HostState.UNKNOWN)
        if project.kind is Kind.WORKER:
            return Absence(HostState.UNKNOWN)  # nobody is to visit it
        absence = await _absence(project, rooms)
        if absence.state is HostState.ASLEEP and not await deploy.capacity.has_memory(project):
            return Absence(HostState.NO_ROOM)
        return absence

    return lookup


async def _absence(project: Project, rooms: Rooms) -> Absence:
    serving = project.serving_deployment_id
    match project.status:
        case ProjectStatus.SUSPENDED:
            return Absence(await _why_suspended(project, rooms))
        case ProjectStatus.FAILED:
            return Absence(HostState.FAILED)
        case ProjectStatus.ACTIVE if project.volume and await jobs.is_moving(
            rooms.core.db, project.id
        ):
            return Absence(HostState.MOVING)
        case ProjectStatus.ACTIVE if project.asleep_since_ms is not None:
            return Absence(HostState.ASLEEP)
        case ProjectStatus.ACTIVE if serving is not None and project.down_since_ms is not None:
            now_ms = rooms.core.clock.now_ms()
            is_loop, wait_seconds = await next_try(rooms.core.db, serving, now_ms=now_ms)
            return Absence(
                HostState.CRASH_LOOPING if is_loop else HostState.STOPPED,
                retry_after_seconds=ceil(wait_seconds) or None,
            )
        case ProjectStatus.ACTIVE:
            return Absence(HostState.UNHEALTHY)
    return Absence(HostState.DEPLOYING)


async def _why_suspended(project: Project, rooms: Rooms) -> HostState:
    if project.blocked_reason is not None:
        return HostState.BLOCKED
    if project.paused_at_ms is not None:
        return HostState.PAUSED
    if project.no_space_since_ms is not None:
        return HostState.NO_SPACE
    is_at_limit = await rooms.ledger.metering.is_at_limit(rooms.core.db, project)
    return HostState.AT_LIMIT if is_at_limit else HostState.SUSPENDED

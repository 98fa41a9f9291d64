"""The composition root: opens everything in the order it depends on each other, and runs it.

This package is the one place that reads settings and names concrete classes.
"""

import asyncio
import gc
import resource
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import msgspec
import structlog
from starlette.requests import Request

from moorage.api.connections.connection import Bounds
from moorage.api.connections.server import HttpServer
from moorage.api.http.request_context import RequestContext
from moorage.api.routes import http_app
from moorage.api.services import Gateway
from moorage.auth.client_address import TrustedProxies, rate_limit_key
from moorage.chains.chain import Chain
from moorage.chains.rpc import RpcClient
from moorage.clock import SystemClock
from moorage.deploy.keeping.reconciler import Reconciler
from moorage.deploy.keeping.restarts import Restarts
from moorage.errors import ProxyFailed
from moorage.gateway.assembly import Services, Stores, assemble, open_stores
from moorage.gateway.operator_port import Check, operator_app
from moorage.gateway.platform import OpenPlatform, Platform, http_url, listen, open_platform
from moorage.gateway.secrets_key import open_vault
from moorage.loop import Loop, Run, Scope
from moorage.parsers.pool import ParserPool
from moorage.payments.taking.recipients import note_recipient
from moorage.records.project import Project, ProjectStatus
from moorage.routing.caddy_routes import FALLBACK_SOCKET, WAKE_SOCKET
from moorage.routing.listener import listen_unix
from moorage.routing.pages import Absence, HostState, fallback_app
from moorage.routing.waking import MOST_QUESTIONS, Visitor, waking_app
from moorage.settings import Settings
from moorage.storage.apps.toolchains import in_use
from moorage.storage.purpose import Purpose

log = structlog.get_logger()

_PURGE_SECONDS = 300.0
_TOOLCHAINS_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class GatewayAddresses:
    """Where a running gateway answers, and how it isolates apps."""

    gateway: str
    operator: str
    proxy: str
    isolation: str


async def run_gateway(
    settings: Settings,
    *,
    chains: dict[str, Chain],
    pay_to: str,
    on_ready: Callable[[GatewayAddresses], None],
    stop: asyncio.Event,
    stop_apps: bool,
    purpose: Purpose,
    open_platform: OpenPlatform = open_platform,
    speed: float = 1.0,
) -> None:
    """Run a gateway until `stop` is set. `settings.data_dir` must be absolute.

    `open_platform` opens what apps run on; `speed` divides the pauses of periodic work.
    With `stop_apps` nothing is left running; without, apps and proxy go on for the next start.
    Raises what a part raises when it can't be opened.
    """
    _forbid_core_dumps()
    bounds = _bounds(_raise_descriptor_limit())
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        stores = open_stores(stack, settings, chains, purpose=purpose, clock=clock)
        vault = await open_vault(settings, stores.db)
        platform = await open_platform(
            stack,
            settings,
            clock=clock,
            stop_apps=stop_apps,
            needed_toolchains=partial(in_use, stores.db),
        )
        former = await note_recipient(stores.db, pay_to, clock=clock)
        services = assemble(
            settings,
            stores,
            platform,
            parsers=await _open_parsers(stack),
            vault=vault,
            chains=chains,
            pay_to=pay_to,
            former=former,
            clock=clock,
        )
        await services.gateway.reconciler.sweep()
        await services.gateway.reconciler.restarts.recall()
        await services.gateway.addresses.sweep()
        await services.ledger.metering.resume(await platform.runtime.running())
        await services.deploy.suspension.enforce()
        await services.gateway.reconciler.reconcile()
        await services.deploy.space.look()
        await services.payments.settlement_follow_up.check_balances()
        operator = listen("127.0.0.1", settings.operator_port, "operator_port")
        servers = _servers(services, stores, platform, operator, bounds)
        async with asyncio.TaskGroup() as tasks:
            running = [
                *(tasks.create_task(run()) for run in _runs(services, platform, servers)),
                *(
                    tasks.create_task(loop.run(stores.leases.hold, speed=speed))
                    for loop in _loops(services, platform)
                ),
                tasks.create_task(stores.leases.run()),
            ]
            _spare_the_collector()
            on_ready(
                GatewayAddresses(
                    gateway=platform.gateway_url,
                    operator=http_url("127.0.0.1", operator.getsockname()[1]),
                    proxy=http_url(settings.proxy_host, platform.proxy_port),
                    isolation=platform.isolation,
                )
            )
            await stop.wait()
            services.gateway.followers.end_all()
            for task in running:
                task.cancel()


async def _open_parsers(stack: AsyncExitStack) -> ParserPool:
    """The processes that read uploads. Raises ConfigurationInvalid."""
    parsers = ParserPool()
    stack.push_async_callback(parsers.close)
    await parsers.open()
    return parsers


def _servers(
    services: Services,
    stores: Stores,
    platform: Platform,
    operator: socket.socket,
    bounds: Bounds,
) -> list[HttpServer]:
    gateway, proxy_dir = services.gateway, platform.proxy_dir
    checks = _checks(stores, platform, services)
    return [
        HttpServer(
            _api(gateway),
            platform.api_listener,
            bounds=bounds,
            proxies=gateway.trusted_proxies,
        ),
        HttpServer(operator_app(checks, gateway.certificates.may_have), operator),
        HttpServer(_fallback(gateway), listen_unix(proxy_dir / FALLBACK_SOCKET)),
        HttpServer(
            _waking(gateway),
            listen_unix(proxy_dir / WAKE_SOCKET),
            bounds=Bounds(connections=MOST_QUESTIONS),
        ),
    ]


def _forbid_core_dumps() -> None:
    """A dump would hold keys and deployers' variables.

    One byte, not none: the kernel then starts no `core_pattern` program either (core(5)).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard != 0:
        resource.setrlimit(resource.RLIMIT_CORE, (1, hard))


def _raise_descriptor_limit() -> int:
    """Raises the limit of open files as far as it may be; gives it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _bounds(descriptors: int) -> Bounds:
    """The API's connections take a quarter of the descriptors at most.

    The rest is for the database, the proxy, uploads and the pipes of apps, so that no number of
    connections keeps these from working, or the next connection from being accepted.
    """
    usual = Bounds()
    connections = min(usual.connections, descriptors // 4)
    return msgspec.structs.replace(
        usual,
        connections=connections,
        connections_by_address=min(usual.connections_by_address, connections // 4),
    )


def _spare_the_collector() -> None:
    """What is here by now stays: walking all of it at every full collection takes 70 ms."""
    gc.collect()
    gc.freeze()


def _runs(services: Services, platform: Platform, servers: list[HttpServer]) -> list[Run]:
    """Everything that goes on until the gateway stops, but the loops."""
    return [
        services.gateway.db.run,
        *services.deploy.runs,
        *services.events.runs,
        services.gateway.inventory.run,
        platform.caddy.keep_running,
        *(server.run for server in servers),
    ]


def _loops(services: Services, platform: Platform) -> list[Loop]:
    return [
        *services.ledger.loops,
        *services.deploy.loops,
        *services.events.loops,
        *services.payments.loops,
        Loop(
            "toolchains",
            every_seconds=_TOOLCHAINS_SECONDS,
            tick=platform.toolchains.store.collect,
            scope=Scope.NODE,
        ),
        Loop(
            "kept answers",
            every_seconds=_PURGE_SECONDS,
            tick=services.gateway.idempotency.purge,
            scope=Scope.CLUSTER,
        ),
    ]


def _api(gateway: Gateway) -> RequestContext:
    return RequestContext(http_app(gateway), gateway.trusted_proxies)


def _fallback(gateway: Gateway) -> Any:
    return fallback_app(
        _lookup(gateway),
        base_domain=gateway.hosts.base_domain,
        gateway_url=gateway.public_url,
        visitor=_visitor(gateway.trusted_proxies),
    )


def _waking(gateway: Gateway) -> Any:
    async def owner(host: str) -> str | None:
        project = await gateway.addresses.project_at(host)
        return None if project is None else project.wallet

    return waking_app(gateway.wake.host, owner=owner, visitor=_visitor(gateway.trusted_proxies))


def _visitor(trusted: TrustedProxies) -> Visitor:
    """Who asked the proxy; not known of those who came through another proxy before it."""

    def visitor(request: Request) -> str | None:
        address = request.headers.get("x-real-ip", "")
        return None if not address or trusted.trusts(address) else rate_limit_key(address)

    return visitor


def _lookup(gateway: Gateway) -> Callable[[str], Awaitable[Absence]]:
    """Why no app answers at a host: for the pages that stand in for it."""

    async def lookup(host: str) -> Absence:
        project = await gateway.addresses.project_at(host)
        if project is None or project.status is ProjectStatus.DELETING:
            return Absence(HostState.UNKNOWN)
        absence = _absence(project, gateway.reconciler)
        if absence.state is HostState.ASLEEP and not await gateway.wake.has_room(project):
            return Absence(HostState.NO_ROOM)
        return absence

    return lookup


def _absence(project: Project, reconciler: Reconciler) -> Absence:
    serving = project.serving_deployment_id
    match project.status:
        case ProjectStatus.SUSPENDED if project.blocked_reason is not None:
            return Absence(HostState.BLOCKED)
        case ProjectStatus.SUSPENDED if project.no_space_since_ms is not None:
            return Absence(HostState.NO_SPACE)
        case ProjectStatus.SUSPENDED:
            return Absence(HostState.SUSPENDED)
        case ProjectStatus.FAILED:
            return Absence(HostState.FAILED)
        case ProjectStatus.ACTIVE if project.asleep_since_ms is not None:
            return Absence(HostState.ASLEEP)
        case ProjectStatus.ACTIVE if serving is not None and serving in reconciler.dead:
            return _stopped(serving, reconciler.restarts)
        case ProjectStatus.ACTIVE:
            return Absence(HostState.UNHEALTHY)
    return Absence(HostState.DEPLOYING)


def _stopped(serving: str, restarts: Restarts) -> Absence:
    """Of an app that should run: to be asked for again when it is started again."""
    looping = restarts.crash_loop(serving) is not None
    wait_seconds = restarts.wait_seconds(serving)
    return Absence(
        HostState.CRASH_LOOPING if looping else HostState.STOPPED,
        retry_after_seconds=ceil(wait_seconds) or None,
    )


def _checks(stores: Stores, platform: Platform, services: Services) -> dict[str, Check]:
    """What readiness asks of each part."""

    async def proxy() -> None:
        if not platform.caddy.alive():
            raise ProxyFailed

    chains = {f"chain {name}": _chain_check(client) for name, client in stores.clients.items()}
    return {
        "database": stores.db.check,
        "runtime": platform.runtime.check,
        "disk": services.deploy.capacity.check,
        "proxy": proxy,
        **chains,
        **{f"search of {it.chain_name}": it.check for it in services.payments.watchers},
    }


def _chain_check(client: RpcClient) -> Check:
    async def check() -> None:
        await client.call("eth_blockNumber", [])

    return check

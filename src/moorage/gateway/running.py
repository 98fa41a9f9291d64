"""Runs a gateway: opens its parts in the order of their dependencies, and closes them again."""

import asyncio
import gc
import resource
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from moorage.api.connections.connection import Bounds
from moorage.api.connections.server import HttpServer
from moorage.api.http.caller import address_key
from moorage.api.http.request_context import RequestContext
from moorage.api.routes import http_app, operations_app
from moorage.chains.chain import Chain
from moorage.clock import SystemClock
from moorage.gateway.assembly import Rooms, open_core, open_nonces, open_rooms
from moorage.gateway.data_directory import open_data_directory
from moorage.gateway.operator_port import checks_of, operator_app
from moorage.gateway.pages import pages_app, questions_app
from moorage.gateway.platform import OpenPlatform, http_url, listen, open_platform
from moorage.mcp.remote.endpoint import McpEndpoint
from moorage.routing.caddy_routes import FALLBACK_SOCKET, WAKE_SOCKET
from moorage.routing.listener import listen_unix
from moorage.routing.waking import MAX_QUESTIONS
from moorage.settings import Settings
from moorage.storage.apps.toolchains import in_use
from moorage.storage.purpose import Purpose
from moorage.threads import in_thread


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
    """Runs a gateway until `stop` is set. `settings.data_dir` must be absolute.

    `open_platform` opens what apps run on; `speed` divides the pauses of periodic work.
    With `stop_apps` nothing is left running; without it, apps and proxy run on until the next
    start. Raises what a part raises when it can't be opened.
    """
    _forbid_core_dumps()
    bounds = _bounds(_raise_descriptor_limit())
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        await in_thread(
            open_data_directory, Path(settings.data_dir), purpose, settings.database_url
        )
        nonces = open_nonces(stack, settings, clock)
        core = await open_core(stack, settings, clock, purpose=purpose, speed=speed)
        platform = await open_platform(
            stack,
            settings,
            clock=clock,
            stop_apps=stop_apps,
            needed_toolchains=partial(in_use, core.db),
        )
        rooms = await open_rooms(
            stack,
            settings,
            core=core,
            platform=platform,
            nonces=nonces,
            chains=chains,
            pay_to=pay_to,
        )
        await _catch_up(rooms)
        operator = listen("127.0.0.1", settings.operator_port, "operator_port")
        addresses = GatewayAddresses(
            gateway=platform.gateway_url,
            operator=http_url("127.0.0.1", operator.getsockname()[1]),
            proxy=http_url(settings.proxy_host, platform.proxy_port),
            isolation=platform.isolation,
        )
        mcp = _mcp_endpoint(rooms)
        servers = _servers(rooms, operator, bounds, mcp)
        async with asyncio.TaskGroup() as tasks:
            running = [
                *(tasks.create_task(run()) for run in (*rooms.runs, mcp.run)),
                *(
                    tasks.create_task(loop.run(core.leases.hold, speed=speed))
                    for loop in rooms.loops
                ),
                *(tasks.create_task(server.run()) for server in servers),
            ]
            _freeze_garbage_collector()
            on_ready(addresses)
            await stop.wait()
            rooms.api.followers.end_all()
            for task in running:
                task.cancel()


async def _catch_up(rooms: Rooms) -> None:
    """Handles what happened while no gateway ran, before requests are accepted."""
    deploy = rooms.deploy
    await deploy.reconciler.sweep()
    await deploy.reconciler.restarts.recall()
    await deploy.addresses.sweep()
    await rooms.ledger.metering.resume(await rooms.platform.runtime.running())
    await deploy.suspension.enforce()
    await deploy.reconciler.reconcile()
    await deploy.space.look()
    await rooms.payments.settlement_follow_up.check_balances()


def _mcp_endpoint(rooms: Rooms) -> McpEndpoint:
    http = rooms.api.http
    return McpEndpoint(
        operations_app(http),
        public_url=http.front.public_url,
        address_of=partial(address_key, http.front),
        arrivals=http.arrivals,
        limiter=rooms.api.mcp_limiter,
        clock=rooms.core.clock,
    )


def _servers(
    rooms: Rooms, operator: socket.socket, bounds: Bounds, mcp: McpEndpoint
) -> list[HttpServer]:
    proxies, proxy_dir = rooms.api.proxies, rooms.platform.proxy_dir
    api = RequestContext(http_app(rooms.api.http, mcp=mcp), proxies)
    may_have_certificate = rooms.deploy.certificates.may_have
    return [
        HttpServer(api, rooms.platform.api_listener, bounds=bounds, proxies=proxies),
        HttpServer(operator_app(checks_of(rooms), may_have_certificate), operator),
        HttpServer(pages_app(rooms), listen_unix(proxy_dir / FALLBACK_SOCKET)),
        HttpServer(
            questions_app(rooms),
            listen_unix(proxy_dir / WAKE_SOCKET),
            bounds=Bounds(connections=MAX_QUESTIONS),
        ),
    ]


def _forbid_core_dumps() -> None:
    """Forbids core dumps: they would hold keys and deployers' variables.

    The limit is one byte, not 0: then the kernel starts no `core_pattern` program either (core(5)).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard != 0:
        resource.setrlimit(resource.RLIMIT_CORE, (1, hard))


def _raise_descriptor_limit() -> int:
    """Raises the limit of open files to its maximum; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _bounds(descriptors: int) -> Bounds:
    """Returns limits by which connections take at most a quarter of the descriptors.

    The rest is for the database, the proxy, uploads, the pipes of apps, and accepting the next
    connection.
    """
    default = Bounds()
    connections = min(default.connections, descriptors // 4)
    return msgspec.structs.replace(
        default,
        connections=connections,
        connections_by_address=min(default.connections_by_address, connections // 4),
    )


def _freeze_garbage_collector() -> None:
    """Excludes the objects made so far from garbage collection: a full one would take 70 ms."""
    gc.collect()
    gc.freeze()

"""Runs a gateway: opens its parts in the order of their dependencies, and closes them again.

SIGINT and SIGTERM end it, SIGHUP reads the settings again.
"""

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage import logs
from moorage.api.http.caller import address_key, limit_address
from moorage.api.http.connections import Bounds, FairShare, HttpServer
from moorage.api.http.request_context import RequestContext
from moorage.api.operations import Pages, http_app, operations_app
from moorage.auth.nonces import NonceStore
from moorage.chains.chain import Chain
from moorage.clock import Clock, SystemClock
from moorage.core import Core
from moorage.errors import MoorageError
from moorage.gateway.assembly import Rooms, open_core, open_nonces, open_rooms, open_shared
from moorage.gateway.configuration import (
    receiving_address,
    record_changes,
    serving_chains,
    take_configuration,
)
from moorage.gateway.data_directory import open_data_directory
from moorage.gateway.duplicate_gateway_check import (
    DuplicateGatewayCheck,
    hold_addresses,
    taken_addresses,
)
from moorage.gateway.engine_choice import has_several_proxies, require_open_engines
from moorage.gateway.leadership import (
    Leadership,
    done_before,
    lead_alone,
    open_leadership,
    open_lease,
)
from moorage.gateway.operator_port import (
    OpenOperatorPages,
    OperatorPages,
    checks_of,
    guarded,
    operator_app,
)
from moorage.gateway.pages import challenges_app, pages_app, waking
from moorage.gateway.platform import (
    Opening,
    OpenPlatform,
    Platform,
    http_url,
    listen,
    open_platform,
)
from moorage.gateway.platform_beside import open_beside, open_following
from moorage.gateway.upkeep import loops_of_upkeep
from moorage.hosting.loops import OLD_SOURCES_SECONDS
from moorage.loop import Keeps, always
from moorage.mcp.remote import McpEndpoint
from moorage.pages.sessions.session import operator_guard, wallet_guard
from moorage.pages.sessions.sign_in import Confirmations, wallet_login
from moorage.pages.wallet.site import PREFIXES, WalletSite
from moorage.routing.haproxy_config import FALLBACK_SOCKET, WAKE_SOCKET
from moorage.routing.pages import listen_unix
from moorage.routing.waking import QuestionServer
from moorage.settings import Settings, recorded
from moorage.storage.apps.deployments import toolchains_in_use
from moorage.storage.migrate import migrate
from moorage.storage.opening import Purpose
from moorage.threads import in_thread

log = structlog.get_logger()

AT_ONCE = {
    "log_level",
    "terms_url",
    "contact",
    "requests_per_minute",
    "listed_wallets_only",
    "projects_per_wallet",
    "retention_days",
}
"""The settings that change without a restart."""

Configure = Callable[..., None]
"""Sets how is logged, as `logs.configure`."""


class Reload:
    """What a gateway does when it is asked to read its settings again, which `load` returns."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        configure: Configure = logs.configure,
    ) -> None:
        self.settings = settings
        """Those of the start, with what has changed since."""
        self._load = load
        self._configure = configure
        self._asked = asyncio.Event()

    def on_hangup(self) -> None:
        """Has SIGHUP read the settings again, from now on."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked.set)

    async def follow(self, rooms: Rooms) -> None:
        """Reads them each time that it is asked to, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.read(rooms.core, partial(take, rooms))

    async def read(self, core: Core, put_in_force: Callable[[Settings], None]) -> None:
        """Reads them once: all that can change at once does, and is recorded, or nothing."""
        try:
            now = self._load()
            logs.threshold_of(now.log_level)  # raises for an unknown one, before anything changes
            changed = _changed(self.settings, now)
            taken = changed & AT_ONCE
            settings = msgspec.structs.replace(
                self.settings, **{name: getattr(now, name) for name in taken}
            )
            await record_changes(core.db, settings, clock=core.clock)
        except MoorageError as error:
            log.error("settings are not read again", error=error.message)
            return
        if "log_level" in taken:
            self._configure(level=settings.log_level)
        put_in_force(settings)
        self.settings = settings
        log.info("settings read again", taken=sorted(taken), restart=sorted(changed - AT_ONCE))


def take(rooms: Rooms, settings: Settings) -> None:
    """Puts the settings of `AT_ONCE` in force, in a gateway that runs."""
    rooms.api.change(settings)
    rooms.deploy.quotas.change(
        listed_only=settings.listed_wallets_only, projects=settings.projects_per_wallet
    )
    rooms.deploy.retention.change(suspended_days=settings.retention_days)


def _changed(before: Settings, after: Settings) -> set[str]:
    """Returns the names of the settings that differ. Raises InvalidField."""
    old, new = recorded(before), recorded(after)
    return {name for name in old | new if old.get(name) != new.get(name)}


def forbid_core_dumps() -> None:
    """Forbids core dumps: they would hold keys and deployers' variables.

    The limit is one byte, not 0: then the kernel starts no `core_pattern` program either (core(5)).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard != 0:
        resource.setrlimit(resource.RLIMIT_CORE, (1, hard))


def raise_descriptor_limit() -> None:
    """Raises the limit of open files to its maximum."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop_on_signals() -> asyncio.Event:
    """Returns an event that SIGINT or SIGTERM sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


@dataclass(frozen=True, kw_only=True)
class GatewayAddresses:
    """Where a running gateway answers, and how it isolates apps."""

    gateway: str
    operator: str
    proxy: str
    isolation: str


@dataclass(frozen=True, kw_only=True)
class GatewayRun:
    """One run of a gateway. `settings.data_dir` must be absolute."""

    settings: Settings
    chains: dict[str, Chain]
    pay_to: str
    on_ready: Callable[[GatewayAddresses], None]
    stop_apps: bool  # at its end; else apps and proxy run on until the next start
    purpose: Purpose
    open_platform: OpenPlatform = open_platform  # what apps run on
    open_beside: OpenPlatform = open_beside  # what is known of it while another keeps the apps
    speed: float = 1.0  # divides the pauses of periodic work
    audit: Sequence[str] = ()  # the command that audits the books each day; empty for none
    reload: Reload | None = None  # reads the settings again
    open_pages: OpenOperatorPages | None = None
    duplicates: DuplicateGatewayCheck | None = None  # None where its chains are its own
    leadership: Leadership | None = None  # of several gateways
    clock: Clock = field(default_factory=SystemClock)

    async def until(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set. Raises what a part raises when it can't be opened."""
        forbid_core_dumps()
        raise_descriptor_limit()
        settings, clock = self.settings, self.clock
        async with AsyncExitStack() as stack:
            directory = Path(settings.data_dir)
            await in_thread(open_data_directory, directory, self.purpose, settings.database_url)
            if not settings.gateway_name:
                nonces = open_nonces(stack, settings, clock)
                listener = _listen(stack, settings)
                await in_thread(migrate, settings.database)
                serve = partial(self.serve, listener, self.open_platform, nonces=nonces)
                if settings.database_url:
                    await lead_alone(await open_lease(stack, settings, clock), serve, stop=stop)
                else:
                    await serve(stop)
                return
            leadership = await open_leadership(stack, settings, clock)
            beside = open_following if has_several_proxies(settings) else self.open_beside
            listener, led = _listen(stack, settings), replace(self, leadership=leadership)
            await leadership.run(
                beside=partial(led.serve, listener, beside),
                lead=partial(
                    led.serve, listener, self.open_platform, keeps=lambda: leadership.holds
                ),
                stop=stop,
            )

    async def serve(
        self,
        listener: socket.socket,
        open_platform: OpenPlatform,
        stop: asyncio.Event,
        *,
        nonces: NonceStore | None = None,
        keeps: Keeps = always,
    ) -> None:
        """Opens all parts and serves until `stop` is set; without `nonces`, uses shared ones.

        `keeps` says whether what was opened to keep the apps may still do so.
        """
        settings = self.settings if self.reload is None else self.reload.settings
        async with AsyncExitStack() as stack:
            core = await open_core(
                stack, settings, self.clock, purpose=self.purpose, speed=self.speed
            )
            if self.duplicates is not None:
                addresses = await taken_addresses(settings, core.db, pay_to=self.pay_to)
                await hold_addresses(stack, settings, core.db, addresses=addresses)
                await self.duplicates.enter(core.db, addresses)
            settings = await take_configuration(core.db, settings, clock=self.clock)
            nonces = await open_shared(core) if nonces is None else nonces
            opening = Opening(
                listener=listener.dup(),  # a server closes its own
                clock=self.clock,
                instance=core.instance,
                stop_apps=self.stop_apps,
                keeps=keeps,
                needed_toolchains=partial(toolchains_in_use, core.db),
                shared=core.shared,
            )
            platform = await open_platform(stack, settings, opening)
            rooms = await open_rooms(
                stack,
                settings,
                core=core,
                platform=platform,
                nonces=nonces,
                chains=self.chains,
                pay_to=self.pay_to,
                leadership=self.leadership,
                duplicates=self.duplicates,
            )
            upkeep = loops_of_upkeep(rooms, settings, audit=self.audit)
            if not await done_before(stop, _catch_up(rooms)):
                return
            operator = listen(settings.operator_host, settings.operator_port, "operator_listen")
            mcp = _mcp_endpoint(rooms)
            pages = await self._open_pages(rooms, settings)
            servers = _servers(rooms, settings, operator, mcp, pages)
            page_runs = () if pages is None else pages.runs
            works = (*rooms.runs, mcp.run, *page_runs, *(server.run for server in servers))
            async with asyncio.TaskGroup() as tasks:
                running = [
                    *(tasks.create_task(run()) for run in works),
                    *((tasks.create_task(self.reload.follow(rooms)),) if self.reload else ()),
                    *(
                        tasks.create_task(
                            loop.run(
                                core.leases.hold, keeps=keeps, speed=self.speed, ticks=core.ticks
                            )
                        )
                        for loop in (*rooms.loops, *upkeep)
                    ),
                ]
                _freeze_garbage_collector()
                self.on_ready(_addresses(settings, platform, operator))
                await stop.wait()
                rooms.api.followers.end_all()
                for task in running:
                    task.cancel()

    async def _open_pages(self, rooms: Rooms, settings: Settings) -> OperatorPages | None:
        """Opens the operator's pages, if there are any, over the settings in force."""
        if self.open_pages is None:
            return None
        reload = self.reload
        return await self.open_pages(rooms, lambda: settings if reload is None else reload.settings)


def _listen(stack: AsyncExitStack, settings: Settings) -> socket.socket:
    """Returns the API's listening socket, which `stack` closes."""
    shared = bool(settings.gateway_name)
    listener = listen(settings.host, settings.port, "listen", shared=shared)
    stack.callback(listener.close)
    return listener


def _addresses(settings: Settings, platform: Platform, operator: socket.socket) -> GatewayAddresses:
    return GatewayAddresses(
        gateway=platform.gateway_url,
        operator=http_url(settings.operator_host, operator.getsockname()[1]),
        proxy=http_url(settings.proxy_host, platform.proxy_port),
        isolation=platform.isolation,
    )


async def _catch_up(rooms: Rooms) -> None:
    """Handles what happened while no gateway ran, before requests are accepted."""
    await rooms.payments.settlement_follow_up.check_balances()
    if rooms.platform.runner is None:
        await rooms.ledger.metering.time.resume(rooms.core.db)
        return
    await require_open_engines(rooms.core.db, rooms.platform.runner.engines)
    deploy = rooms.deploy
    min_age_seconds = OLD_SOURCES_SECONDS if rooms.core.name else 0.0
    await deploy.reconciler.sweep(min_age_seconds=min_age_seconds)
    await deploy.reconciler.restarts.recall()
    await deploy.addresses.sweep()
    await rooms.ledger.metering.resume(await rooms.platform.runner.runtime.running())
    await deploy.suspension.enforce()
    await deploy.reconciler.reconcile()
    await deploy.space.look()


def _mcp_endpoint(rooms: Rooms) -> McpEndpoint:
    http = rooms.api.http
    return McpEndpoint(
        operations_app(http),
        public_url=http.front.public_url,
        address_of=partial(address_key, http.front),
        arrivals=http.arrivals,
        limiter=rooms.api.mcp_limiter,
        parsers=rooms.parsers,
        clock=rooms.core.clock,
    )


def _pages(rooms: Rooms) -> Pages:
    http = rooms.api.http
    guard, signing = wallet_guard(rooms.sessions, public_url=http.front.public_url), rooms.signing
    count = partial(limit_address, http.front)
    site = WalletSite(
        api=operations_app(http),
        guard=guard,
        confirmations=Confirmations(guard=guard, signing=signing),
        facts=http.facts,
        clock=rooms.core.clock,
        count=count,
        login_routes=wallet_login(guard, count=count, signing=signing, facts=http.facts),
    )
    return Pages(app=site.app, prefixes=PREFIXES)


def _public_pages(rooms: Rooms, settings: Settings, of_operator: OperatorPages | None) -> Pages:
    """Returns the pages that the public host serves: an operator's only where that is set."""
    wallets, prefix = _pages(rooms), "/operator"
    if of_operator is None or not settings.has_public_operator_pages:
        return wallets
    guard = operator_guard(rooms.sessions, url=rooms.api.http.front.public_url)
    operators = guarded(of_operator, guard, rooms, wallets=settings.operator_wallets)

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        app = operators if scope["path"].startswith(prefix) else wallets.app
        await app(scope, receive, send)

    return Pages(app=either, prefixes=(*wallets.prefixes, prefix))


def _operator_app(
    rooms: Rooms, settings: Settings, operator: socket.socket, pages: OperatorPages | None
) -> ASGIApp:
    app = None
    if pages is not None:
        guard = operator_guard(rooms.sessions, url=http_url(*operator.getsockname()))
        guarded_pages = guarded(pages, guard, rooms, wallets=settings.operator_wallets)
        app = RequestContext(guarded_pages, rooms.api.proxies)
    return operator_app(checks_of(rooms), pages=app)


def _servers(
    rooms: Rooms,
    settings: Settings,
    operator: socket.socket,
    mcp: McpEndpoint,
    operator_pages: OperatorPages | None,
) -> list[HttpServer | QuestionServer]:
    proxies, proxy_dir = rooms.api.proxies, rooms.platform.proxy_dir
    bounds = _bounds(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    pages = _public_pages(rooms, settings, operator_pages)
    http = rooms.api.http
    shared = FairShare(
        http_app(http, mcp=mcp, pages=pages), address_of=partial(address_key, http.front)
    )
    api = RequestContext(shared, proxies)
    servers: list[HttpServer | QuestionServer] = [
        HttpServer(api, rooms.platform.api_listener, bounds=bounds, proxies=proxies),
        HttpServer(_operator_app(rooms, settings, operator, operator_pages), operator),
    ]
    if rooms.platform.proxy is None:
        return servers
    fallback = challenges_app(rooms.certificates, otherwise=pages_app(rooms))
    return [
        *servers,
        HttpServer(fallback, listen_unix(proxy_dir / FALLBACK_SOCKET)),
        QuestionServer(waking(rooms), listen_unix(proxy_dir / WAKE_SOCKET)),
    ]


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
    """Excludes the objects made so far from garbage collection: a full one would take 70 ms.

    Commands that start a gateway turn it off before they import: there is hardly any garbage.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000)  # of 700, as nearly all that a request makes is freed without it


async def run_serve(
    settings: Settings,
    *,
    load: Callable[[], Settings],
    on_ready: Callable[[GatewayAddresses], None],
    audit: Sequence[str],
    open_pages: OpenOperatorPages | None = None,
    beside_another: bool = False,
) -> None:
    """Runs until SIGINT or SIGTERM; apps and proxy run on until the next start.

    `load` reads the settings again, which SIGHUP asks for; `audit` is the command that audits the
    books, which is done each day; `open_pages` opens the operator's pages.
    With `beside_another` it starts though another gateway that answers at its public address takes
    the same payments.

    Raises AlreadyRunning without that; ConfigurationInvalid for settings that would make it unsafe
    or useless.
    """
    reload = Reload(settings, load)
    reload.on_hangup()
    run = GatewayRun(
        settings=settings,
        chains=serving_chains(settings),
        pay_to=receiving_address(settings),
        on_ready=on_ready,
        stop_apps=False,
        purpose=Purpose.SERVE,
        audit=audit,
        reload=reload,
        open_pages=open_pages,
        duplicates=DuplicateGatewayCheck(
            settings, clock=SystemClock(), beside_another=beside_another
        ),
    )
    await run.until(stop_on_signals())

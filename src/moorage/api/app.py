"""The composition root: the one place that reads settings and names concrete classes.

`run_gateway` opens everything in the order it depends on each other, serves until told to stop,
and closes in reverse.
"""

import asyncio
import hashlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from sqlalchemy import literal, select

from moorage.api.gateway import Gateway, Limiters
from moorage.api.operator import operator_app
from moorage.api.request_context import RequestContext
from moorage.api.routes import http_app
from moorage.api.server import HttpServer, listen_tcp
from moorage.auth.authenticator import Authenticator
from moorage.auth.client_address import TrustedProxies
from moorage.auth.nonces import NonceStore
from moorage.auth.rate_limit import RateLimiter
from moorage.chains.chain import Chain
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock, SystemClock
from moorage.deploy.admission import Admission
from moorage.deploy.deletion import Deletion
from moorage.deploy.hosts import Hosts
from moorage.deploy.project import Project, ProjectStatus
from moorage.deploy.reconciler import Reconciler
from moorage.deploy.upload import UploadLimits, sweep_spool
from moorage.deploy.worker import Worker
from moorage.deploy.workflow import Timing, Workflow
from moorage.errors import ConfigurationInvalid, DatabaseUnavailable, MoorageError, ProxyFailed
from moorage.ledger.metering import Metering
from moorage.payments.paywall import Paywall
from moorage.payments.quotes import Quotes
from moorage.payments.verification import Verifier
from moorage.routing.caddy import Caddy
from moorage.routing.caddy_config import FALLBACK_SOCKET, Api, ProxySettings, Tls
from moorage.routing.listener import listen_unix
from moorage.routing.pages import HostState, fallback_app
from moorage.routing.probe import answers
from moorage.routing.router import Router
from moorage.runtimes.runtime import Limits
from moorage.runtimes.sandbox.sandbox import Sandbox
from moorage.settings import Settings
from moorage.storage import projects
from moorage.storage.database import Database, Statement
from moorage.storage.migrate import migrate

log = structlog.get_logger()

_MIB = 1024 * 1024
_METERING_SECONDS = 60.0
_PURGE_SECONDS = 300.0
_WATCH_PROXY_SECONDS = 5.0
_PROXY_ANSWER_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where a running gateway answers."""

    gateway: str
    operator: str
    proxy: str
    isolation: str


async def run_gateway(
    settings: Settings,
    *,
    chains: dict[str, Chain],
    pay_to: str,
    on_ready: Callable[[Addresses], None],
    stop: asyncio.Event,
    stop_apps: bool,
) -> None:
    """Run a gateway until `stop` is set.

    With `stop_apps` nothing is left running; without, apps and proxy go on for the next start.
    Raises what a part raises when it can't be opened.
    """
    async with AsyncExitStack() as stack:
        parts = await _open_parts(stack, settings, chains, pay_to, stop_apps=stop_apps)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(task) for task in parts.tasks()]
            on_ready(parts.addresses)
            await stop.wait()
            for task in running:
                task.cancel()


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What has been opened and now runs."""

    gateway: Gateway
    worker: Worker
    metering: Metering
    quotes: Quotes
    caddy: Caddy
    servers: tuple[HttpServer, ...]
    addresses: Addresses

    def tasks(self) -> list[Awaitable[None]]:
        """Everything that goes on until the gateway stops."""
        return [  # type: ignore[return-value]
            self.gateway.db.run(),
            self.worker.run(exclusive=True),
            self.gateway.reconciler.run(),
            _every(_METERING_SECONDS, self.metering.tick),
            _every(_PURGE_SECONDS, self.quotes.purge),
            _every(_WATCH_PROXY_SECONDS, self.caddy.start),
            *(server.run() for server in self.servers),
        ]


async def _open_parts(
    stack: AsyncExitStack,
    settings: Settings,
    chains: dict[str, Chain],
    pay_to: str,
    *,
    stop_apps: bool,
) -> _Parts:
    clock = SystemClock()
    data_dir = Path(settings.data_dir).absolute()
    for name in ("", "sources", "spool", "apps", "proxy"):
        (data_dir / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    nonces = NonceStore.open(data_dir, clock=clock)
    stack.push_async_callback(nonces.close)
    sweep_spool(data_dir / "spool")
    db = _open_database(stack, data_dir / "moorage.db")
    clients = _open_clients(stack, chains, settings, clock)
    run_dir = _run_dir(settings, data_dir)
    runtime = _sandbox(settings, data_dir, run_dir, clock)
    isolation = await runtime.open()
    stack.push_async_callback(runtime.close, stop_apps=stop_apps)
    api_listener = _listen(settings.host, settings.port, "port")
    gateway_url = settings.public_url or _http_url(settings.host, api_listener.getsockname()[1])
    caddy, proxy_port = await _open_proxy(
        stack, settings, data_dir, run_dir, gateway_url, stop_apps=stop_apps
    )
    hosts = _hosts(settings, proxy_port)
    router = Router(run_dir, settings.base_domain)
    metering = Metering(db=db, clock=clock)
    sources = data_dir / "sources"
    app_limits = _app_limits(settings)

    async def answers_at(host: str) -> bool:
        return await answers(proxy_port, host, timeout_seconds=_PROXY_ANSWER_SECONDS)

    workflow = Workflow(
        db=db,
        runtime=runtime,
        routes=router,
        answers=answers_at,
        metering=metering,
        hosts=hosts,
        app_limits=app_limits,
        build_limits=_build_limits(settings),
        timing=Timing(
            build_seconds=settings.build_seconds,
            listen_seconds=settings.listen_seconds,
            healthy_seconds=settings.healthy_seconds,
        ),
        sources=sources,
        build_slots=asyncio.Semaphore(settings.builds_at_once),
        clock=clock,
        on_step=_crash_hook(settings.crash_at),
    )
    worker = Worker(
        db=db, carry_out=workflow.run, concurrency=settings.deploys_at_once, clock=clock
    )
    reconciler = Reconciler(
        db=db,
        runtime=runtime,
        routes=router,
        metering=metering,
        hosts=hosts,
        limits=app_limits,
        listen_seconds=settings.listen_seconds,
        sources=sources,
        clock=clock,
    )
    quotes = Quotes(db=db, clock=clock)
    verifier = Verifier(
        pay_to=pay_to,
        clients=clients,
        clock=clock,
        pending_wait_seconds=settings.payment_wait_seconds,
    )
    gateway = Gateway(
        pay_to=pay_to,
        public_url=gateway_url,
        chains=chains,
        clients=clients,
        db=db,
        clock=clock,
        authenticator=Authenticator(nonces),
        trusted_proxies=TrustedProxies(settings.trusted_proxies),
        limiters=_limiters(settings, clock),
        admission=Admission(
            db=db,
            quotes=quotes,
            paywall=Paywall(db=db, verifier=verifier, clock=clock),
            prices=settings.price_list(),
            size=settings.app_size(),
            sources=sources,
            clock=clock,
            on_queued=worker.wake,
        ),
        deletion=Deletion(db=db, worker=worker, reconciler=reconciler, metering=metering),
        reconciler=reconciler,
        hosts=hosts,
        upload_limits=UploadLimits(),
        spool_dir=data_dir / "spool",
    )
    await reconciler.sweep()
    operator_listener = _listen("127.0.0.1", settings.operator_port, "operator_port")
    checks = _checks(db, clients, caddy)
    fallback = fallback_app(
        _lookup(gateway), base_domain=settings.base_domain, gateway_url=gateway_url
    )
    servers = (
        HttpServer(RequestContext(http_app(gateway), gateway.trusted_proxies), api_listener),
        HttpServer(operator_app(checks), operator_listener),
        HttpServer(fallback, listen_unix(run_dir / FALLBACK_SOCKET)),
    )
    return _Parts(
        gateway=gateway,
        worker=worker,
        metering=metering,
        quotes=quotes,
        caddy=caddy,
        servers=servers,
        addresses=Addresses(
            gateway=gateway_url,
            operator=_http_url("127.0.0.1", operator_listener.getsockname()[1]),
            proxy=_http_url(settings.proxy_host or "127.0.0.1", proxy_port),
            isolation=isolation,
        ),
    )


def _open_database(stack: AsyncExitStack, path: Path) -> Database:
    migrate(path)
    db = Database(path)
    stack.callback(db.close)
    return db


def _open_clients(
    stack: AsyncExitStack, chains: dict[str, Chain], settings: Settings, clock: Clock
) -> dict[str, RpcClient]:
    clients = {}
    for name, chain in chains.items():
        clients[name] = RpcClient(chain, timeout_seconds=settings.rpc_timeout_seconds, clock=clock)
        stack.push_async_callback(clients[name].close)
    return clients


def instance_id(data_dir: Path) -> str:
    """What tells this gateway's namespaces and sockets from another's: six hex digits."""
    return hashlib.blake2b(str(data_dir.absolute()).encode(), digest_size=3).hexdigest()


def _run_dir(settings: Settings, data_dir: Path) -> Path:
    return Path(settings.run_dir or f"/run/moorage/{instance_id(data_dir)}")


def _sandbox(settings: Settings, data_dir: Path, run_dir: Path, clock: Clock) -> Sandbox:
    return Sandbox(
        state_dir=data_dir / "apps",
        run_dir=run_dir,
        instance_id=instance_id(data_dir),
        tools={name: find_tool(name) for name in ("caddy", "uv")},
        build_env=settings.build_env,
        subnet=settings.app_subnet,
        deny=settings.deny_networks,
        allow=settings.allow_networks,
        clock=clock,
    )


def find_tool(name: str) -> Path:
    """A program that came with the Python packages, else one on PATH."""
    beside = Path(sys.executable).parent / name
    found = beside if beside.exists() else shutil.which(name)
    if found is None:
        raise ConfigurationInvalid(f"the program {name} is missing; run `make setup`")
    return Path(found)


def _app_limits(settings: Settings) -> Limits:
    return Limits(
        memory_bytes=settings.app_memory_mib * _MIB,
        cpu_millis=settings.app_cpu_millis,
        pids=settings.app_pids,
        disk_bytes=settings.app_disk_mib * _MIB,
    )


def _build_limits(settings: Settings) -> Limits:
    return Limits(
        memory_bytes=settings.build_memory_mib * _MIB,
        cpu_millis=settings.build_cpu_millis,
        pids=settings.build_pids,
        disk_bytes=settings.app_disk_mib * _MIB,
    )


def _limiters(settings: Settings, clock: Clock) -> Limiters:
    def limiter() -> RateLimiter:
        return RateLimiter(clock=clock, limit=settings.requests_per_minute)

    return Limiters(wallets=limiter(), polls=limiter(), addresses=limiter())


async def _open_proxy(
    stack: AsyncExitStack,
    settings: Settings,
    data_dir: Path,
    run_dir: Path,
    gateway_url: str,
    *,
    stop_apps: bool,
) -> tuple[Caddy, int]:
    api_host = urlsplit(gateway_url).hostname or ""
    behind_proxy = settings.tls and api_host.endswith(settings.base_domain)
    caddy = Caddy(
        find_tool("caddy"),
        ProxySettings(
            run_dir=run_dir,
            state_dir=data_dir / "proxy",
            listen_address=settings.proxy_host,
            http_port=80 if settings.tls else settings.proxy_port,
            tls=Tls(ask_url=f"http://127.0.0.1:{settings.operator_port}/certificate")
            if settings.tls
            else None,
            api=Api(host=api_host, dial=f"{settings.host}:{settings.port}")
            if behind_proxy
            else None,
        ),
    )
    port = await caddy.start()
    if stop_apps:
        stack.push_async_callback(caddy.stop)
    return caddy, port


def _hosts(settings: Settings, proxy_port: int) -> Hosts:
    if settings.tls:
        return Hosts(base_domain=settings.base_domain, scheme="https", port=None)
    return Hosts(
        base_domain=settings.base_domain,
        scheme="http",
        port=None if proxy_port == 80 else proxy_port,
    )


def _listen(host: str, port: int, setting: str) -> socket.socket:
    try:
        return listen_tcp(host, port)
    except OSError as error:
        raise ConfigurationInvalid(
            f"{setting}: cannot listen on {host}:{port} ({error.strerror}). "
            f"Stop what uses it, or set another {setting} (0 takes a free one)."
        ) from error


def _http_url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  (compared only)
    return f"http://{shown}:{port}"


def _crash_hook(step: str) -> Callable[[str], None]:
    """For crash tests: end this process, as `kill -9` would, when a deploy reaches `step`."""

    def on_step(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_step


def _checks(
    db: Database, clients: dict[str, RpcClient], caddy: Caddy
) -> dict[str, Callable[[], Awaitable[None]]]:
    one = Statement(select(literal(1)))

    async def database() -> None:
        if await db.one(one) is None:
            raise DatabaseUnavailable

    async def proxy() -> None:
        if not caddy.alive():
            raise ProxyFailed

    def chain(client: RpcClient) -> Callable[[], Awaitable[None]]:
        async def check() -> None:
            await client.call("eth_blockNumber", [])

        return check

    chains = {f"chain {name}": chain(client) for name, client in clients.items()}
    return {"database": database, "proxy": proxy, **chains}


def _lookup(gateway: Gateway) -> Callable[[str], Awaitable[HostState]]:
    """Why no app answers at a host: for the pages that stand in for it."""

    async def lookup(host: str) -> HostState:
        name = gateway.hosts.unique_name(host)
        project = await projects.by_name(gateway.db, name) if name else None
        if project is None or project.status is ProjectStatus.DELETING:
            return HostState.UNKNOWN
        return _host_state(project, dead=gateway.reconciler.dead)

    return lookup


def _host_state(project: Project, *, dead: frozenset[str]) -> HostState:
    match project.status:
        case ProjectStatus.SUSPENDED:
            return HostState.SUSPENDED
        case ProjectStatus.FAILED:
            return HostState.FAILED
        case ProjectStatus.ACTIVE if project.serving_deployment_id in dead:
            return HostState.STOPPED
        case ProjectStatus.ACTIVE:
            return HostState.UNHEALTHY
    return HostState.DEPLOYING


async def _every(seconds: float, act: Callable[[], Awaitable[object]]) -> None:
    """Act now and then, until cancelled; what fails once is logged and tried again."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await act()
        except MoorageError as error:
            log.warning("periodic work failed", work=act.__qualname__, error=error.message)

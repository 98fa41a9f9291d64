"""Opens what apps run on, from settings: the engine, the proxy, the routes between them."""

import contextlib
import hashlib
import secrets
import shutil
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from moorage.api.connections.server import listen_tcp
from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Routes
from moorage.deploy.addresses.hosts import Hosts
from moorage.deploy.platform import AppPlatform, Keeping
from moorage.engines.engine import Engine, EngineView
from moorage.engines.table import engine_kind
from moorage.errors import ConfigurationInvalid
from moorage.gateway.isolation import engines_of, make_engine, run_directory
from moorage.gateway.toolchains import StoreLimits, Toolchains, open_toolchains
from moorage.routing.access_log import AccessLog
from moorage.routing.caddy import Caddy
from moorage.routing.caddy_config import ACCESS_LOG, CertificateFiles, ProxySettings, Tls
from moorage.routing.caddy_routes import Api
from moorage.routing.probe import answers
from moorage.routing.router import MAX_HOST_LENGTH, Router
from moorage.settings import Settings
from moorage.toolchains.store import Version

log = structlog.get_logger()

MIB = 1024 * 1024
APPS = "apps"  # in run_dir, the engine's sockets
PROXY = "proxy"  # in run_dir, the routes
_HTTP_PORT = 80
_HTTPS_PORT = 443
_LOOPBACK = "127.0.0.1"
_PROXY_ANSWER_SECONDS = 30.0  # a host's first certificate takes a while
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 (compared, not bound)


@dataclass(frozen=True, kw_only=True)
class AppKeeper:
    """The parts that build, run and serve apps; one of the gateways of a machine has them."""

    runtime: Engine
    caddy: Caddy
    proxy_address: str  # where the proxy is reached from this machine
    access_log: AccessLog
    probe_token: str  # marks our own requests in the access log, which are no visits
    engines: Mapping[str, Engine] = field(default_factory=dict)  # by kind; uploads go to the first


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What a gateway knows of the apps' machine, and the parts that keep apps, if it has them."""

    keeper: AppKeeper | None
    view: EngineView
    isolation: str  # how the engine isolates apps, as a sentence
    proxy_port: int  # where apps are served
    proxy_dir: Path  # where the proxy looks for routes and for the fallback socket
    router: Routes
    hosts: Hosts
    toolchains: Toolchains
    api_listener: socket.socket
    gateway_url: str

    @property
    def of_apps(self) -> AppPlatform:
        """The part of it that the deploy room needs."""
        return AppPlatform(
            view=self.view,
            keeping=self._keeping,
            routes=self.router,
            hosts=self.hosts,
            gateway_host=urlsplit(self.gateway_url).hostname,
            max_host_length=MAX_HOST_LENGTH,
        )

    @property
    def _keeping(self) -> Keeping | None:
        if self.keeper is None:
            return None
        return Keeping(
            runtime=self.keeper.runtime,
            answers=_answers_at(self, self.keeper),
            access_log=self.keeper.access_log,
            engine=next(iter(self.keeper.engines), ""),
            discard_toolchains=lambda plan: self.toolchains.store.discard(plan.toolchains),
        )


class OpenPlatform(Protocol):
    """Opens what apps run on, as `open_platform` does."""

    async def __call__(
        self,
        stack: AsyncExitStack,
        settings: Settings,
        /,
        *,
        listener: socket.socket,
        clock: Clock,
        stop_apps: bool,
        needed_toolchains: Callable[[], Awaitable[Collection[Version]]],
    ) -> Platform:
        """Opens a platform, which `stack` closes."""
        ...


async def open_platform(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    listener: socket.socket,
    clock: Clock,
    stop_apps: bool,
    needed_toolchains: Callable[[], Awaitable[Collection[Version]]],
) -> Platform:
    """Opens engine and proxy. Raises IsolationMissing, ProxyFailed, ConfigurationInvalid.

    `listener` is the API's.
    `needed_toolchains` returns the versions that apps run on, or may run on again.
    """
    data_dir = Path(settings.data_dir)
    run_dir = run_directory(settings, instance_id(data_dir))
    proxy_dir = run_dir / PROXY
    toolchains = await open_store(stack, settings, clock=clock, needed=needed_toolchains)
    runtime = make_engine(
        settings,
        instance_id=instance_id(data_dir),
        run_dir=run_dir / APPS,
        tools={name: find_tool(name) for name in ("caddy", "uv")},
        toolchains=toolchains.store,
        clock=clock,
    )
    isolation = await runtime.open()
    if stop_apps:
        stack.callback(_remove_if_empty, run_dir)
    stack.push_async_callback(runtime.close, stop_apps=stop_apps)
    gateway_url = url_of(settings, listener)
    probe_token = secrets.token_hex(16)
    router = Router(proxy_dir, settings.base_domain)
    caddy = Caddy(
        find_tool("caddy"),
        _proxy_settings(settings, data_dir, proxy_dir, gateway_url),
        confine=partial(_confine_proxy, runtime, _proxy_memory_bytes(settings)),
    )
    proxy_port = await caddy.start()
    if stop_apps:
        stack.callback(shutil.rmtree, proxy_dir, ignore_errors=True)
        stack.push_async_callback(caddy.stop)
    return Platform(
        keeper=AppKeeper(
            runtime=runtime,
            caddy=caddy,
            proxy_address=_LOOPBACK if settings.proxy_host in _EVERYWHERE else settings.proxy_host,
            access_log=AccessLog(data_dir / "proxy" / ACCESS_LOG, probe_token=probe_token),
            probe_token=probe_token,
            engines=engines_of(settings, runtime),
        ),
        view=runtime,
        isolation=isolation,
        proxy_port=served_at(settings, proxy_port),
        proxy_dir=proxy_dir,
        router=router,
        hosts=hosts_of(settings, proxy_port),
        toolchains=toolchains,
        api_listener=listener,
        gateway_url=gateway_url,
    )


async def open_store(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    clock: Clock,
    needed: Callable[[], Awaitable[Collection[Version]]],
    sweeps: bool = True,
) -> Toolchains:
    """Opens the toolchains as the settings say."""
    max_bytes, reserve_bytes = settings.toolchains_mib * MIB, settings.disk_reserve_mib * MIB
    return await open_toolchains(
        stack,
        Path(settings.data_dir),
        installs=settings.toolchains,
        clock=clock,
        offered=engine_kind(settings.isolation).offered,
        limits=StoreLimits(max_bytes=max_bytes, reserve_bytes=reserve_bytes),
        needed=needed,
        sweeps=sweeps,
    )


def served_at(settings: Settings, proxy_port: int) -> int:
    """Returns the port that visitors of apps use, of a proxy with this HTTP port."""
    return _HTTPS_PORT if settings.tls else proxy_port


def _proxy_memory_bytes(settings: Settings) -> int:
    """Half of the reserve beside apps and builds. A request takes 1 MiB at most."""
    return settings.memory_reserve_mib * MIB // 2


async def _confine_proxy(runtime: Engine, memory_bytes: int, pid: int) -> None:
    """Bounds the proxy's memory; if that fails, only its own garbage collection does."""
    try:
        await runtime.confine("proxy", pid, memory_bytes=memory_bytes)
    except OSError as error:  # apps are served all the same
        log.warning("the proxy's memory is not bounded", error=str(error))


def trusted_proxies(settings: Settings) -> tuple[str, ...]:
    """Returns the proxies whose X-Forwarded-For is trusted: the operator's, and our own."""
    if _api_behind_proxy(settings, settings.public_url) is None:
        return settings.trusted_proxies
    return (*settings.trusted_proxies, f"{_LOOPBACK}/32")


def instance_id(data_dir: Path) -> str:
    """Returns six hex digits that name this gateway's namespaces and sockets on the machine."""
    return hashlib.blake2b(str(data_dir).encode(), digest_size=3).hexdigest()


def find_tool(name: str) -> Path:
    """Returns a program that came with the Python packages, else one on PATH."""
    beside = Path(sys.executable).parent / name
    found = beside if beside.exists() else shutil.which(name)
    if found is None:
        raise ConfigurationInvalid(f"the program {name} is missing; run `make setup`")
    return Path(found)


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Returns the gateway's own URL, whose API listens there."""
    return settings.public_url or http_url(settings.host, listener.getsockname()[1])


def listen(host: str, port: int, setting: str, *, shared: bool = False) -> socket.socket:
    """Returns a listening socket; `shared` among processes that say so.

    Raises ConfigurationInvalid naming the setting.
    """
    try:
        return listen_tcp(host, port, shared=shared)
    except OSError as error:
        raise ConfigurationInvalid(
            f"{setting}: cannot listen on {host}:{port} ({error.strerror}). "
            f"Stop what uses it, or set another {setting} (0 takes a free one)."
        ) from error


def http_url(host: str, port: int) -> str:
    """Returns the URL of a server that listens on `host`, for this machine."""
    return f"http://{_LOOPBACK if host in _EVERYWHERE else host}:{port}"


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


def _proxy_settings(
    settings: Settings, data_dir: Path, proxy_dir: Path, gateway_url: str
) -> ProxySettings:
    ask_url = f"http://127.0.0.1:{settings.operator_port}/certificate"
    return ProxySettings(
        run_dir=proxy_dir,
        state_dir=data_dir / "proxy",
        base_domain=settings.base_domain,
        former_domains=settings.former_domains,
        listen_address=settings.proxy_host,
        http_port=_HTTP_PORT if settings.tls else settings.proxy_port,
        tls=Tls(ask_url=ask_url, files=_wildcard_files(settings)) if settings.tls else None,
        api=_api_behind_proxy(settings, gateway_url),
        memory_bytes=_proxy_memory_bytes(settings),
    )


def _wildcard_files(settings: Settings) -> CertificateFiles | None:
    """Returns the operator's certificate, if one is set. Raises ConfigurationInvalid."""
    if not settings.wildcard_certificate:
        return None
    try:
        certificate, key = map(Path, settings.wildcard_certificate)
        digest = hashlib.sha256(certificate.read_bytes() + key.read_bytes()).hexdigest()
    except (ValueError, OSError) as error:
        raise ConfigurationInvalid(
            f"wildcard_certificate: {error}. Name two files, the certificate and its key."
        ) from error
    return CertificateFiles(certificate=certificate, key=key, digest=digest)


def _api_behind_proxy(settings: Settings, gateway_url: str) -> Api | None:
    """Returns the API's host at the proxy, if its public address is an HTTPS one."""
    public = urlsplit(gateway_url)
    if not settings.tls or public.scheme != "https" or public.hostname is None:
        return None
    return Api(host=public.hostname, dial=f"{settings.host}:{settings.port}")


def hosts_of(settings: Settings, proxy_port: int) -> Hosts:
    """Returns the apps' hosts, which are served at a port."""
    port = None if settings.tls or proxy_port == _HTTP_PORT else proxy_port
    return Hosts(
        base_domain=settings.base_domain,
        scheme="https" if settings.tls else "http",
        port=port,
        former_domains=settings.former_domains,
    )


def _answers_at(platform: Platform, keeper: AppKeeper) -> Callable[[str], Awaitable[bool]]:
    tls = ssl.create_default_context() if platform.hosts.scheme == "https" else None

    async def answers_at(host: str) -> bool:
        return await answers(
            platform.proxy_port,
            host,
            timeout_seconds=_PROXY_ANSWER_SECONDS,
            address=keeper.proxy_address,
            tls=tls,
            token=keeper.probe_token,
        )

    return answers_at

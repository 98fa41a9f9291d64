"""Opens what apps run on, from settings: the engine, the proxy, the routes between them."""

import contextlib
import hashlib
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from moorage.api.connections.server import listen_tcp
from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Routes
from moorage.deploy.addresses.hosts import Hosts
from moorage.deploy.platform import AppPlatform, Following, Keeping
from moorage.engines.engine import Engine, EngineView
from moorage.errors import ConfigurationInvalid
from moorage.gateway.platform.isolation import (
    engines_of,
    has_several_proxies,
    make_engine,
    offered,
    reuses_addresses,
    run_directory,
)
from moorage.gateway.platform.proxy import (
    EVERYWHERE,
    LOOPBACK,
    Proxy,
    answers_at,
    answers_plain,
    hosts_of,
    open_proxy,
    served_at,
)
from moorage.gateway.platform.toolchains import StoreLimits, Toolchains, open_toolchains
from moorage.loop import Keeps
from moorage.process import find_program
from moorage.routing.router import MAX_HOST_LENGTH, Router
from moorage.settings import Settings
from moorage.storage.several.shared_tables import SharedTables
from moorage.toolchains.store import Version

MIB = 1024 * 1024
APPS = "apps"  # in run_dir, the engine's sockets
PROXY = "proxy"  # in run_dir, the routes

_TOOLCHAINS_BYTES = 8192 * MIB
"""What installed versions may take; beyond it, those that no app needs make room."""


@dataclass(frozen=True, kw_only=True)
class AppKeeper:
    """The parts that build and run apps; one gateway has them."""

    runtime: Engine
    engines: Mapping[str, Engine] = field(default_factory=dict)  # by kind; uploads go to the first


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What a gateway knows of the apps' machine, and the parts that keep apps, if it has them."""

    keeper: AppKeeper | None
    proxy: Proxy | None  # None where another gateway of the machine has it
    view: EngineView
    isolation: str  # how the engine isolates apps, as a sentence
    proxy_port: int  # where apps are served
    proxy_dir: Path  # where the proxy looks for routes and for the fallback socket
    router: Routes
    hosts: Hosts
    toolchains: Toolchains
    api_listener: socket.socket
    gateway_url: str
    several_proxies: bool = False  # other gateways have proxies of their own
    reuses_addresses: bool = False  # an app's address may be another's soon after its end
    following: Following | None = None

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
            several_proxies=self.several_proxies,
            reuses_addresses=self.reuses_addresses,
            following=self.following,
        )

    @property
    def _keeping(self) -> Keeping | None:
        if self.keeper is None or self.proxy is None:
            return None
        https = self.hosts.scheme == "https"
        return Keeping(
            runtime=self.keeper.runtime,
            answers=answers_at(self.proxy, port=self.proxy_port, https=https),
            access_log=self.proxy.access_log,
            answers_plain=answers_plain(self.proxy),
            engine=next(iter(self.keeper.engines), ""),
            discard_toolchains=lambda plan: self.toolchains.store.discard(plan.toolchains),
        )


NeededToolchains = Callable[[], Awaitable[Collection[Version]]]
"""Returns the versions that apps run on, or may run on again."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a platform is opened with, beside the settings."""

    listener: socket.socket  # the API's
    clock: Clock
    instance: str  # names what the engine makes
    stop_apps: bool  # when the platform is closed
    keeps: Keeps  # asked before what can't be taken back
    needed_toolchains: NeededToolchains
    shared: SharedTables | None = None  # of several gateways


OpenPlatform = Callable[[AsyncExitStack, Settings, Opening], Awaitable[Platform]]
"""Opens what apps run on, which the stack closes."""


async def open_platform(stack: AsyncExitStack, settings: Settings, opening: Opening) -> Platform:
    """Opens engine and proxy. Raises IsolationMissing, ProxyFailed, ConfigurationInvalid."""
    data_dir = Path(settings.data_dir)
    run_dir = run_directory(settings, instance_id(data_dir))
    proxy_dir = run_dir / PROXY
    toolchains = await open_store(
        stack, settings, clock=opening.clock, needed=opening.needed_toolchains
    )
    runtime = make_engine(
        settings,
        instance_id=opening.instance,
        run_dir=run_dir / APPS,
        tools={name: find_tool(name) for name in ("caddy", "uv")},
        toolchains=toolchains.store,
        clock=opening.clock,
        keeps=opening.keeps,
    )
    isolation = await runtime.open()
    if opening.stop_apps:
        stack.callback(_remove_if_empty, run_dir)
    stack.push_async_callback(runtime.close, stop_apps=opening.stop_apps)
    gateway_url = url_of(settings, opening.listener)
    router = Router(proxy_dir, settings.base_domain)
    proxy, proxy_port = await open_proxy(
        stack,
        settings,
        binary=find_tool("haproxy"),
        engine=runtime,
        directory=proxy_dir,
        gateway_url=gateway_url,
        stop_apps=opening.stop_apps,
    )
    return Platform(
        keeper=AppKeeper(
            runtime=runtime,
            engines=engines_of(settings, runtime),
        ),
        proxy=proxy,
        view=runtime,
        isolation=isolation,
        proxy_port=served_at(settings, proxy_port),
        proxy_dir=proxy_dir,
        router=router,
        hosts=hosts_of(settings, proxy_port),
        toolchains=toolchains,
        api_listener=opening.listener,
        gateway_url=gateway_url,
        several_proxies=has_several_proxies(settings),
        reuses_addresses=reuses_addresses(settings),
    )


async def open_store(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    clock: Clock,
    needed: NeededToolchains,
    sweeps: bool = True,
) -> Toolchains:
    """Opens the toolchains as the settings say."""
    max_bytes, reserve_bytes = _TOOLCHAINS_BYTES, settings.disk_reserve_mib * MIB
    return await open_toolchains(
        stack,
        Path(settings.data_dir),
        installs=settings.toolchains,
        clock=clock,
        offered=offered(settings),
        limits=StoreLimits(max_bytes=max_bytes, reserve_bytes=reserve_bytes),
        needed=needed,
        sweeps=sweeps,
    )


def instance_id(data_dir: Path) -> str:
    """Returns six hex digits that name this gateway's namespaces and sockets on the machine."""
    return hashlib.blake2b(str(data_dir).encode(), digest_size=3).hexdigest()


def find_tool(name: str) -> Path:
    """Returns a program that came with the Python packages, else one of the system's."""
    found = find_program(name)
    if found is None:
        raise ConfigurationInvalid(f"the program {name} is missing; run `make setup`")
    return found


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
    return f"http://{LOOPBACK if host in EVERYWHERE else host}:{port}"


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()

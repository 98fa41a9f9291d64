"""Opens what apps run on, from settings: engine, toolchains, proxy, and the routes between them."""

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import structlog

from moorage.api.http.connections import listen_tcp
from moorage.clock import Clock, SystemClock
from moorage.engines.engine import Engine, EngineView
from moorage.engines.host.probe import made_groups
from moorage.errors import ConfigurationInvalid
from moorage.gateway.engine_choice import (
    engines_of,
    has_several_proxies,
    kinds,
    make_engine,
    offered,
    own_instance_id,
    reuses_addresses,
    run_directory,
)
from moorage.gateway.engine_choice import offered as offered_to
from moorage.hosting.addresses.addresses import Hosts, Routes
from moorage.hosting.platform import AppPlatform, Following, Keeping
from moorage.loop import Keeps
from moorage.planning.toolbox import Toolbox
from moorage.process import find_program
from moorage.records.run import MAX_TIMEOUT_SECONDS
from moorage.routing.access_log import AccessLog
from moorage.routing.haproxy import ACCESS_LOGS, HAProxy
from moorage.routing.haproxy_config import Api, ProxySettings
from moorage.routing.probe import Answer, answers, probe
from moorage.routing.router import MAX_HOST_LENGTH, Router
from moorage.settings import Settings, load_settings
from moorage.storage.several.shared_tables import SharedTables
from moorage.threads import in_thread
from moorage.toolchains.inventory import Inventory
from moorage.toolchains.store import Npm, ToolchainStore, Version, find_npm, nothing_needed
from moorage.trust import trusting


class StoreLimits(msgspec.Struct, frozen=True):
    """How much the store may hold, and how much of its disk must stay free."""

    max_bytes: int
    reserve_bytes: int


_UNLIMITED = StoreLimits(max_bytes=1 << 62, reserve_bytes=0)


@dataclass(frozen=True, kw_only=True)
class Toolchains:
    """The store that installs toolchains, and the list of those that are available."""

    store: ToolchainStore
    inventory: Inventory


async def open_toolchains(
    stack: AsyncExitStack,
    data_dir: Path,
    *,
    installs: bool,
    clock: Clock,
    offered: Callable[[Toolbox], Toolbox] = lambda found: found,
    limits: StoreLimits = _UNLIMITED,
    sweeps: bool = True,
    needed: Callable[[], Awaitable[Collection[Version]]] = nothing_needed,
) -> Toolchains:
    """Opens both below `data_dir`; without `installs`, only installed toolchains are available.

    With `sweeps`, removes what an interrupted install left: no other process may use them then.
    """
    program = find_npm() if installs else None
    npm = None
    if program is not None:
        npm = Npm(program, directory=data_dir / "npm")
        if sweeps:
            npm.sweep()
    store = ToolchainStore(
        data_dir / "toolchains",
        npm=npm,
        clock=clock,
        max_bytes=limits.max_bytes,
        reserve_bytes=limits.reserve_bytes,
        needed=needed,
    )
    if sweeps:
        store.open()
    stack.push_async_callback(store.close)
    listing_file = data_dir / "toolchains.json"
    inventory = Inventory(store, npm=npm, listing_file=listing_file, clock=clock, offered=offered)
    await inventory.open()
    return Toolchains(store=store, inventory=inventory)


async def toolbox_here() -> Toolbox:
    """Returns the toolbox of this machine, for a plan made without a gateway.

    npm's lists are kept in the user's cache for a day. It includes what the operator has put into
    the store of this machine's gateway.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorage"
    async with AsyncExitStack() as stack:
        found = await open_toolchains(stack, cache, installs=True, clock=SystemClock())
        if not found.inventory.is_fresh:
            await found.inventory.refresh()
        toolbox = found.inventory.toolbox
    settings = load_settings(file=None)
    toolbox = with_installed(toolbox, Path(settings.data_dir) / "toolchains")
    return offered_to(settings)(toolbox)


def with_installed(toolbox: Toolbox, store: Path) -> Toolbox:
    """Returns the toolbox with what is in a store's directory, such as the operator's links."""
    found = dict(toolbox.store)
    places: list[Path] = []
    with suppress(PermissionError):  # it is the gateway's, and this may be another user
        places = sorted(path for path in store.glob("[!.]*/*") if path.is_dir())
    for place in places:
        program = place.parent.name
        found[program] = tuple(dict.fromkeys((*found.get(program, ()), place.name)))
    return msgspec.structs.replace(toolbox, store=found)


log = structlog.get_logger()

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 (compared, not bound)
_MIB = 1024 * 1024
_HTTP_PORT = 80
_HTTPS_PORT = 443
_ANSWER_SECONDS = 30.0  # a host's first certificate takes a while
_PLAIN_SECONDS = 10.0
_VISIT_SECONDS = MAX_TIMEOUT_SECONDS + 60.0  # whoever visits has a bound of its own

_VISITOR_CONNECTIONS = 512
"""That one address may have at the proxy, and a /48 four times as many: several browsers behind one
address open some tens each."""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A running proxy of this gateway's."""

    process: HAProxy
    address: str  # where it is reached from this machine
    access_log: AccessLog
    probe_token: str  # marks our own requests in the access log, which are no visits
    roots: tuple[Path, ...] = ()  # of authorities that are trusted beside the system's


async def open_proxy(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    binary: Path,
    instance_id: str,
    directory: Path,
    gateway_url: str,
    stop_apps: bool,
) -> tuple[Proxy, int]:
    """Opens the proxy, whose routes are in `directory`; returns it and its HTTP port.

    `instance_id` is that of the engine that is open. Raises ProxyFailed, ConfigurationInvalid. The
    proxy outlives the gateway, unless `stop_apps`.
    """
    state_dir, probe_token = Path(settings.data_dir) / "proxy", secrets.token_hex(16)
    process = HAProxy(
        binary,
        proxy_settings(settings, state_dir, directory, gateway_url),
        confine=partial(_confine, instance_id, _memory_bytes(settings)),
    )
    port = await process.start()
    if stop_apps:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.push_async_callback(process.stop)
    proxy = Proxy(
        process=process,
        address=LOOPBACK if settings.proxy_host in EVERYWHERE else settings.proxy_host,
        access_log=AccessLog(state_dir / ACCESS_LOGS, probe_token=probe_token),
        probe_token=probe_token,
        roots=settings.roots,
    )
    return proxy, port


def served_at(settings: Settings, proxy_port: int) -> int:
    """Returns the port that visitors of apps use, of a proxy with this HTTP port."""
    return _HTTPS_PORT if settings.tls else proxy_port


def hosts_of(settings: Settings, proxy_port: int) -> Hosts:
    """Returns the apps' hosts, which are served at a port."""
    port = None if settings.tls or proxy_port == _HTTP_PORT else proxy_port
    return Hosts(
        base_domain=settings.base_domain,
        scheme="https" if settings.tls else "http",
        port=port,
        former_domains=settings.former_domains,
    )


def trusted_proxies(settings: Settings) -> tuple[str, ...]:
    """Returns the proxies whose X-Forwarded-For is trusted: the operator's, and our own."""
    if _api_behind_proxy(settings, settings.public_url) is None:
        return settings.trusted_proxies
    return (*settings.trusted_proxies, f"{LOOPBACK}/32")


def answers_at(
    proxy: Proxy, *, port: int, https: bool, seconds: float = _ANSWER_SECONDS
) -> Callable[[str], Awaitable[bool]]:
    """Returns a question whether a host answers through the proxy, at a port of its own."""
    tls = trusting(*proxy.roots) if https else None

    async def answers_there(host: str) -> bool:
        return await answers(
            port,
            host,
            timeout_seconds=seconds,
            address=proxy.address,
            tls=tls,
            token=proxy.probe_token,
        )

    return answers_there


def visits_at(
    proxy: Proxy, *, port: int, https: bool
) -> Callable[[str, str, Mapping[str, str]], Awaitable[int | None]]:
    """Returns what sends a GET through the proxy, and gives the status that the app answered."""
    tls = trusting(*proxy.roots) if https else None

    async def visit(host: str, path: str, headers: Mapping[str, str]) -> int | None:
        seen = await probe(
            port,
            host,
            timeout_seconds=_VISIT_SECONDS,
            path=path,
            address=proxy.address,
            tls=tls,
            headers=headers,
        )
        return seen.status if seen.answer in (Answer.APP, Answer.APP_ERROR) else None

    return visit


def answers_plain(proxy: Proxy) -> Callable[[str], Awaitable[bool]]:
    """Returns the same question of a host without a certificate, at the port for plain HTTP."""
    return answers_at(proxy, port=_HTTP_PORT, https=False, seconds=_PLAIN_SECONDS)


def _memory_bytes(settings: Settings) -> int:
    """Half of the reserve beside apps and builds."""
    return settings.memory_reserve_mib * _MIB // 2


async def _confine(instance_id: str, memory_bytes: int, pid: int) -> None:
    """Bounds the proxy's memory where the engine has control groups; else its own bounds do."""
    groups = await in_thread(made_groups, instance_id)
    if groups is None:
        return
    try:
        await in_thread(groups.confine, "proxy", pid, memory_bytes=memory_bytes)
    except OSError as error:  # apps are served all the same
        log.warning("the proxy's memory is not bounded", error=str(error))


def proxy_settings(
    settings: Settings, state_dir: Path, directory: Path, gateway_url: str
) -> ProxySettings:
    """Returns what the proxy serves. Raises ConfigurationInvalid."""
    return ProxySettings(
        run_dir=directory,
        state_dir=state_dir,
        base_domain=settings.base_domain,
        former_domains=settings.former_domains,
        listen_address=settings.proxy_host,
        http_port=_HTTP_PORT if settings.tls else settings.proxy_port,
        https_port=_HTTPS_PORT if settings.tls else None,
        memory_bytes=_memory_bytes(settings),
        visitor_connections=_VISITOR_CONNECTIONS,
        trusted_proxies=settings.trusted_proxies,
        api=_api_behind_proxy(settings, gateway_url),
    )


def _api_behind_proxy(settings: Settings, gateway_url: str) -> Api | None:
    """Returns the API's host at the proxy, if its public address is an HTTPS one."""
    public = urlsplit(gateway_url)
    if not settings.tls or public.scheme != "https" or public.hostname is None:
        return None
    return Api(host=public.hostname, dial=f"{settings.host}:{settings.port}")


MIB = 1024 * 1024
APPS = "apps"  # in run_dir, the engine's sockets
PROXY = "proxy"  # in run_dir, the routes

_TOOLCHAINS_BYTES = 8192 * MIB
"""What installed versions may take; beyond it, those that no app needs make room."""


@dataclass(frozen=True, kw_only=True)
class AppRunner:
    """The parts that build and run apps; one gateway has them."""

    runtime: Engine
    engines: Mapping[str, Engine] = field(default_factory=dict)  # by kind; uploads go to the first


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What a gateway knows of the apps' machine, and the parts that run apps, if it has them."""

    runner: AppRunner | None
    proxy: Proxy | None  # None where another gateway of the machine has it
    view: EngineView
    isolation: str  # how the engine isolates apps, as a sentence
    proxy_port: int  # where apps are served
    proxy_dir: Path  # where the proxy reads routes and for the fallback socket
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
        if self.runner is None or self.proxy is None:
            return None
        https = self.hosts.scheme == "https"
        return Keeping(
            runtime=self.runner.runtime,
            answers=answers_at(self.proxy, port=self.proxy_port, https=https),
            access_log=self.proxy.access_log,
            visit=visits_at(self.proxy, port=self.proxy_port, https=https),
            answers_plain=answers_plain(self.proxy),
            engine=next(iter(self.runner.engines), ""),
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
        instance_id=own_instance_id(opening.instance, kinds(settings)[0]),
        directory=proxy_dir,
        gateway_url=gateway_url,
        stop_apps=opening.stop_apps,
    )
    return Platform(
        runner=AppRunner(runtime=runtime, engines=engines_of(settings, runtime)),
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
            f"Stop what uses it, or set another {setting} (port 0 takes a free one)."
        ) from error


def http_url(host: str, port: int) -> str:
    """Returns the URL of a server that listens on `host`, for this machine."""
    return f"http://{LOOPBACK if host in EVERYWHERE else host}:{port}"


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()

"""What a gateway opens of the apps and their machine while another gateway runs the apps."""

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Unpack

import msgspec

from moorage.address import Address
from moorage.clock import Clock
from moorage.engines.engine import Capabilities, Engine, Lines, LogPage, Resources
from moorage.engines.host.configuration import FOLDERS
from moorage.engines.logs import logs
from moorage.engines.table import engine_kind
from moorage.errors import LeaderAway, NoCapacity, ProxyFailed
from moorage.gateway.engine_choice import make_engine, run_directory
from moorage.gateway.platform import (
    APPS,
    PROXY,
    Opening,
    Platform,
    find_tool,
    hosts_of,
    instance_id,
    open_proxy,
    open_store,
    served_at,
    url_of,
)
from moorage.hosting.addresses.addresses import Routes
from moorage.hosting.platform import Following
from moorage.records.deployment import LogKind
from moorage.routing.haproxy import port_in_use_by
from moorage.routing.router import Router
from moorage.settings import Settings
from moorage.storage.several.shared_tables import SharedTables
from moorage.threads import in_thread

REPORT_SECONDS = 2.0
SILENT_SECONDS = 30.0
_POLL_SECONDS = 0.1
_POLLS = 600


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is for apps, and what of them is here."""

    resources: Resources
    running: frozenset[str]


async def report(engine: Engine, shared: SharedTables) -> None:
    """Writes what an open engine has, for the other gateways of its machine."""
    machine = Machine(
        resources=await engine.resources(),
        running=frozenset(await engine.running()),
    )
    await shared.write_report(msgspec.json.encode(machine).decode())


class MachineView:
    """What a gateway knows of an engine that another process has open. Reads logs by itself."""

    def __init__(
        self, *, capabilities: Capabilities, state_dir: Path, shared: SharedTables, clock: Clock
    ) -> None:
        self.capabilities = capabilities
        self._folders = [state_dir / folder for folder in FOLDERS]
        self._shared = shared
        self._clock = clock
        self._machine: Machine | None = None
        self._written_at = 0.0  # of the monotonic clock

    async def refresh(self) -> None:
        """Reads the leader's report. Raises DatabaseUnavailable."""
        found = await self._shared.read_report()
        if found is not None:
            text, age_seconds = found
            self._machine = msgspec.json.decode(text, type=Machine)
            self._written_at = self._clock.monotonic_seconds() - age_seconds

    async def check(self) -> None:
        """Raises LeaderAway when the gateway that runs the apps has reported nothing for long."""
        if self._machine is None:
            raise LeaderAway("No gateway of this machine has run its apps yet.")
        silent_seconds = self._clock.monotonic_seconds() - self._written_at
        if silent_seconds > SILENT_SECONDS:
            raise LeaderAway(
                "The gateway that runs the apps has reported nothing for "
                f"{silent_seconds:.0f} s: end it if it stands still, so that another takes over."
            )

    async def resources(self) -> Resources:
        """As `Engine.resources`. Raises NoCapacity as long as no gateway has run apps."""
        return self._reported.resources

    async def running(self) -> Collection[str]:
        """The deployments whose apps run. Raises NoCapacity."""
        return self._reported.running

    async def known(self) -> set[str]:
        """As `Engine.known`."""
        return {
            path.name for folder in self._folders if folder.is_dir() for path in folder.iterdir()
        }

    async def written(self, deployment_id: str) -> None:
        """None: it is not known here what an app has written."""

    async def read_log(self, deployment_id: str, kind: LogKind, **lines: Unpack[Lines]) -> LogPage:
        """As `Engine.read_log`."""
        log = self._directory(deployment_id) / "logs" / kind
        return await in_thread(logs.read_log, log, **lines)

    def _directory(self, deployment_id: str) -> Path:
        """Returns a deployment's directory, of whichever engine it is; it need not exist."""
        found = [folder / deployment_id for folder in self._folders]
        return next((each for each in found if each.is_dir()), found[0])

    @property
    def _reported(self) -> Machine:
        if self._machine is None:
            raise NoCapacity
        return self._machine


class RoutesOfLeader:
    """The routes, which only the gateway that keeps the apps changes: it follows the rows."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def point(self, host: str, target: Address) -> None:
        """Does nothing."""

    async def remove(self, host: str) -> None:
        """Does nothing."""

    def target(self, host: str) -> Address | None:
        """As `Routes.target`."""
        return self._routes.target(host)

    def routes(self) -> dict[str, Address]:
        """As `Routes.routes`."""
        return self._routes.routes()

    async def requests(self, host: str) -> int:
        """As `Routes.requests`."""
        return await self._routes.requests(host)


async def open_beside(stack: AsyncExitStack, settings: Settings, opening: Opening) -> Platform:
    """Opens a platform as `open_platform` does, without engine and proxy.

    Waits until the proxy has a port, where the settings leave it the choice. Raises ProxyFailed
    when that takes a minute: the gateway that should start it may be gone, and its lock ours.
    """
    data_dir = Path(settings.data_dir)
    run_dir = run_directory(settings, instance_id(data_dir))
    proxy_port = await _proxy_port(settings, data_dir)
    if opening.shared is None:
        raise ValueError("a gateway without a name is beside none")
    view = MachineView(
        capabilities=engine_kind(settings.isolation).capabilities,
        state_dir=data_dir / "apps",
        shared=opening.shared,
        clock=opening.clock,
    )
    await view.refresh()
    return Platform(
        runner=None,
        proxy=None,
        view=view,
        isolation="another gateway of this machine runs the apps",
        proxy_port=served_at(settings, proxy_port),
        proxy_dir=run_dir / PROXY,
        router=RoutesOfLeader(Router(run_dir / PROXY, settings.base_domain)),
        hosts=hosts_of(settings, proxy_port),
        toolchains=await open_store(
            stack, settings, clock=opening.clock, needed=opening.needed_toolchains, sweeps=False
        ),
        api_listener=opening.listener,
        gateway_url=url_of(settings, opening.listener),
    )


async def _proxy_port(settings: Settings, data_dir: Path) -> int:
    if settings.tls or settings.proxy_port:
        return settings.proxy_port
    for _ in range(_POLLS):
        port = port_in_use_by(data_dir / "proxy")
        if port is not None:
            return port
        await asyncio.sleep(_POLL_SECONDS)
    raise ProxyFailed("No gateway of this machine has started the proxy. Set proxy_listen.")


async def open_following(stack: AsyncExitStack, settings: Settings, opening: Opening) -> Platform:
    """Opens a platform as `open_platform` does; of its engine, only questions are asked."""
    run_dir = run_directory(settings, instance_id(Path(settings.data_dir)))
    toolchains = await open_store(
        stack, settings, clock=opening.clock, needed=opening.needed_toolchains, sweeps=False
    )
    engine = make_engine(
        settings,
        instance_id=opening.instance,
        run_dir=run_dir / APPS,
        tools={name: find_tool(name) for name in ("caddy", "uv")},
        toolchains=toolchains.store,
        clock=opening.clock,
        keeps=None,
    )
    isolation = await engine.open()
    stack.push_async_callback(engine.close, stop_apps=False)
    gateway_url = url_of(settings, opening.listener)
    routes = Router(run_dir / PROXY, settings.base_domain)
    proxy, port = await open_proxy(
        stack,
        settings,
        binary=find_tool("haproxy"),
        instance_id=opening.instance,
        directory=run_dir / PROXY,
        gateway_url=gateway_url,
        stop_apps=opening.stop_apps,
    )
    return Platform(
        runner=None,
        proxy=proxy,
        view=engine,
        isolation=f"{isolation}; another gateway keeps the apps",
        proxy_port=served_at(settings, port),
        proxy_dir=run_dir / PROXY,
        router=RoutesOfLeader(routes),
        hosts=hosts_of(settings, port),
        toolchains=toolchains,
        api_listener=opening.listener,
        gateway_url=gateway_url,
        several_proxies=True,
        reuses_addresses=True,
        following=Following(instances=engine, routes=routes, access_log=proxy.access_log),
    )

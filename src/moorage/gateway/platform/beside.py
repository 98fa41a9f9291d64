"""What a gateway opens of the apps' machine while another of its gateways keeps the apps."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from moorage.address import Address
from moorage.deploy.addresses.addresses import Routes
from moorage.engines.host.machine import MachineView
from moorage.engines.table import engine_kind
from moorage.errors import ProxyFailed
from moorage.gateway.platform.isolation import run_directory
from moorage.gateway.platform.opening import (
    PROXY,
    Opening,
    Platform,
    instance_id,
    open_store,
    url_of,
)
from moorage.gateway.platform.proxy import hosts_of, served_at
from moorage.gateway.state.data_directory import GATEWAYS
from moorage.routing.haproxy import port_in_use_by
from moorage.routing.router import Router
from moorage.settings import Settings

_POLL_SECONDS = 0.1
_POLLS = 600


class RoutesOfKeeper:
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


async def open_beside(stack: AsyncExitStack, settings: Settings, opening: Opening) -> Platform:
    """Opens a platform as `open_platform` does, without engine and proxy.

    Waits until the proxy has a port, where the settings leave it the choice. Raises ProxyFailed
    when that takes a minute: the gateway that should start it may be gone, and its lock ours.
    """
    data_dir = Path(settings.data_dir)
    run_dir = run_directory(settings, instance_id(data_dir))
    proxy_port = await _proxy_port(settings, data_dir)
    return Platform(
        keeper=None,
        proxy=None,
        view=MachineView(
            capabilities=engine_kind(settings.isolation).capabilities,
            state_dir=data_dir / "apps",
            told=data_dir / GATEWAYS,
        ),
        isolation="another gateway of this machine keeps the apps",
        proxy_port=served_at(settings, proxy_port),
        proxy_dir=run_dir / PROXY,
        router=RoutesOfKeeper(Router(run_dir / PROXY, settings.base_domain)),
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
    raise ProxyFailed("No gateway of this machine has started the proxy. Set proxy_port.")

"""Opens a gateway's own proxy, where another gateway keeps the apps, which need no machine."""

from contextlib import AsyncExitStack
from pathlib import Path

from moorage.deploy.platform import Following
from moorage.gateway.platform.beside import RoutesOfKeeper
from moorage.gateway.platform.isolation import make_engine, run_directory
from moorage.gateway.platform.opening import (
    APPS,
    PROXY,
    Opening,
    Platform,
    find_tool,
    instance_id,
    open_store,
    url_of,
)
from moorage.gateway.platform.proxy import hosts_of, open_proxy, served_at
from moorage.routing.router import Router
from moorage.settings import Settings


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
        engine=engine,
        directory=run_dir / PROXY,
        gateway_url=gateway_url,
        stop_apps=opening.stop_apps,
    )
    return Platform(
        keeper=None,
        proxy=proxy,
        view=engine,
        isolation=f"{isolation}; another gateway keeps the apps",
        proxy_port=served_at(settings, port),
        proxy_dir=run_dir / PROXY,
        router=RoutesOfKeeper(routes),
        hosts=hosts_of(settings, port),
        toolchains=toolchains,
        api_listener=opening.listener,
        gateway_url=gateway_url,
        several_proxies=True,
        reuses_addresses=True,
        following=Following(
            instances=engine,
            routes=routes,
            access_log=proxy.access_log,
        ),
    )

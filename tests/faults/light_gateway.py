"""A gateway whose apps cost nothing: a process of its own, to be killed as often as one likes.

Everything is the product's own but sandbox and proxy: apps are files, and one small server answers
for all of them. Pauses are shorter, so that a fault is over sooner. At each step the process tells
the test, and stands still until it is told to go on or to die.
"""

import asyncio
import gc
import json
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from moorage.clock import Clock
from moorage.failpoints import armed
from moorage.gateway.platform import (
    AppRunner,
    Opening,
    Platform,
    Proxy,
    Toolchains,
    hosts_of,
    url_of,
)
from moorage.gateway.platform_beside import RoutesOfLeader
from moorage.gateway.running import GatewayRun, stop_on_signals
from moorage.planning.toolbox import Toolbox
from moorage.routing.access_log import AccessLog
from moorage.routing.haproxy import ACCESS_LOGS
from moorage.routing.router import Router
from moorage.settings import Settings, load_settings
from moorage.storage.opening import Purpose
from moorage.toolchains.inventory import Inventory
from moorage.toolchains.store import ToolchainStore
from support.engines.file_engine import FileEngine

LOOPBACK = "127.0.0.1"


class LightProxy:
    """Answers for each app that a host leads to, and on the apps' own socket."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def open(self, stack: AsyncExitStack, socket_path: Path, *, port: int) -> int:
        """Listen on the apps' socket, and on a port, which it gives; 0 takes a free one."""
        server = web.Application()
        server.router.add_get("/{path:.*}", self._serve)
        runner = web.AppRunner(server, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        socket_path.unlink(missing_ok=True)
        await web.UnixSite(runner, str(socket_path)).start()
        await web.TCPSite(runner, LOOPBACK, port).start()
        return int(runner.addresses[-1][1])

    async def start(self) -> int:
        return 0

    async def keep_running(self) -> None:
        await asyncio.Future()  # it never ends

    def alive(self) -> bool:
        return True

    async def _serve(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        of_the_apps = request.transport.get_extra_info("peername") in ("", b"")  # a unix socket
        host = request.headers["Host"].partition(":")[0]
        leads = of_the_apps or self._router.target(host) is not None
        return web.Response(text="hello", status=200 if leads else 503)


class KnownTools(Inventory):
    """Has Node, and starts no program of the machine to ask for its version."""

    async def known(self) -> Toolbox:
        return Toolbox(host={"node": ("22.0.0",), "npm": ("10.0.0",)})


def open_toolchains(stack: AsyncExitStack, data_dir: Path, clock: Clock) -> Toolchains:
    """What plans are made with."""
    store = ToolchainStore(data_dir / "toolchains", npm=None, clock=clock)
    stack.push_async_callback(store.close)
    listing_file = data_dir / "toolchains.json"
    inventory = KnownTools(store, npm=None, listing_file=listing_file, clock=clock)
    return Toolchains(store=store, inventory=inventory)


async def open_platform(stack: AsyncExitStack, settings: Settings, opening: Opening) -> Platform:
    """The stand-ins, in the shape of the real parts."""
    run_dir = Path(settings.run_dir)
    apps_socket, proxy_dir = run_dir / "apps.sock", run_dir / "proxy"
    runtime = FileEngine(run_dir / "apps", apps_socket)
    router = Router(proxy_dir, settings.base_domain)
    proxy = LightProxy(router)
    isolation = await runtime.open()
    # Gateways beside it must know the port, whether or not they have come to keep the apps.
    wanted = settings.proxy_port if settings.gateway_name else 0
    port = await proxy.open(stack, apps_socket, port=wanted)
    return Platform(
        runner=AppRunner(runtime=runtime),
        proxy=Proxy(
            process=cast("Any", proxy),
            address=LOOPBACK,
            access_log=AccessLog(run_dir / ACCESS_LOGS, probe_token=""),
            probe_token="",
        ),
        view=runtime,
        isolation=isolation,
        proxy_port=port,
        proxy_dir=proxy_dir,
        router=router,
        hosts=hosts_of(settings, port),
        toolchains=open_toolchains(stack, Path(settings.data_dir), opening.clock),
        api_listener=opening.listener,
        gateway_url=url_of(settings, opening.listener),
    )


async def open_beside(stack: AsyncExitStack, settings: Settings, opening: Opening) -> Platform:
    """What a gateway has of the stand-ins while another keeps the apps."""
    run_dir = Path(settings.run_dir)
    view = FileEngine(run_dir / "apps", run_dir / "apps.sock")
    await view.open()
    return Platform(
        runner=None,
        proxy=None,
        view=view,
        isolation="none",
        proxy_port=settings.proxy_port,
        proxy_dir=run_dir / "proxy",
        router=RoutesOfLeader(Router(run_dir / "proxy", settings.base_domain)),
        hosts=hosts_of(settings, settings.proxy_port),
        toolchains=open_toolchains(stack, Path(settings.data_dir), opening.clock),
        api_listener=opening.listener,
        gateway_url=url_of(settings, opening.listener),
    )


class Prompter:
    """The line to the test: says where the gateway is, and waits for what to do."""

    def __init__(self, path: Path) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(path))

    def tell(self, **said: str) -> None:
        """Say it and wait; the whole process stands still meanwhile."""
        self._line.sendall(json.dumps(said).encode() + b"\n")
        if self._line.recv(1) != b"g":
            os.kill(os.getpid(), signal.SIGKILL)


async def serve(environment: Mapping[str, str], prompt: Path) -> None:
    """Run the gateway with the settings in an environment."""
    settings = load_settings(file=None, environ=environment)
    prompter = Prompter(prompt)
    with armed(lambda step: prompter.tell(step=step)):
        gateway = GatewayRun(
            settings=settings,
            chains={name: chain.chain(name) for name, chain in settings.chains.items()},
            pay_to=settings.pay_to,
            on_ready=lambda addresses: prompter.tell(up=addresses.gateway),
            stop_apps=False,
            purpose=Purpose.DEV,
            open_platform=open_platform,
            open_beside=open_beside,
            speed=20,
        )
        await gateway.until(stop_on_signals())


def run(environment: Mapping[str, str], prompt: Path, log: Path) -> None:
    """The whole of a process that logs to a file."""
    gc.freeze()  # what it was forked with; else it would be looked through, and copied by that
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    asyncio.run(serve(environment, prompt))

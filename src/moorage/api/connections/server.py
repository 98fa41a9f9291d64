"""HTTP servers inside one event loop: uvicorn, without its signal handlers."""

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from moorage.api.connections.connection import Bounds, connection_type
from moorage.auth.client_address import TrustedProxies
from moorage.loop import until_tick

_SHUTDOWN_SECONDS = 5
_KEEP_ALIVE_SECONDS = 75
_TICK_SECONDS = 1.0


class _Server(uvicorn.Server):
    """Ticks once a second, for the Date header, not ten times; `end` takes effect at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Stops after the requests under way are answered."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """Ticks until the end."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_tick(_TICK_SECONDS)):
                    await self._ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Captures no signals: the gateway handles them."""
        yield


class HttpServer:
    """One ASGI app served on one listening socket."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        bounds: Bounds | None = None,
        proxies: TrustedProxies | None = None,
    ) -> None:
        """`proxies` connect for many clients each: the limit by address does not apply to them."""
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=connection_type(bounds or Bounds(), proxies or TrustedProxies()),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )

    async def run(self) -> None:
        """Serves until `stop` or cancellation; answers the requests under way in both cases."""
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._server.end()
            await serving
            raise


def listen_tcp(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Returns a listening TCP socket; port 0 takes a free port. Raises OSError.

    With `shared`, other processes of this user that say so may listen there, too: the kernel
    divides connections among them (SO_REUSEPORT, socket(7)).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener

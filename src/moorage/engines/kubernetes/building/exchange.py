"""The port at which build pods get their files and leave what they built.

A ticket is a URL that nobody can guess, for one transfer of one build: it is good until that is
complete, or the build is over, and for one request at a time. It is all that a pod is known by. The
port is reached by whatever strangers' builds run, so connections that have shown no ticket are few
for each address and end soon, and what comes is bounded before it is kept. Pods may come through
one address: so a transfer counts by its ticket alone, and a new connection takes the place of one
that has been silent.
"""

import asyncio
import hashlib
import logging
import secrets
import zlib
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from aiohttp import web

from moorage.engines.images.layer import Layer
from moorage.errors import ConfigurationInvalid
from moorage.threads import in_thread

SOURCE, RESULT, INSTALL = "source", "result", "install"
_TOKEN_BYTES = 32
_PIECE_BYTES = 1 << 20
_GZIP = 31  # wbits of zlib
_MAX_CONNECTIONS = 512
_MAX_IDLE_EACH = 8  # of one address, that transfer nothing
_CLOSE_SECONDS = 1.0
_SILENCE_SECONDS = 60.0  # of a pod in the middle of a transfer: it may be gone without a word

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tickets:
    """The URLs of one build, and what has come of it."""

    source_url: str
    result_url: str
    install_url: str  # "" where none is asked for
    result: "asyncio.Future[Layer]"
    install: "asyncio.Future[Layer]"


@dataclass
class _Ticket:
    """One transfer that a build may make."""

    kind: str
    path: Path  # of the file that is sent, or that is written
    result: "asyncio.Future[Layer]"
    max_bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Exchange:
    """The port, which knows its tickets alone."""

    def __init__(self, *, host: str, port: int, url: str, idle_seconds: float = 10.0) -> None:
        """`url` is how pods reach it: `http://host:port`; "" for its own host and port.

        `idle_seconds` is for how long a connection may do nothing that a ticket allows.
        """
        self._host, self._port, self._url = host, port, url
        self._idle_seconds = idle_seconds
        self._busy: set[asyncio.BaseTransport | None] = set()
        self._tickets: dict[bytes, _Ticket] = {}
        self._runner: web.ServerRunner | None = None

    async def open(self) -> None:
        """Listens. Raises ConfigurationInvalid."""
        server = web.Server(self._answer, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=_CLOSE_SECONDS)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            listening = await loop.create_server(
                lambda: _Guard(server, self._busy, self._look_later), self._host, self._port
            )
        except OSError as error:
            raise ConfigurationInvalid(
                f"kubernetes_build_port: cannot listen on {self._host}:{self._port} "
                f"({error.strerror})"
            ) from error
        self._listening = listening
        host, port = listening.sockets[0].getsockname()[:2]
        self._url = (self._url or f"http://{host}:{port}").rstrip("/")

    async def close(self) -> None:
        """Ends all transfers, and listens no longer."""
        if self._runner is not None:
            self._listening.close()
            await self._runner.cleanup()
            self._runner = None

    @asynccontextmanager
    async def offered(
        self, *, source: Path, result: Path, max_bytes: int, install: Path | None = None
    ) -> AsyncIterator[Tickets]:
        """Gives tickets for fetching the file `source`, and for leaving layers as the other two.

        `max_bytes` is how large a layer may be when it is unpacked. They are worth nothing
        afterwards.
        """
        loop = asyncio.get_running_loop()
        came: dict[str, asyncio.Future[Layer]] = {
            kind: loop.create_future() for kind in (SOURCE, RESULT, INSTALL)
        }
        tickets = {
            _token(): _Ticket(SOURCE, source, came[SOURCE]),
            _token(): _Ticket(RESULT, result, came[RESULT], max_bytes),
        }
        if install is not None:
            tickets[_token()] = _Ticket(INSTALL, install, came[INSTALL], max_bytes)
        urls = {it.kind: f"{self._url}/{it.kind}/{token}" for token, it in tickets.items()}
        digests = {_digest(token): ticket for token, ticket in tickets.items()}
        self._tickets |= digests
        try:
            yield Tickets(
                source_url=urls[SOURCE],
                result_url=urls[RESULT],
                install_url=urls.get(INSTALL, ""),
                result=came[RESULT],
                install=came[INSTALL],
            )
        finally:
            for future in came.values():
                future.cancel()
            for digest in digests:
                self._tickets.pop(digest, None)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        kind, _, token = request.path.removeprefix("/").partition("/")
        digest = _digest(token)
        ticket = self._tickets.get(digest)
        method = "GET" if kind == SOURCE else "PUT"
        if ticket is None or (ticket.kind, method) != (kind, request.method):
            return web.Response(status=404)
        if ticket.lock.locked():
            return web.Response(status=503, text="it is being transferred already")
        self._busy.add(request.transport)
        try:
            async with ticket.lock:
                if kind == SOURCE:
                    response = await _sent(request, ticket.path)
                else:
                    response = await _received(request, ticket)
                if response.status < 300:
                    self._tickets.pop(digest, None)
                return response
        except (ConnectionError, TimeoutError) as error:  # nobody is there to be answered
            logger.info("a build's transfer was cut off: %r", error)
            return web.Response(status=408)
        finally:
            self._busy.discard(request.transport)

    def _end_if_idle(self, transport: asyncio.Transport) -> None:
        """Ends a connection that does nothing; looks at it again as long as it lasts."""
        if transport.is_closing():
            return
        if transport in self._busy:
            self._look_later(transport)
        else:
            transport.abort()

    def _look_later(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._idle_seconds, self._end_if_idle, transport)


class _Guard(asyncio.Protocol):
    """Takes a connection for the server, unless there are too many."""

    def __init__(
        self,
        server: web.Server,
        busy: Collection[asyncio.BaseTransport | None],
        taken: Callable[[asyncio.Transport], None],
    ) -> None:
        """`busy` are those that transfer; `taken` is called for each that the server gets."""
        self._server = server
        self._busy = busy
        self._taken = taken

    def connection_made(self, made: asyncio.BaseTransport) -> None:
        """Hands the connection over, or ends it."""
        transport = cast("asyncio.Transport", made)  # uvloop's are no instances of it
        if len(self._server.connections) >= _MAX_CONNECTIONS:
            transport.abort()
            return
        idle = self._idle_beside(transport)
        if len(idle) >= _MAX_IDLE_EACH:
            idle[0].abort()
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        self._taken(transport)

    def _idle_beside(self, transport: asyncio.Transport) -> list[asyncio.Transport]:
        """Returns the other connections of this address that transfer nothing, oldest first."""
        address = _address(transport)
        others = (cast("asyncio.Transport", it.transport) for it in self._server.connections)
        return [
            it
            for it in others
            if it is not None
            and not it.is_closing()
            and it not in self._busy
            and _address(it) == address
        ]


async def _sent(request: web.BaseRequest, path: Path) -> web.StreamResponse:
    """Sends a file to its end. Raises an error of the connection when that is lost before."""
    response = web.StreamResponse()
    response.content_length = (await in_thread(path.stat)).st_size
    await response.prepare(request)
    with path.open("rb") as file:
        while piece := await in_thread(file.read, _PIECE_BYTES):
            async with asyncio.timeout(_SILENCE_SECONDS):
                await response.write(piece)
    await response.write_eof()
    return response


async def _received(request: web.BaseRequest, ticket: _Ticket) -> web.StreamResponse:
    """Writes the body to the ticket's file, unless it is no layer or too large."""
    receipt = _Receipt(ticket.max_bytes)
    with ticket.path.open("wb") as file:
        while piece := await _next_piece(request):
            problem = await in_thread(receipt.take, piece)
            if problem:
                return web.Response(status=413, text=problem)
            await in_thread(file.write, piece)
    layer = receipt.end()
    if layer is None:
        return web.Response(status=400, text="the layer is no whole gzip stream")
    if not ticket.result.done():
        ticket.result.set_result(layer)
    return web.Response(status=204)


async def _next_piece(request: web.BaseRequest) -> bytes:
    """Returns the next bytes of a body; b"" at its end. Raises TimeoutError."""
    async with asyncio.timeout(_SILENCE_SECONDS):
        return await request.content.readany()


class _Receipt:
    """Measures a layer that comes in pieces; what it says of itself does not count."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._unpacker = zlib.decompressobj(_GZIP)
        self._plain, self._packed = hashlib.sha256(), hashlib.sha256()
        self._size = self._unpacked = 0

    def take(self, piece: bytes) -> str:
        """Takes a piece; returns why the layer can't be taken, or "". Blocks."""
        self._packed.update(piece)
        self._size += len(piece)
        if self._size > self._max_bytes:
            return "the layer is too large"
        try:
            while piece and not self._unpacker.eof:
                plain = self._unpacker.decompress(piece, _PIECE_BYTES)
                piece = self._unpacker.unconsumed_tail
                self._plain.update(plain)
                self._unpacked += len(plain)
                if self._unpacked > self._max_bytes:
                    return "the layer is too large when it is unpacked"
        except zlib.error:
            return "the layer is no gzip stream"
        return "something follows the layer" if self._unpacker.unused_data or piece else ""

    def end(self) -> Layer | None:
        """Returns what has come; None if the end is missing."""
        if not self._unpacker.eof:
            return None
        return Layer(
            digest=f"sha256:{self._packed.hexdigest()}",
            diff_id=f"sha256:{self._plain.hexdigest()}",
            size=self._size,
        )


def _token() -> str:
    return secrets.token_urlsafe(_TOKEN_BYTES)


def _digest(token: str) -> bytes:
    """Returns what a token is looked up by, so that no time tells how much of a guess is right."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


def _address(transport: asyncio.BaseTransport) -> str:
    found = transport.get_extra_info("peername")
    return str(found[0]) if found else ""

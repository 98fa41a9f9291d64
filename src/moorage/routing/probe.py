"""Checks whether an app answers at its public address, through the proxy, as a client would."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from enum import StrEnum

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult

from moorage.routing.haproxy_config import FALLBACK_HEADER, PROBE_HEADER


class Answer(StrEnum):
    """Who answered."""

    APP = "app"  # with any status below 500, 404 included
    APP_ERROR = "app_error"  # the app itself, with 500 or above
    FALLBACK = "fallback"  # the gateway or the proxy, in place of the app
    UNREACHABLE = "unreachable"  # nobody, before the timeout


class Probe(msgspec.Struct, frozen=True):
    """The result of a request; `status` is None if nobody answered."""

    answer: Answer
    status: int | None = None


async def probe(
    port: int,
    host: str,
    *,
    timeout_seconds: float,
    path: str = "/",
    address: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    token: str = "",
    headers: Mapping[str, str] | None = None,
) -> Probe:
    """Sends one GET of `path` at `host` to the proxy's `port` at `address` (IPv4).

    Redirects are an answer and not followed. With `tls` it is HTTPS, with `host` as SNI. The access
    log has `token`, which marks the request as the gateway's own.
    """
    url = f"{'http' if tls is None else 'https'}://{host}:{port}{path}"
    connector = aiohttp.TCPConnector(
        resolver=FixedResolver(address), family=socket.AF_INET, use_dns_cache=False, ssl=tls or True
    )
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        try:
            sent = dict(headers or {}) | ({PROBE_HEADER: token} if token else {})
            async with session.get(url, headers=sent, allow_redirects=False) as response:
                return _judge(response.status, fallback=FALLBACK_HEADER in response.headers)
        except (aiohttp.ClientError, TimeoutError):
            return Probe(Answer.UNREACHABLE)


async def answers(
    port: int,
    host: str,
    *,
    timeout_seconds: float,
    path: str = "/",
    address: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    token: str = "",
) -> bool:
    """Returns whether the app at `host` answers with a status below 500 within `timeout_seconds`.

    Repeats the request until then: the first certificate of a host takes a while.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    pause_seconds = 0.01
    while (left := deadline - loop.time()) > 0:
        seen = await probe(
            port, host, timeout_seconds=left, path=path, address=address, tls=tls, token=token
        )
        if seen.answer is Answer.APP:
            return True
        await asyncio.sleep(min(pause_seconds, max(deadline - loop.time(), 0)))
        pause_seconds = min(pause_seconds * 2, 0.5)
    return False


def _judge(status: int, *, fallback: bool) -> Probe:
    if fallback:
        return Probe(Answer.FALLBACK, status)
    return Probe(Answer.APP if status < 500 else Answer.APP_ERROR, status)


class FixedResolver(AbstractResolver):
    """Resolves every name to one address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Returns the address."""
        return [
            ResolveResult(
                hostname=host,
                host=self._address,
                port=port,
                family=family,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Does nothing."""

"""One attempt: a POST to a webhook, only to addresses that were checked."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from moorage.events.destination import Destinations

DEFAULT_TIMEOUT_SECONDS = 10.0

Resolve = Callable[[str], Awaitable[list[str]]]
"""Returns a host name's addresses, IPv4 and IPv6. Raises OSError."""


class NotDelivered(Exception):
    """The attempt failed; the message tells the webhook's owner why."""


class _AddressRefused(Exception):
    """The host has an address that is not allowed."""


class SystemResolver:
    """The machine's resolver, in threads of its own, so that a slow name delays no others."""

    def __init__(self, *, at_once: int) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="webhook-names")

    async def __call__(self, host: str) -> list[str]:
        """Returns all addresses of a host. Raises OSError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _addresses, host)


class Sender:
    """Posts messages. Follows no redirects, reads no bodies, keeps no connections or cookies."""

    def __init__(
        self,
        *,
        destinations: Destinations,
        resolve: Resolve,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        self._destinations = destinations
        self._resolve = resolve
        self._timeout_seconds = timeout_seconds
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Closes the connections."""
        for session in self._sessions.values():
            await session.close()

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        """Sends a message; returns the status of the answer. Raises NotDelivered."""
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._session(url.partition(":")[0].lower()).post(
                    url, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                return response.status
        except TimeoutError as late:
            raise NotDelivered(f"no answer within {self._timeout_seconds:g} s") from late
        except _AddressRefused as refused:
            raise NotDelivered("the host's address is not a public one") from refused
        except aiohttp.ClientConnectorDNSError as unknown:
            raise NotDelivered("the host's name cannot be resolved") from unknown
        except aiohttp.ClientSSLError as untrusted:
            raise NotDelivered("the TLS handshake failed: is the certificate valid?") from untrusted
        except (aiohttp.ClientError, OSError, ValueError) as broken:
            raise NotDelivered(f"no valid HTTP answer ({type(broken).__name__})") from broken

    def _session(self, scheme: str) -> aiohttp.ClientSession:
        if scheme not in self._sessions:
            self._sessions[scheme] = self._open(scheme)
        return self._sessions[scheme]

    def _open(self, scheme: str) -> aiohttp.ClientSession:
        def permits(address: str) -> bool:
            return self._destinations.permits(address, scheme=scheme)

        def checked_socket(info: aiohttp.AddrInfoType) -> socket.socket:
            """Checks again: every address comes here, resolved or written in the URL."""
            family, kind, protocol, _, address = info
            if not permits(str(address[0])):
                raise _AddressRefused
            return socket.socket(family, kind, protocol)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_CheckedResolver(self._resolve, permits),
                socket_factory=checked_socket,
                use_dns_cache=False,  # each attempt resolves and checks again
                force_close=True,
                limit=0,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )


class _CheckedResolver(AbstractResolver):
    """Returns a host's addresses if all of them are allowed; raises _AddressRefused if not."""

    def __init__(self, resolve: Resolve, permits: Callable[[str], bool]) -> None:
        self._resolve = resolve
        self._permits = permits

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 (never asked for one)
    ) -> list[ResolveResult]:
        addresses = await self._resolve(host)
        if not all(map(self._permits, addresses)):
            raise _AddressRefused
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Does nothing: there is nothing to close."""


def is_own_address(address: str) -> bool:
    """Returns whether an address is one of this machine's at present.

    It is when the kernel would send to it from the same address. No packet is sent.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((address, 9))
        except OSError:
            return False  # there is no route to it
        return bool(asking.getsockname()[0] == asking.getpeername()[0])


def _addresses(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]

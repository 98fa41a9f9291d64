"""TXT records, looked up with limits on time and size."""

import asyncio
import ipaddress
from collections.abc import Sequence

_PORT = 53
_AT_ONCE = 16


class LookupFailed(Exception):
    """It is not known whether the record exists; the message says why."""


class TxtRecords:
    """Looks records up over UDP, and over TCP when an answer is truncated.

    `servers` are resolvers as `address` or `address:port`; without any, the system's are used.
    Raises ValueError for one that is not an address.
    """

    def __init__(self, servers: Sequence[str] = (), *, timeout_seconds: float = 5.0) -> None:
        self._servers = [_endpoint(server) for server in servers]
        self._timeout_seconds = timeout_seconds
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def look(self, name: str) -> frozenset[str]:
        """Returns the texts of an absolute name's records, if any. Raises LookupFailed."""
        async with self._turn:
            from moorage.deploy.addresses.txt_lookup import look_up  # noqa: PLC0415  (10 MiB)

            seconds = self._timeout_seconds
            try:
                async with asyncio.timeout(seconds):
                    return await look_up(name, self._servers, timeout_seconds=seconds)
            except TimeoutError as error:
                raise LookupFailed(f"no answer within {seconds:g} s") from error


def _endpoint(server: str) -> tuple[str, int]:
    """Returns address and port of `address`, `address:port` or `[address]:port`."""
    try:
        return str(ipaddress.ip_address(server)), _PORT
    except ValueError:
        address, _, port = server.rpartition(":")
        return str(ipaddress.ip_address(address.strip("[]"))), int(port)

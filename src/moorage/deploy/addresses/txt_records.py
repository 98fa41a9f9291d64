"""TXT records, looked up with limits on time and size."""

import asyncio
import ipaddress
from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

_PORT = 53
_AT_ONCE = 16
_MAX_RECORDS = 50  # read from one answer; dnspython limits chains of aliases to 16


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
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    return await self._look(name)
            except (TimeoutError, dns.exception.Timeout) as error:
                raise LookupFailed(f"no answer within {self._timeout_seconds:g} s") from error
            except dns.resolver.NoNameservers as error:
                raise LookupFailed("the name servers refuse or fail to answer") from error
            except (dns.exception.DNSException, OSError) as error:
                raise LookupFailed(f"no readable answer ({type(error).__name__})") from error

    async def _look(self, name: str) -> frozenset[str]:
        try:
            answer = await self._resolver().resolve(
                name + ".", dns.rdatatype.TXT, lifetime=self._timeout_seconds, search=False
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return frozenset()
        return frozenset(
            b"".join(record.strings).decode("utf-8", "replace")
            for record in list(answer)[:_MAX_RECORDS]
        )

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """Returns a resolver; reads the system's configuration each time, as it may change."""
        resolver = dns.asyncresolver.Resolver(configure=not self._servers)
        if self._servers:
            resolver.nameservers = [address for address, _ in self._servers]
            resolver.nameserver_ports = dict(self._servers)
        return resolver


def _endpoint(server: str) -> tuple[str, int]:
    """Returns address and port of `address`, `address:port` or `[address]:port`."""
    try:
        return str(ipaddress.ip_address(server)), _PORT
    except ValueError:
        address, _, port = server.rpartition(":")
        return str(ipaddress.ip_address(address.strip("[]"))), int(port)

"""TXT records, asked of a resolver, within bounds."""

import asyncio
import ipaddress
from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

_PORT = 53
_AT_ONCE = 16
_MOST_RECORDS = 50  # read of one answer; chains of aliases are bounded by dnspython, at 16


class LookupFailed(Exception):
    """Whether there is such a record is not known; the message says why."""


class TxtRecords:
    """Looks records up over UDP, and over TCP where an answer is cut short.

    `servers` are resolvers as `address` or `address:port`; without any, the system's are asked.
    Raises ValueError for one that is no address.
    """

    def __init__(self, servers: Sequence[str] = (), *, timeout_seconds: float = 5.0) -> None:
        self._servers = [_endpoint(server) for server in servers]
        self._timeout_seconds = timeout_seconds
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def look(self, name: str) -> frozenset[str]:
        """The texts at an absolute name, none where it has none. Raises LookupFailed."""
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
            for record in list(answer)[:_MOST_RECORDS]
        )

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """A resolver; the system's configuration is read each time, as it may change."""
        resolver = dns.asyncresolver.Resolver(configure=not self._servers)
        if self._servers:
            resolver.nameservers = [address for address, _ in self._servers]
            resolver.nameserver_ports = dict(self._servers)
        return resolver


def _endpoint(server: str) -> tuple[str, int]:
    """`address`, `address:port` or `[address]:port`, apart."""
    try:
        return str(ipaddress.ip_address(server)), _PORT
    except ValueError:
        address, _, port = server.rpartition(":")
        return str(ipaddress.ip_address(address.strip("[]"))), int(port)

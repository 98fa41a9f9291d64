"""One lookup of TXT records, by dnspython. That takes 10 MiB: import this at the first lookup."""

from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from moorage.hosting.addresses.domains import LookupFailed

_MAX_RECORDS = 50  # read from one answer; dnspython limits chains of aliases to 16


async def look_up(
    name: str, servers: Sequence[tuple[str, int]], *, timeout_seconds: float
) -> frozenset[str]:
    """Returns the texts of an absolute name's records, if any. Raises LookupFailed.

    `servers` are addresses and ports of resolvers; without any, the system's are used.
    """
    try:
        answer = await _resolver(servers).resolve(
            name + ".", dns.rdatatype.TXT, lifetime=timeout_seconds, search=False
        )
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return frozenset()
    except dns.exception.Timeout as error:
        raise LookupFailed(f"no answer within {timeout_seconds:g} s") from error
    except dns.resolver.NoNameservers as error:
        raise LookupFailed("the name servers refuse or fail to answer") from error
    except (dns.exception.DNSException, OSError) as error:
        raise LookupFailed(f"no readable answer ({type(error).__name__})") from error
    return frozenset(
        b"".join(record.strings).decode("utf-8", "replace")
        for record in list(answer)[:_MAX_RECORDS]
    )


def _resolver(servers: Sequence[tuple[str, int]]) -> dns.asyncresolver.Resolver:
    """Returns a resolver; reads the system's configuration each time, as it may change."""
    resolver = dns.asyncresolver.Resolver(configure=not servers)
    if servers:
        resolver.nameservers = [address for address, _ in servers]
        resolver.nameserver_ports = dict(servers)
    return resolver

"""Where webhooks may go: HTTPS to the public internet, and what the operator allows beside it.

A URL is checked when it is given; the addresses its host has are checked at each attempt, as
these are what is connected to. Any port will do: without a certificate for the URL's host a server
gets no byte of a message.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from moorage.errors import InvalidField

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_URL_CHARACTERS = 2048
_VISIBLE_ASCII = re.compile(r"[!-~]+")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_-]+)*\.?", re.I)
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.I)

# IANA's special-purpose registries (RFC 6890), and multicast.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # Teredo, ORCHID and the like
        "2001:db8::/32",
        "2002::/16",  # 6to4: leads to an IPv4 address inside
        "3fff::/20",
    )
)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all of IPv6 that is assigned to hosts
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: leads to an IPv4 address inside


class Destinations:
    """Decides about URLs and addresses.

    `allow` are networks that may be reached although they are not public, over plain HTTP too;
    `deny` are ones that must not be although they are. Both are CIDRs. `is_own` tells the addresses
    of this machine, which are not reached either, public or not: who listens there alone trusts it.
    """

    def __init__(
        self,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        is_own: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._is_own = is_own
        self._allow = tuple(map(ipaddress.ip_network, allow))
        self._deny = tuple(map(ipaddress.ip_network, deny))

    def check_url(self, url: str) -> None:
        """Raise InvalidField unless this is a URL that a webhook may have."""
        problem = self._problem(url)
        if problem is not None:
            raise InvalidField("url", problem)

    def permits(self, address: str, *, scheme: str) -> bool:
        """Whether a message may be sent to this very address."""
        inner = _reached(ipaddress.ip_address(address))
        if _lies_in(inner, self._allow):
            return True
        if scheme != "https" or not _is_public(inner) or _lies_in(inner, self._deny):
            return False
        return not self._is_own(str(inner))

    def _problem(self, url: str) -> str | None:
        if len(url) > MOST_URL_CHARACTERS or not _VISIBLE_ASCII.fullmatch(url):
            return f"must be at most {MOST_URL_CHARACTERS} visible ASCII characters"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            return "is not a URL"
        if parts.scheme != "https" and not (parts.scheme == "http" and self._allow):
            return "must be an https:// URL"
        if "@" in parts.netloc or "\\" in url or "#" in url:
            return "must have neither user, nor backslash, nor fragment"
        if not host or port == 0:
            return "must name a host, and a port from 1 to 65535 if any"
        return self._host_problem(host, parts.scheme)

    def _host_problem(self, host: str, scheme: str) -> str | None:
        try:
            literal = str(ipaddress.ip_address(host))
        except ValueError:
            # What a resolver would read as an address, such as 127.1 or 0x7f000001, is no name.
            last_label = host.rstrip(".").rpartition(".")[2]
            is_name = _HOST_NAME.fullmatch(host) and not _NUMBER.fullmatch(last_label)
            return None if is_name else "must name a host by its DNS name or its address"
        return None if self.permits(literal, scheme=scheme) else "must lead to a public address"


def _reached(address: Address) -> Address:
    """The address that is reached in the end, where one is written inside another."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return not _lies_in(address, _NOT_PUBLIC)


def _lies_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)

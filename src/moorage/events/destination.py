"""Where webhooks may go: HTTPS to public addresses, and to networks that the operator allows.

A URL is checked when it is set; its host's addresses are checked at each attempt, as they may
change. Every port is allowed: a server without a certificate for the URL's host gets no byte of a
message.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from moorage.errors import InvalidField

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARACTERS = 2048
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
        "2002::/16",  # 6to4: contains an IPv4 address
        "3fff::/20",
    )
)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all public IPv6 addresses
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: contains an IPv4 address


class Destinations:
    """Decides which URLs and addresses are allowed.

    `allow` are networks that are allowed although they are not public, over plain HTTP too; `deny`
    are public networks that are refused. Both are CIDRs. `is_own` returns whether an address is
    this machine's; those are refused too unless they are in `allow`, as local services may
    trust whoever connects from this machine.
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
        """Raises InvalidField unless a webhook may have this URL."""
        problem = self._problem(url)
        if problem is not None:
            raise InvalidField("url", problem)

    def permits(self, address: str, *, scheme: str) -> bool:
        """Returns whether a message may be sent to this address."""
        inner = _contained(ipaddress.ip_address(address))
        if _is_in(inner, self._allow):
            return True
        if scheme != "https" or not _is_public(inner) or _is_in(inner, self._deny):
            return False
        return not self._is_own(str(inner))

    def _problem(self, url: str) -> str | None:
        if len(url) > MAX_URL_CHARACTERS or not _VISIBLE_ASCII.fullmatch(url):
            return f"must be at most {MAX_URL_CHARACTERS} visible ASCII characters"
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
            # Resolvers read 127.1 or 0x7f000001 as addresses, so these are no names.
            last_label = host.rstrip(".").rpartition(".")[2]
            is_name = _HOST_NAME.fullmatch(host) and not _NUMBER.fullmatch(last_label)
            return None if is_name else "must name a host by its DNS name or its address"
        return None if self.permits(literal, scheme=scheme) else "must lead to a public address"


def _contained(address: Address) -> Address:
    """Returns the IPv4 address that an IPv6 address contains, else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return not _is_in(address, _NOT_PUBLIC)


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)

"""The client address of a request, and the key that its rate limit is counted under."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

UNKNOWN = "unknown"
"""The client address of a request over a unix socket that no trusted proxy connects to."""

_UNIX_SOCKET = "unix"
_MAX_ADDRESS_CHARS = 56  # the longest address with zone, brackets and port


class TrustedProxies:
    """The proxies whose X-Forwarded-For is trusted.

    `networks` are addresses or networks in CIDR form; the word `unix` trusts every peer on a unix
    socket. Raises ValueError for anything else, also for bits beyond the prefix.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        names = tuple(networks)
        self._trusts_unix_socket = _UNIX_SOCKET in names
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(name) for name in names if name != _UNIX_SOCKET
        )
        self._trusts_nobody = not names

    def trusts(self, peer: str | None) -> bool:
        """Whether the socket's peer (None: a unix socket) is one of the proxies."""
        if peer is None:
            return self._trusts_unix_socket
        if self._trusts_nobody:
            return False
        address = _parse(peer)
        return address is not None and self._is_proxy(address)

    def client_address(self, peer: str | None, forwarded_for: Sequence[str] = ()) -> str:
        """Returns the client's address from the socket's peer and the X-Forwarded-For fields.

        The fields, in order, are one list. It is read from the right while each address is a
        trusted proxy; entries further left can be forged. If an entry is no address, the last
        trusted proxy counts as the client.
        """
        if not self.trusts(peer):
            return UNKNOWN if peer is None else _spelled(peer)
        nearest = peer or UNKNOWN
        for entry in reversed(",".join(forwarded_for).split(",")):
            address = _parse(entry.strip(" \t"))
            if address is None:
                break
            nearest = str(address)
            if not self._is_proxy(address):
                break
        return _spelled(nearest)

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


@lru_cache(maxsize=4096)
def rate_limit_key(client_address: str) -> str:
    """Returns the key of a client address: an IPv4 address, or the /64 of IPv6 (one customer's)."""
    address = _parse(client_address)
    if isinstance(address, IPv6Address):
        return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
    return client_address if address is None else str(address)


def _spelled(peer: str) -> str:
    address = _parse(peer)
    return peer if address is None else str(address)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address | None:
    """Parses an address, without port or zone, IPv4 in IPv6 as IPv4; returns None otherwise."""
    if len(text) > _MAX_ADDRESS_CHARS:
        return None
    try:
        address = ip_address(_without_port(text))
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _without_port(text: str) -> str:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host if port == "" or _is_port(port) else ""
    host, colon, port = text.partition(":")
    return host if colon and "." in host and _is_port(colon + port) else text


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isascii() and text[1:].isdecimal() and len(text) <= 6

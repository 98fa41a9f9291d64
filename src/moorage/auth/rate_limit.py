"""Rate limits, and the client's address that they count a request for."""

from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol

from moorage.clock import Clock, SystemClock
from moorage.errors import RateLimited
from moorage.storage.several.shared_tables import SharedTables

Address = IPv4Address | IPv6Address

UNKNOWN = "unknown"
"""The client address of a request over a unix socket that no trusted proxy connects to."""

_UNIX_SOCKET = "unix"
_MAX_ADDRESS_CHARS = 56  # the longest address with zone, brackets and port
_SINGLE = 16  # /64s of one /48 that are counted singly
_SINGLE_SECONDS = 3_600.0  # as long as the longest limit by address counts
_NETWORKS = 4_096  # /48s that are remembered of each hour


class TrustedProxies:
    """The proxies whose X-Forwarded-For is trusted.

    `networks` are addresses or networks in CIDR form; the word `unix` trusts every peer on a unix
    socket. Raises ValueError for anything else, also for bits beyond the prefix.
    """

    def __init__(self, networks: Iterable[str] = (), *, clock: Clock | None = None) -> None:
        names = tuple(networks)
        self._crowds = _Crowds(clock or SystemClock())
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

    def limit_key(self, client_address: str) -> str:
        """Returns what a client address is counted under, by every limit of addresses.

        That is `rate_limit_key`, but one key for the rest of a /48 of which many /64s were seen:
        a /48, which costs nothing, has 65,536 of them.
        """
        address = _parse(client_address)
        if isinstance(address, IPv6Address) and not self._crowds.is_single(int(address)):
            return _network(address, 48)
        return rate_limit_key(client_address)

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


class _Crowds:
    """The /64s that are counted singly: the first of each /48, until unseen for an hour or two."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Two generations of /48 → its /64s. The older is dropped as a whole.
        self._young: dict[int, set[int]] = {}
        self._old: dict[int, set[int]] = {}
        self._turn_seconds = clock.monotonic_seconds()

    def is_single(self, address: int) -> bool:
        """Returns whether the /64 of an IPv6 address is counted singly."""
        now_seconds = self._clock.monotonic_seconds()
        age_seconds = now_seconds - self._turn_seconds
        if age_seconds >= _SINGLE_SECONDS or len(self._young) >= _NETWORKS:
            self._old = {} if age_seconds >= 2 * _SINGLE_SECONDS else self._young
            self._young = {}
            self._turn_seconds = now_seconds
        seen = self._young.setdefault(address >> 80, set())
        subnet = address >> 64
        if subnet not in seen:
            before = self._old.get(address >> 80, set())
            if subnet not in before and len(seen | before) >= _SINGLE:
                return False
            seen.add(subnet)
        return True


@lru_cache(maxsize=4096)
def rate_limit_key(client_address: str) -> str:
    """Returns the key of a client address: an IPv4 address, or the /64 of IPv6 (one customer's)."""
    address = _parse(client_address)
    if isinstance(address, IPv6Address):
        return _network(address, 64)
    return client_address if address is None else str(address)


def _network(address: IPv6Address, bits: int) -> str:
    return str(IPv6Network((int(address), bits), strict=False))


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


class RateLimiter(Protocol):
    """Counts the requests of each key. Several gateways can share the counts."""

    limit: int
    """How many of a key pass in a window; may be changed at any time."""

    async def check(self, key: str) -> None:
        """Counts one request of `key`.

        Raises RateLimited, without counting, if too many have passed; its `retry_after_seconds` is
        the smallest whole number of seconds after which one passes.
        """
        ...


class MemoryRateLimiter:
    """At most `limit` requests of a key in any `window_seconds`, kept in memory.

    The window slides over the times of the requests. A bucket that refills would let a burst of 30
    and then another 30 pass within one minute. Refused requests do not count. Keys that have been
    quiet for a window are forgotten. Beyond `capacity` keys the ones quiet longest are forgotten
    early: a client with that many keys gains nothing by it, and new keys are never refused.
    """

    def __init__(
        self, *, clock: Clock, limit: int = 30, window_seconds: int = 60, capacity: int = 100_000
    ) -> None:
        self._clock = clock
        self.limit = limit
        self._window_us = window_seconds * 1_000_000
        # Two generations of key → times of its passed requests, oldest first. The older generation
        # is dropped as a whole, so that quiet keys need not be searched for.
        self._generation_size = max(1, capacity // 2)
        self._young: dict[str, array[int]] = {}
        self._old: dict[str, array[int]] = {}
        self._turn_us = self._now_us()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._young) + len(self._old)

    async def check(self, key: str) -> None:
        """Counts one request of `key`, like `RateLimiter.check`."""
        now_us = self._now_us()
        if now_us - self._turn_us >= self._window_us or len(self._young) >= self._generation_size:
            idle = now_us - self._turn_us >= 2 * self._window_us
            self._old = {} if idle else self._young
            self._young = {}
            self._turn_us = now_us
        times = self._young.get(key)
        if times is None:
            times = self._young[key] = self._old.pop(key) if key in self._old else array("q")
        if len(times) >= self.limit:
            wait_us = times[0] + self._window_us - now_us
            if wait_us > 0:
                raise RateLimited(-(-wait_us // 1_000_000))
            times.pop(0)
        times.append(now_us)

    def _now_us(self) -> int:
        # Whole microseconds: with sums of floats a client could pass slightly too early.
        return round(self._clock.monotonic_seconds() * 1_000_000)


class SharedRateLimiter(RateLimiter):
    """At most `limit` requests of a key in any window, whichever gateway they come to."""

    def __init__(
        self, tables: SharedTables, *, name: str, limit: int, window_seconds: int = 60
    ) -> None:
        """`name` sets its keys apart from those of other limiters."""
        self._tables = tables
        self._name = name
        self.limit = limit
        self._window_us = window_seconds * 1_000_000

    async def check(self, key: str) -> None:
        """Counts one request of `key`, like `RateLimiter.check`. Raises DatabaseUnavailable."""
        wait_us = await self._tables.count(
            f"{self._name}:{key}", limit=self.limit, window_us=self._window_us
        )
        if wait_us > 0:
            raise RateLimited(-(-wait_us // 1_000_000))

"""Delivery: a wallet's events go to its webhook one after the other, each at least once.

Rows store what is pending and when it is due, so a crash loses nothing: what was sent but not
recorded is sent again. Wallets do not wait for each other: each has at most one attempt under way,
by the gateway that has claimed it.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from moorage import __version__
from moorage.clock import Clock
from moorage.errors import InvalidField
from moorage.events.signature import signed_headers
from moorage.loop import until_tick
from moorage.metrics import WEBHOOK_ATTEMPTS
from moorage.money import json_of
from moorage.records.event import Delivery, DeliveryStatus, Webhook
from moorage.storage import events
from moorage.storage.database import Database, Transaction
from moorage.storage.vault import Vault

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
    trust everybody who connects from this machine.
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


@dataclass(eq=False, kw_only=True)
class Sender:
    """Posts messages. Follows no redirects, reads no bodies, keeps no connections or cookies."""

    destinations: Destinations
    resolve: Resolve
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Closes the connections."""
        for session in self._sessions.values():
            await session.close()

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        """Sends a message; returns the status of the answer. Raises NotDelivered."""
        try:
            async with (
                asyncio.timeout(self.timeout_seconds),
                self._session(url.partition(":")[0].lower()).post(
                    url, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                return response.status
        except TimeoutError as late:
            raise NotDelivered(f"no answer within {self.timeout_seconds:g} s") from late
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
            return self.destinations.permits(address, scheme=scheme)

        def checked_socket(info: aiohttp.AddrInfoType) -> socket.socket:
            """Checks again: every address comes here, resolved or written in the URL."""
            family, kind, protocol, _, address = info
            if not permits(str(address[0])):
                raise _AddressRefused
            return socket.socket(family, kind, protocol)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_CheckedResolver(self.resolve, permits),
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


log = structlog.get_logger()

PERIOD_SECONDS = 1.0
_PAUSE_AFTER_FAULT_SECONDS = 30.0
_LEASE_MS = 60_000  # several times the longest attempt
HEADERS = {"Content-Type": "application/json", "User-Agent": f"Moorage/{__version__}"}
_NOT_WANTED = "the receiver answered 410 Gone, which removed the webhook"

_SECOND_MS = 1000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS

PAUSES_MS = (
    10 * _SECOND_MS,
    1 * _MINUTE_MS,
    5 * _MINUTE_MS,
    30 * _MINUTE_MS,
    2 * _HOUR_MS,
    6 * _HOUR_MS,
    12 * _HOUR_MS,  # each further pause is as long
)
MAX_AGE_MS = 72 * _HOUR_MS
"""An older delivery is given up, after at least one attempt."""


class DeliveryWorker:
    """Sends what is due, to at most `at_once` webhooks at the same time."""

    def __init__(
        self, *, db: Database, sender: Sender, vault: Vault, at_once: int, holder: str, clock: Clock
    ) -> None:
        """`holder` is this gateway's id, as in `Leases`."""
        self._db = db
        self._holder = holder
        self._vault = vault
        self._sender = sender
        self._at_once = at_once
        self._clock = clock
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._doubtful: set[str] = set()  # those of `_under_way`, as `events.due` defines it
        self._free = asyncio.Event()
        self._oldest_ms: int | None = None

    async def run(self) -> None:
        """Delivers until cancelled, whatever errors receivers and the database cause."""
        try:
            while True:
                self._free.clear()
                try:
                    await self.begin_due()
                except Exception:  # the next round tries again
                    log.exception("webhooks cannot be read")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(until_tick(PERIOD_SECONDS)):
                        await self._free.wait()
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._sender.close()

    async def begin_due(self) -> None:
        """Begins what is due, at most `at_once`; doubtful webhooks get half of the places at most.

        So receivers that do not answer delay each other, but none that answers.
        """
        now_ms = self._clock.now_ms()
        for webhook, is_doubtful in await events.due(
            self._db, holder=self._holder, now_ms=now_ms, limit=2 * self._at_once
        ):
            if len(self._under_way) >= self._at_once:
                return
            if is_doubtful and len(self._doubtful) >= max(1, self._at_once // 2):
                continue
            if webhook.wallet not in self._under_way:
                self._begin(webhook, is_doubtful=is_doubtful)

    def oldest_pending_seconds(self) -> float:
        """Returns the age of the oldest pending delivery, as of the last `measure`, or 0."""
        if self._oldest_ms is None:
            return 0.0
        return max(0, self._clock.now_ms() - self._oldest_ms) / 1000

    async def measure(self) -> None:
        """Looks up the oldest pending delivery."""
        self._oldest_ms = await events.oldest_pending_ms(self._db)

    def _begin(self, webhook: Webhook, *, is_doubtful: bool) -> None:
        if is_doubtful:
            self._doubtful.add(webhook.wallet)
        task = asyncio.create_task(self._attempt(webhook), name=f"webhook {webhook.wallet}")
        self._under_way[webhook.wallet] = task
        task.add_done_callback(lambda _: self._ended(webhook.wallet))

    def _ended(self, wallet: str) -> None:
        del self._under_way[wallet]
        self._doubtful.discard(wallet)
        self._free.set()

    async def _attempt(self, webhook: Webhook) -> None:
        """Sends the wallet's first pending delivery, and records the outcome."""
        try:
            fence = await self._claim(webhook.wallet)
            delivery = await events.first_pending(self._db, webhook.wallet)
            if fence is None or delivery is None:
                return  # another gateway claimed it, or the webhook was removed meanwhile
            outcome = await self._send(webhook, delivery)
            async with self._db.transaction(durable=False) as tx:
                held = await events.fence_of(tx, webhook.wallet, holder=self._holder)
                if held == fence:
                    await self._record(tx, webhook, delivery, outcome)
        except Exception:  # nothing was recorded: it is sent again, after a pause
            log.exception("webhook delivery failed", wallet=webhook.wallet)
            await asyncio.sleep(_PAUSE_AFTER_FAULT_SECONDS)

    async def _claim(self, wallet: str) -> int | None:
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=False) as tx:
            return await events.claim(
                tx, wallet, holder=self._holder, now_ms=now_ms, until_ms=now_ms + _LEASE_MS
            )

    async def _send(self, webhook: Webhook, delivery: Delivery) -> "_Outcome":
        event = delivery.event
        body = json_of(event.document())
        headers = signed_headers(
            secret=self._vault.open_secret(webhook.secret, webhook.wallet),
            message_id=event.id,
            timestamp_seconds=self._clock.now_ms() // 1000,
            body=body,
        )
        try:
            status = await self._sender.post(webhook.url, headers=HEADERS | headers, body=body)
        except NotDelivered as failure:
            return _Outcome(str(failure))
        if 200 <= status < 300:
            return _Outcome(None)
        return _Outcome(f"HTTP {status}", gone=status == HTTPStatus.GONE)

    async def _record(
        self, tx: Transaction, webhook: Webhook, delivery: Delivery, outcome: "_Outcome"
    ) -> None:
        """Records an attempt and schedules the next: this delivery again, or the one after it."""
        wallet, error = webhook.wallet, outcome.error
        if error is None:
            await self._finish(tx, wallet, delivery, DeliveryStatus.DELIVERED, None)
        elif await events.webhook_of(tx, wallet) != webhook:
            return  # it failed at an earlier URL; the present one is tried next
        elif outcome.gone:
            await self._finish(tx, wallet, delivery, DeliveryStatus.FAILED, error)
            await events.remove_webhook(tx, wallet, why=_NOT_WANTED)
        else:
            again_ms = next_attempt_ms(
                attempts=delivery.attempts + 1,
                created_at_ms=delivery.created_at_ms,
                now_ms=self._clock.now_ms(),
            )
            if again_ms is None:
                await self._finish(tx, wallet, delivery, DeliveryStatus.FAILED, error)
            else:
                WEBHOOK_ATTEMPTS.labels("failed").inc()
                await events.record_attempt(tx, delivery, DeliveryStatus.PENDING, error=error)
                await events.schedule(tx, wallet, at_ms=again_ms)

    async def _finish(
        self,
        tx: Transaction,
        wallet: str,
        delivery: Delivery,
        status: DeliveryStatus,
        error: str | None,
    ) -> None:
        """Records the end of a delivery; the next one is due at once."""
        WEBHOOK_ATTEMPTS.labels("delivered" if error is None else "given_up").inc()
        await events.record_attempt(tx, delivery, status, error=error)
        following = await events.first_pending(tx, wallet)
        at_ms = None if following is None else self._clock.now_ms()
        await events.schedule(tx, wallet, at_ms=at_ms)


class _Outcome(NamedTuple):
    error: str | None  # None: it was delivered
    gone: bool = False  # the receiver answered 410


def next_attempt_ms(*, attempts: int, created_at_ms: int, now_ms: int) -> int | None:
    """Returns when to try again after the `attempts`-th attempt failed now; None to give up."""
    at_ms = now_ms + PAUSES_MS[min(attempts, len(PAUSES_MS)) - 1]
    return at_ms if at_ms <= created_at_ms + MAX_AGE_MS else None

"""Keeps a gateway from running beside another that takes the same payments with books of its own.

A gateway that was restored or copied credits what the one that it was copied from credits. Two of
one machine lock each address on a chain in one file. Two of different machines have only an address
in common to which visitors are routed, so each gateway asks there which gateway answers: at its
start, where it ends if another takes the same payments, and each minute, when it logs that. If
nobody can be asked, that is not known, and stops nothing.

`GET /health` answers the question in a header: with a random id of this run; a random value in the
database, which all gateways on it see, and no copy has, as each start writes another; and a mark of
each address that the gateway takes payments to or sends from.
"""

import asyncio
import fcntl
import ipaddress
import os
import secrets
import socket
import ssl
import struct
import tempfile
from collections.abc import Awaitable, Collection, Iterable
from contextlib import AsyncExitStack
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
import structlog

from moorage.address import parse_address
from moorage.api.public import INSTANCE_HEADER
from moorage.clock import Clock
from moorage.errors import AlreadyRunning, DatabaseUnavailable
from moorage.gateway.configuration import in_force
from moorage.metrics import gauge
from moorage.payments.relay.relayer import key_in
from moorage.routing.probe import FixedResolver
from moorage.settings import Settings
from moorage.storage.database import Database, Source
from moorage.storage.operation import configuration
from moorage.storage.several import cluster
from moorage.storage.several.cluster import identity
from moorage.trust import trusting

STALE_SECONDS = 1.0
"""How old a token's part from the database may be: strangers can't have it read more often."""

_READ_SECONDS = 1.0
_BOOKS = "books"  # the name of the value in the database
_MARK_BYTES = 8


class InstanceToken(msgspec.Struct, frozen=True, kw_only=True):
    """Which gateway answers."""

    run: str
    books: str
    takes: frozenset[str]

    @property
    def text(self) -> str:
        """It as a header's value."""
        return f"run={self.run}; books={self.books}; takes={','.join(sorted(self.takes))}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Returns what a header says; None if it is no gateway's."""
        fields = dict(part.strip().partition("=")[::2] for part in text.split(";"))
        run, books, takes = (fields.get(name, "") for name in cls.__struct_fields__)
        if not run or not books:
            return None
        return cls(run=run, books=books, takes=frozenset(filter(None, takes.split(","))))


class Answered(StrEnum):
    """Who answers at an address."""

    THIS = "this"
    SIBLING = "sibling"  # another gateway on the same database
    COPY = "copy"  # one with other books that takes payments to an address of ours
    OTHER = "other"  # one with other books and other addresses
    NOBODY = "nobody"  # no gateway, or none that could be asked


def judge(answers: Iterable[InstanceToken], own: InstanceToken) -> Answered:
    """Returns who answers, the worst of them."""
    found = list(answers)
    others = [each for each in found if each.run != own.run and each.books != own.books]
    if any(not each.takes.isdisjoint(own.takes) for each in others):
        return Answered.COPY
    if others:
        return Answered.OTHER
    if not found:
        return Answered.NOBODY
    is_this = any(each.run == own.run for each in found)
    return Answered.THIS if is_this else Answered.SIBLING


class OwnInstanceToken:
    """What this gateway shows."""

    def __init__(self, db: Database, *, run: str, addresses: Iterable[str], clock: Clock) -> None:
        self._db = db
        self._run = run
        self._takes = frozenset(map(_mark, addresses))
        self._clock = clock
        self._books = ""
        self._read_at = float("-inf")

    async def enter(self) -> None:
        """Writes another value into the database. Raises DatabaseUnavailable."""
        await cluster.replace(self._db, _BOOKS, secrets.token_hex(16))

    async def read(self) -> InstanceToken:
        """Returns it as it is now. Raises DatabaseUnavailable."""
        self._read_at = self._clock.monotonic_seconds()
        self._books = await cluster.agreed(self._db, _BOOKS)
        return InstanceToken(run=self._run, books=self._books, takes=self._takes)

    async def text(self) -> str:
        """Returns the header's value, which may be a little old.

        While the database does not answer it is that of no gateway that is known.
        """
        if self._clock.monotonic_seconds() - self._read_at >= STALE_SECONDS:
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    await self.read()
            except (DatabaseUnavailable, TimeoutError):
                self._books = ""  # so it is not known: a sibling that starts has written another
        return InstanceToken(run=self._run, books=self._books, takes=self._takes).text


def _mark(address: str) -> str:
    return blake2b(address.encode(), digest_size=_MARK_BYTES).hexdigest()


ASK_SECONDS = 3.0

_MAX_ADDRESSES = 8
_WEB_PORTS = {"http": 80, "https": 443}


class Asked(NamedTuple):
    """What was found at an address: gateways, or why there is none."""

    gateways: tuple[InstanceToken, ...]
    problem: str = ""


def is_public(url: str) -> bool:
    """Returns whether a URL may lead to another machine."""
    host = urlsplit(url).hostname
    if not host or host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    return not (address.is_loopback or address.is_unspecified)


async def ask(url: str, roots: Collection[Path] = (), *, elsewhere: bool = False) -> Asked:
    """Asks every address that the URL's host has now; `roots` are trusted beside the system's.

    With `elsewhere`, addresses of this machine are not asked.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _WEB_PORTS.get(parts.scheme, 0)
    try:
        tls = await asyncio.to_thread(trusting, *roots) if parts.scheme == "https" else None
        async with asyncio.timeout(ASK_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError, UnicodeError) as error:  # the last is of what is no host's name
        return Asked((), f"{host}: {str(error) or 'no answer of its name server'}")
    addresses = list(dict.fromkeys((each[0], str(each[4][0])) for each in found))
    if elsewhere:
        addresses = [each for each in addresses if not _is_own(*each)]
    return _together(
        await asyncio.gather(
            *(_ask(url, family, address, tls) for family, address in addresses[:_MAX_ADDRESSES])
        )
    )


def _is_own(family: int, address: str) -> bool:
    """Returns whether this machine has an address."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:  # also where the kernel has no IPv6
        return False
    return True


async def _ask(url: str, family: int, address: str, tls: ssl.SSLContext | None) -> Asked:
    connector = aiohttp.TCPConnector(
        resolver=FixedResolver(address),
        family=socket.AddressFamily(family),
        use_dns_cache=False,
        ssl=tls or True,
    )
    timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(
                f"{url.rstrip('/')}/health", headers={INSTANCE_HEADER: "?"}, allow_redirects=False
            ) as response,
        ):
            found = InstanceToken.parse(response.headers.get(INSTANCE_HEADER, ""))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return Asked((), f"{address}: {str(error) or 'no answer'}")
    return Asked((found,)) if found else Asked((), f"{address}: what answers is no gateway")


def _together(answers: Iterable[Asked]) -> Asked:
    found = list(answers)
    gateways = tuple(each for asked in found for each in asked.gateways)
    problems = "; ".join(asked.problem for asked in found if asked.problem)
    return Asked(gateways, problems)


ROOTS_LOCK_FILE = Path("/run/moorage/addresses.lock")
"""Of all gateways with root; engines make their places beside it, which apps' users pass to."""

_PLACE_BYTES = 5  # so that a place is far below 2**63, where a lock ends
_BOOKS_BYTES = 2
_PLACE_SIZE = 1 << 8 * _BOOKS_BYTES

_FLOCK = "@hhqqi4x"  # struct flock of fcntl(2): type, whence, start, length, pid


async def taken_addresses(settings: Settings, db: Database, *, pay_to: str) -> list[str]:
    """Returns every address that this gateway watches or sends from, on each chain (CAIP-10).

    Raises ConfigurationInvalid for a relayer key that can't be read.
    """
    addresses = {*await configuration.RECIPIENTS.in_use(db), parse_address(pay_to)}
    if settings.relayer_key_file:
        relayer = key_in(Path(settings.relayer_key_file), option="relayer_key_file")
        addresses.add(parse_address(relayer.address))
    chains = {item.chain(name).chain_id for name, item in settings.chains.items()}
    return [
        f"eip155:{chain_id}:{address}"
        for address in sorted(addresses)
        for chain_id in sorted(chains)
    ]


async def hold_addresses(
    stack: AsyncExitStack, settings: Settings, db: Database, *, addresses: Iterable[str]
) -> None:
    """Holds these `taken_addresses` until `stack` is closed.

    Raises AlreadyRunning where another gateway of this machine has one of them.
    """
    try:
        descriptor = _open_lock_file()
    except OSError as error:
        log.warning("not known whether other gateways take the same payments", error=str(error))
        return
    stack.callback(os.close, descriptor)
    books = _number(await identity(db), _BOOKS_BYTES) if settings.gateway_name else None
    for name in addresses:
        if not _hold(descriptor, _number(name, _PLACE_BYTES) * _PLACE_SIZE, books):
            raise AlreadyRunning(
                f"Another gateway on this machine takes payments to {name}, or sends from it, and "
                "has books of its own: both would credit the same payments. Stop that one, or give "
                "this one a pay_to and a relayer_key_file of its own."
            )


def _hold(descriptor: int, place: int, books: int | None) -> bool:
    """Locks a place for a gateway alone, or for all with these books; returns whether it may."""
    if books is None:
        return _lock(descriptor, fcntl.LOCK_EX, begin=place, size=_PLACE_SIZE)
    own, end = place + books, place + _PLACE_SIZE
    return (
        _lock(descriptor, fcntl.LOCK_SH, begin=own, size=1)
        and not _is_locked(descriptor, begin=place, end=own)
        and not _is_locked(descriptor, begin=own + 1, end=end)
    )


def _lock(descriptor: int, kind: int, *, begin: int, size: int) -> bool:
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, size, begin)
    except (BlockingIOError, PermissionError):  # lockf(3) may say either
        return False
    return True


def _is_locked(descriptor: int, *, begin: int, end: int) -> bool:
    """Returns whether another process has a lock between these places."""
    if begin == end:
        return False
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, begin, end - begin, 0)
    (kind, *_) = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return bool(kind != fcntl.F_UNLCK)


def _number(name: str, size_bytes: int) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=size_bytes).digest(), "big")


def _open_lock_file() -> int:
    """Opens the file that all gateways of this user lock. Raises OSError."""
    if os.geteuid() == 0:
        path = ROOTS_LOCK_FILE
        path.parent.mkdir(mode=0o755, exist_ok=True)
    else:
        path = Path(tempfile.gettempdir(), f"moorage-{os.geteuid()}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(f"{path} is another user's")
    return descriptor


log = structlog.get_logger()

_address_answers = gauge(
    "moorage_address_answers",
    "1 for who last answered at the public address: this gateway, a sibling on its database, a "
    "copy (books of its own, payments to the same address), another gateway, or nobody.",
    ("by",),
)

for _who in Answered:
    _address_answers.labels(_who).set(0)

CHECK_SECONDS = 60.0


class Ask(Protocol):
    """Asks a URL which gateways answer there, as `ask`."""

    def __call__(self, url: str, roots: Collection[Path], *, elsewhere: bool) -> Awaitable[Asked]:
        """Asks it."""
        ...


@dataclass(eq=False)
class DuplicateGatewayCheck:
    """What one gateway shows at its public address, and who it finds there."""

    settings: Settings
    _: KW_ONLY
    clock: Clock
    beside_another: bool = False  # it starts though another gateway takes the same payments
    ask: Ask = ask
    again_seconds: float = 2 * STALE_SECONDS  # where another answers

    def __post_init__(self) -> None:
        self._url = self.settings.public_url
        self._run = secrets.token_hex(16)
        self._own: OwnInstanceToken | None = None
        self._answered: Answered | None = None

    async def enter(self, db: Database, addresses: Iterable[str]) -> None:
        """Begins to show this gateway, which takes payments to `addresses`, with its books.

        The first time it asks who answers at its address, and at that of the start before, both at
        once. Raises AlreadyRunning where another gateway answers that takes the same payments.
        """
        is_start = self._own is None
        own = OwnInstanceToken(db, run=self._run, addresses=addresses, clock=self.clock)
        await own.enter()
        self._own = own
        if is_start:
            asked = (self._give_way(own, url) for url in await self._urls(db))
            for outcome in await asyncio.gather(*asked, return_exceptions=True):
                if outcome is not None:
                    raise outcome

    async def text(self) -> str:
        """Returns the header that tells this gateway from others; "" before it has entered."""
        return "" if self._own is None else await self._own.text()

    async def poll(self) -> None:
        """Asks who answers at the public address; logs when that changes."""
        if self._own is None or not is_public(self._url):
            return
        answered, problem = await self._who(self._own, self._url, elsewhere=False)
        if answered is self._answered:
            return
        before, self._answered = self._answered, answered
        for who in Answered:
            _address_answers.labels(who).set(who is answered)
        if answered in _AMISS:
            log.error("another gateway answers at the public address", error=self._amiss(answered))
        elif answered is Answered.NOBODY:
            log.warning("not known who answers at the public address", error=problem)
        elif before is not None:
            log.info("the public address leads to a gateway of this database", by=answered)

    async def check(self) -> None:
        """Raises AlreadyRunning while another gateway answers at the public address."""
        if self._answered in _AMISS:
            raise AlreadyRunning(self._amiss(self._answered))

    async def _urls(self, source: Source) -> list[str]:
        """Returns the public addresses of now and of the start before, where an old one may be."""
        before = (await in_force(source, self.settings)).get("public_url", '""')
        urls = (self._url, msgspec.json.decode(before, type=str))
        return [url for url in dict.fromkeys(urls) if is_public(url)]

    async def _give_way(self, own: OwnInstanceToken, url: str) -> None:
        """Asks other machines: this gateway listens already, but does not answer yet."""
        answered, problem = await self._who(own, url, elsewhere=True)
        if answered is Answered.NOBODY and problem:
            log.warning(
                "not known whether another gateway takes the same payments", url=url, error=problem
            )
        elif answered is Answered.COPY and not self.beside_another:
            raise AlreadyRunning(f"{_SAID[answered].format(url=url)} {_WAY_OUT}")
        elif answered in _AMISS:
            log.warning(
                "another gateway answers at the public address",
                error=_SAID[answered].format(url=url),
            )

    async def _who(
        self, own: OwnInstanceToken, url: str, *, elsewhere: bool
    ) -> tuple[Answered, str]:
        """Returns who answers, and why nobody does.

        Another is asked twice: a sibling may not have read yet what a start has just written.
        """
        answered, problem = await self._judged(own, url, elsewhere=elsewhere)
        if answered not in _AMISS:
            return answered, problem
        await asyncio.sleep(self.again_seconds)
        return await self._judged(own, url, elsewhere=elsewhere)

    async def _judged(
        self, own: OwnInstanceToken, url: str, *, elsewhere: bool
    ) -> tuple[Answered, str]:
        roots = self.settings.roots
        asked = await self.ask(url, roots, elsewhere=elsewhere)
        return judge(asked.gateways, await own.read()), asked.problem

    def _amiss(self, answered: Answered) -> str:
        return _SAID[answered].format(url=self._url)


_AMISS = (Answered.COPY, Answered.OTHER)
_SAID = {
    Answered.COPY: "Another gateway answers at {url}, takes payments to an address of this one, or "
    "sends from it, and has books of its own: both would credit the same payments.",
    Answered.OTHER: "Another gateway answers at {url}, with books and addresses of its own: "
    "visitors do not reach this one.",
}
_WAY_OUT = (
    "Stop that one, or give this one a pay_to and a relayer_key_file of its own. If you know that "
    "the other takes no payments any more, start with --beside-another."
)

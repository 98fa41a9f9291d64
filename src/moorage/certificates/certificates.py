"""Which names are to have certificates, which have one, and why another has none."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import structlog

from moorage.certificates.installation import WildcardFiles
from moorage.clock import Clock, SteadyWall, iso_utc
from moorage.storage.apps import certificates
from moorage.storage.database import Database

log = structlog.get_logger()

_DAY_MS = 86_400_000
_WEEK_MS = 7 * _DAY_MS
_FORGOTTEN_MS = 120 * _DAY_MS  # a certificate that was not renewed has expired by then
_POLL_SECONDS = 0.2


@dataclass(eq=False, kw_only=True)
class Certificates:
    """Counts each wallet's share, as authorities limit how many a domain gets in a week.

    New hosts are limited per wallet and week. A host that was wanted before is always allowed, as
    its certificate is renewed. Hosts directly below a domain of `wildcards` need none of their own.
    """

    db: Database
    own_names: Collection[str]  # the gateway's
    wildcards: Collection[str]
    files: WildcardFiles | None
    per_wallet: int
    clock: Clock
    kick: Callable[[], None]  # has orders begin
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        self._wall = SteadyWall(self.clock)  # what has not expired has not when the clock is set

    async def want(self, host: str, wallet: str) -> bool:
        """Has a host, lower case and without port, get a certificate and keep one.

        Returns False if the wallet's share of new ones is used up. A host that is not wanted for
        three days is not renewed. Raises DatabaseUnavailable.
        """
        if self._name_for(host) != host:
            return True
        now_ms = self.clock.now_ms()
        asked = await certificates.asked(self.db, host)
        if asked is not None and asked.is_ordered and 0 <= now_ms - asked.asked_at_ms < _DAY_MS:
            return True
        async with self.db.transaction(durable=False) as tx:
            if not await certificates.touch(tx, host, now_ms=now_ms):
                await certificates.forget(tx, until_ms=now_ms - _FORGOTTEN_MS)
                since_ms = now_ms - _WEEK_MS
                new = await certificates.count_since(tx, wallet, since_ms=since_ms)
                if wallet and new >= self.per_wallet:
                    log.warning("no certificate: the wallet had its share", host=host, by=wallet)
                    return False
                await certificates.add(tx, host, wallet=wallet, now_ms=now_ms)
        self.kick()
        return True

    async def unwanted(self, hosts: Collection[str]) -> set[str]:
        """Returns those of `hosts` that were not wanted within a day and need one of their own."""
        known = await certificates.asked_since(self.db, self.clock.now_ms() - _DAY_MS)
        return {host for host in hosts if self._name_for(host) == host} - known

    async def want_own(self) -> None:
        """Wants the gateway's own names. Raises DatabaseUnavailable."""
        for name in self.own_names:
            await self.want(name, "")

    async def has(self, host: str) -> bool:
        """Returns whether there is a certificate for a host that has not expired."""
        name, now_ms = self._name_for(host), self._wall.now_ms()
        if self.files is not None and name != host:
            return now_ms < self.files.not_after_ms
        end_ms = await certificates.not_after_ms(self.db, name)
        return end_ms is not None and now_ms < end_ms

    async def wait_for(self, host: str, seconds: float) -> bool:
        """Returns whether there is one, after `seconds` at most; at once if none is due by then."""
        name, until_ms = self._name_for(host), self.clock.now_ms() + round(seconds * 1000)
        deadline = self.clock.monotonic_seconds() + seconds
        while not await self.has(host):
            failed = await certificates.problem(self.db, name)
            is_put_off = failed.text and (failed.order_at_ms or until_ms) >= until_ms
            if is_put_off or self.clock.monotonic_seconds() >= deadline:
                return False
            await self.pause(_POLL_SECONDS)
        return True

    async def problem(self, host: str) -> str:
        """Returns why a host has no certificate, and when one is ordered next, as sentences."""
        found = await certificates.problem(self.db, self._name_for(host))
        if not found.text:
            return ""
        when = "" if found.order_at_ms is None else f" Next try: {iso_utc(found.order_at_ms)}."
        return f"{found.text}{when}"

    def _name_for(self, host: str) -> str:
        """Returns the name of the certificate that serves a host: its own, or a wildcard's."""
        label, _, parent = host.partition(".")
        return f"*.{parent}" if label != "*" and parent in self.wildcards else host

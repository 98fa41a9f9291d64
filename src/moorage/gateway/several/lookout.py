"""Who answers at this gateway's public address: this gateway, or one that it must not run beside.

A gateway that was restored or copied has books of its own, and credits what the one that it was
copied from credits. `takers` keeps such two of one machine apart. Those of two machines have no
more in common than an address that visitors are led to, so each gateway asks there who answers:
at its start, where it gives way to another that takes the same payments, and each minute, when it
says so. Who cannot be asked is not known, and stops nothing.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Collection, Iterable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from moorage.clock import Clock
from moorage.errors import AlreadyRunning
from moorage.gateway.operator.vital_signs import note_answered
from moorage.gateway.several.asking import Asked, ask, is_public
from moorage.gateway.several.presence import STALE_SECONDS, Answered, OwnPresence, judge
from moorage.gateway.state.configuration import in_force
from moorage.settings import Settings
from moorage.storage.database import Database, Source

log = structlog.get_logger()

EVERY_SECONDS = 60.0


class Ask(Protocol):
    """Asks a URL which gateways answer there, as `ask`."""

    def __call__(self, url: str, roots: Collection[Path], *, elsewhere: bool) -> Awaitable[Asked]:
        """Asks it."""
        ...


class Lookout:
    """What one gateway shows at its public address, and who it finds there."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        beside_another: bool = False,
        ask: Ask = ask,
        again_seconds: float = 2 * STALE_SECONDS,
    ) -> None:
        """With `beside_another` it starts though another gateway takes the same payments.

        Where another answers it is asked again after `again_seconds`.
        """
        self._url = settings.public_url
        self._settings = settings
        self._clock = clock
        self._beside_another = beside_another
        self._ask = ask
        self._again_seconds = again_seconds
        self._run = secrets.token_hex(16)
        self._own: OwnPresence | None = None
        self._answered: Answered | None = None

    async def enter(self, db: Database, addresses: Iterable[str]) -> None:
        """Begins to show this gateway, which takes payments to `addresses`, with its books.

        The first time it asks who answers at its address, and at that of the start before, both at
        once: where neither answers, as behind a router that leads nobody back, that takes the time
        of one. Raises AlreadyRunning where another gateway answers that takes the same payments.
        """
        is_start = self._own is None
        own = OwnPresence(db, run=self._run, addresses=addresses, clock=self._clock)
        await own.enter()
        self._own = own
        if is_start:
            asked = (self._give_way(own, url) for url in await self._urls(db))
            for outcome in await asyncio.gather(*asked, return_exceptions=True):
                if outcome is not None:
                    raise outcome

    async def shown(self) -> str:
        """Returns the header that tells this gateway from others; "" before it has entered."""
        return "" if self._own is None else await self._own.shown()

    async def look(self) -> None:
        """Asks who answers at the public address; logs when that changes."""
        if self._own is None or not is_public(self._url):
            return
        answered, problem = await self._who(self._own, self._url, elsewhere=False)
        if answered is self._answered:
            return
        before, self._answered = self._answered, answered
        note_answered(answered)
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
        before = (await in_force(source, self._settings)).get("public_url", '""')
        urls = (self._url, msgspec.json.decode(before, type=str))
        return [url for url in dict.fromkeys(urls) if is_public(url)]

    async def _give_way(self, own: OwnPresence, url: str) -> None:
        """Asks other machines: this gateway listens already, but does not answer yet."""
        answered, problem = await self._who(own, url, elsewhere=True)
        if answered is Answered.NOBODY and problem:
            log.warning(
                "not known whether another gateway takes the same payments", url=url, error=problem
            )
        elif answered is Answered.COPY and not self._beside_another:
            raise AlreadyRunning(f"{_SAID[answered].format(url=url)} {_WAY_OUT}")
        elif answered in _AMISS:
            log.warning(
                "another gateway answers at the public address",
                error=_SAID[answered].format(url=url),
            )

    async def _who(self, own: OwnPresence, url: str, *, elsewhere: bool) -> tuple[Answered, str]:
        """Returns who answers, and why nobody does.

        Another is asked twice: a sibling may not have read yet what a start has just written.
        """
        answered, problem = await self._judged(own, url, elsewhere=elsewhere)
        if answered not in _AMISS:
            return answered, problem
        await asyncio.sleep(self._again_seconds)
        return await self._judged(own, url, elsewhere=elsewhere)

    async def _judged(self, own: OwnPresence, url: str, *, elsewhere: bool) -> tuple[Answered, str]:
        roots = self._settings.roots
        asked = await self._ask(url, roots, elsewhere=elsewhere)
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

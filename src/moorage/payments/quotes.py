"""Quotes: a price promised for half an hour, whatever the price list does, and the name held."""

import uuid

from moorage.clock import Clock
from moorage.errors import NameUnavailable, RateLimited
from moorage.money import NOTHING, MicroUsd
from moorage.payments.quote import Quote
from moorage.storage import projects, quotes
from moorage.storage.database import Database

QUOTE_LIFETIME_MS = 30 * 60 * 1000
NAMES_HELD_AT_MOST = 50
"""By one wallet at a time, so that nobody squats on every name for free."""

_NAMES_RETRY_SECONDS = 60


class Quotes:
    """Makes, finds and honours quotes."""

    def __init__(self, *, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def check_name(self, *, wallet: str, unique_name: str) -> None:
        """Raise NameUnavailable when another wallet has, or holds, this name."""
        project = await projects.by_name(self._db, unique_name)
        if project is not None and project.wallet != wallet:
            raise NameUnavailable
        if await quotes.held_by_other(
            self._db, wallet=wallet, unique_name=unique_name, now_ms=self._clock.now_ms()
        ):
            raise NameUnavailable

    async def honoured_price(
        self, *, wallet: str, unique_name: str, months: int, price: MicroUsd
    ) -> MicroUsd:
        """The lowest of today's `price` and what living quotes for the same deploy promise."""
        living = await self._living(wallet, unique_name)
        promised = [quote.price_micro_usd for quote in living if quote.months == months]
        return min([price, *promised])

    async def offer(
        self,
        *,
        wallet: str,
        unique_name: str,
        months: int,
        price: MicroUsd,
        received: MicroUsd = NOTHING,
    ) -> Quote:
        """A quote at `price` with at least half of its life left; made unless there is one.

        `received` is what was just paid towards it. Raises NameUnavailable, or RateLimited for a
        wallet that holds too many names.
        """
        now_ms = self._clock.now_ms()
        living = await self._living(wallet, unique_name)
        for quote in living:
            fresh = quote.expires_at_ms - now_ms > QUOTE_LIFETIME_MS // 2
            if quote.months == months and quote.price_micro_usd == price and fresh:
                return quote
        if not living:
            await self._check_names_held(wallet, now_ms)
        quote = Quote(
            id=str(uuid.uuid4()),
            wallet=wallet,
            unique_name=unique_name,
            months=months,
            price_micro_usd=price,
            received_micro_usd=max([received, *(quote.received_micro_usd for quote in living)]),
            created_at_ms=now_ms,
            expires_at_ms=now_ms + QUOTE_LIFETIME_MS,
        )
        async with self._db.transaction(durable=False) as tx:
            if await quotes.held_by_other(
                tx, wallet=wallet, unique_name=unique_name, now_ms=now_ms
            ):
                raise NameUnavailable
            await quotes.add(tx, quote)
        return quote

    async def purge(self) -> int:
        """Forget what expired; gives how many."""
        async with self._db.transaction(durable=False) as tx:
            return await quotes.purge(tx, before_ms=self._clock.now_ms())

    async def _check_names_held(self, wallet: str, now_ms: int) -> None:
        held = await quotes.names_held(
            self._db, wallet=wallet, now_ms=now_ms, most=NAMES_HELD_AT_MOST
        )
        if held >= NAMES_HELD_AT_MOST:
            raise RateLimited(_NAMES_RETRY_SECONDS)

    async def _living(self, wallet: str, unique_name: str) -> list[Quote]:
        return await quotes.live(
            self._db, wallet=wallet, unique_name=unique_name, now_ms=self._clock.now_ms()
        )

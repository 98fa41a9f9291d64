"""Quotes as they are asked for: each in a transaction that has looked at the name."""

from typing import Any

from moorage.auth.rate_limit import MemoryRateLimiter, RateLimiter
from moorage.payments.price.quotes import QuoteRequest, Quotes
from moorage.records.payments import Quote
from moorage.records.project import Project
from moorage.storage.database import Database
from support.gateway.clock import MovableClock


class Quoting:
    """Quotes, and the transactions around them."""

    def __init__(
        self, db: Database, clock: MovableClock, strangers: RateLimiter | None = None
    ) -> None:
        self.db = db
        self.clock = clock
        strangers = MemoryRateLimiter(clock=clock) if strangers is None else strangers
        self.quotes = Quotes(db=db, strangers=strangers, clock=clock)

    async def offer(self, *, wallet: str, unique_name: str, **wanted: Any) -> Quote:
        async with self.db.transaction(durable=False) as tx:
            _, living = await self.quotes.of_name(tx, wallet=wallet, unique_name=unique_name)
            wanted = {"size": "standard"} | wanted
            asked = QuoteRequest(wallet=wallet, unique_name=unique_name, **wanted)
            return await self.quotes.offer(tx, living, asked)

    async def of_name(self, *, wallet: str, unique_name: str) -> tuple[Project | None, list[Quote]]:
        return await self.quotes.of_name(self.db, wallet=wallet, unique_name=unique_name)

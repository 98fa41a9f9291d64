"""Quotes: a price promised for half an hour, whatever the price list does, and the name held."""

import uuid
from collections.abc import Iterable, Sequence

import msgspec

from moorage.auth.rate_limit import RateLimiter
from moorage.clock import Clock
from moorage.errors import NameUnavailable, RateLimited
from moorage.money import NOTHING, MicroUsd
from moorage.records.project import Project, ProjectStatus
from moorage.records.quote import Quote
from moorage.storage.apps import names, projects
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import quotes

QUOTE_LIFETIME_MS = 30 * 60 * 1000
MAX_NAMES_HELD = 50
"""By one wallet at a time, so that nobody squats on every name for free."""

_TIME_TO_PAY_MS = 60_000
"""A promise better than today's price is repeated as long as it leaves so much time to pay."""

MAX_PROMISE_MS = 2 * 3_600_000
"""A price better than today's is prolonged within so long of its first promise, and no more."""

_PARTS = 10
"""A payment of one part in so many of the price prolongs it."""

_NAMES_RETRY_SECONDS = 60
_TOO_MANY_HELD = (
    "Too many names are held for wallets at your address that never paid. "
    "Try again later, or top up with POST /agent/credits first: that needs no name."
)
_BEING_DELETED = "This project is just being deleted. Send the request again in a moment."


class QuoteRequest(msgspec.Struct, frozen=True):
    """What a wallet would deploy, and at what price."""

    wallet: str
    unique_name: str
    months: int
    price: MicroUsd
    """Today's."""
    received: MicroUsd = NOTHING
    """What was paid towards it, so that the rest is asked for next time."""
    stranger_at: str | None = None
    """The client address that the quote counts for, as its wallet never paid."""


class Quotes:
    """Makes and finds quotes."""

    def __init__(self, *, db: Database, strangers: RateLimiter, clock: Clock) -> None:
        """`strangers` counts what is held for wallets that never paid, by client address.

        Its window must be as long as a quote lives: no more is held at a time than it lets in.
        """
        self._db = db
        self._strangers = strangers
        self._clock = clock

    async def of_name(
        self, source: Source, *, wallet: str, unique_name: str
    ) -> tuple[Project | None, list[Quote]]:
        """The wallet's project of this name, if there is one, and its living quotes for the name.

        The longest-lived quote is first. Raises NameUnavailable when this wallet can't deploy under
        this name now: another wallet has it or holds it, or the wallet's own project of that name
        is just being deleted.
        """
        project = await projects.by_name(source, unique_name)
        if project is not None and project.wallet != wallet:
            raise NameUnavailable
        if project is not None and project.status is ProjectStatus.DELETING:
            raise NameUnavailable(_BEING_DELETED)
        name = {"wallet": wallet, "unique_name": unique_name}
        now_ms = self._clock.now_ms()
        if await names.is_anothers(source, **name, now_ms=now_ms):
            raise NameUnavailable
        return project, await quotes.live(source, **name, now_ms=now_ms)

    async def offer(self, tx: Transaction, living: Sequence[Quote], asked: QuoteRequest) -> Quote:
        """A quote with at least half of its life left, made unless there is one.

        `living` are the wallet's for this name, as the same transaction has read them. One below
        today's price is given as it is, but a new one promises it only to whoever has paid a tenth
        of it since, within two hours of the first promise, or asking again would keep a price for
        ever. Raises NameUnavailable.

        A wallet that holds too many names is told the rest of what it has begun to pay, but no
        name is held for it; if it has paid nothing, RateLimited is raised. So it is when too much
        is held for wallets of its client address that never paid.
        """
        now_ms = self._clock.now_ms()
        same = [q for q in living if q.months == asked.months and q.price_micro_usd <= asked.price]
        again = await _given_again(tx, same, asked, now_ms=now_ms)
        if again is not None:
            return again
        paid = max([NOTHING, asked.received, *(quote.received_micro_usd for quote in living)])
        holds_too_many = not living and await names.holds(
            tx, wallet=asked.wallet, now_ms=now_ms, limit=MAX_NAMES_HELD
        )
        if paid == 0 and holds_too_many:
            raise RateLimited(_NAMES_RETRY_SECONDS)
        if paid == 0 and asked.stranger_at is not None:
            await self._count(asked.stranger_at)
        quote = _new_quote(asked, same, paid, now_ms=now_ms)
        if not holds_too_many:
            await _promise(tx, quote)
        return quote

    async def _count(self, stranger_at: str) -> None:
        try:
            await self._strangers.check(stranger_at)
        except RateLimited as full:
            raise RateLimited(full.retry_after_seconds, _TOO_MANY_HELD) from full

    async def purge(self) -> int:
        """Forgets what expired; returns the number of quotes."""
        async with self._db.transaction(durable=False) as tx:
            now_ms = self._clock.now_ms()
            await names.forget(tx, until_ms=now_ms)
            return await quotes.purge(tx, before_ms=now_ms)


async def _given_again(
    tx: Transaction, same: Sequence[Quote], asked: QuoteRequest, *, now_ms: int
) -> Quote | None:
    """The cheapest living quote for as many months that leaves time to pay."""
    for quote in sorted(same, key=lambda quote: quote.price_micro_usd):
        is_better = quote.price_micro_usd < asked.price
        min_ms = _TIME_TO_PAY_MS if is_better else QUOTE_LIFETIME_MS // 2
        if quote.expires_at_ms - now_ms <= min_ms:
            continue
        if quote.received_micro_usd > 0 or asked.received <= 0:
            return quote
        if is_better and not _may_last(quote, asked.received, now_ms=now_ms):
            await quotes.receive(
                tx,
                wallet=asked.wallet,
                unique_name=asked.unique_name,
                amount=asked.received,
                now_ms=now_ms,
            )
            return msgspec.structs.replace(quote, received_micro_usd=asked.received)
    return None


def _new_quote(asked: QuoteRequest, same: Sequence[Quote], paid: MicroUsd, *, now_ms: int) -> Quote:
    """A quote at today's price, or at the best earlier one that may be prolonged."""
    kept = min(
        (quote for quote in same if _may_last(quote, paid, now_ms=now_ms)),
        key=lambda quote: quote.price_micro_usd,
        default=None,
    )
    return Quote(
        id=str(uuid.uuid4()),
        wallet=asked.wallet,
        unique_name=asked.unique_name,
        months=asked.months,
        price_micro_usd=asked.price if kept is None else kept.price_micro_usd,
        received_micro_usd=paid,
        created_at_ms=now_ms,
        expires_at_ms=now_ms + QUOTE_LIFETIME_MS,
        promised_at_ms=now_ms if kept is None else kept.promised_at_ms,
        counted_micro_usd=paid,
    )


async def _promise(tx: Transaction, quote: Quote) -> None:
    """Stores the quote and holds the name. Raises NameUnavailable."""
    if not await names.hold(
        tx,
        wallet=quote.wallet,
        unique_name=quote.unique_name,
        until_ms=quote.expires_at_ms,
        now_ms=quote.created_at_ms,
    ):
        raise NameUnavailable
    await quotes.add(tx, quote)


def _may_last(quote: Quote, paid: MicroUsd, *, now_ms: int) -> bool:
    """Whether a promise is prolonged for what was paid since it was made."""
    is_part = (paid - quote.counted_micro_usd) * _PARTS >= quote.price_micro_usd
    return is_part and now_ms - quote.promised_at_ms < MAX_PROMISE_MS


def honoured(living: Iterable[Quote], *, months: int, price: MicroUsd) -> MicroUsd:
    """The lowest of today's `price` and what these quotes promise for as many months."""
    return min([price, *(quote.price_micro_usd for quote in living if quote.months == months)])

"""Quotes: a price that holds for half an hour, even if prices change, and the name held with it."""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from moorage.auth.rate_limit import RateLimiter
from moorage.chains.balances import token_balances
from moorage.chains.chain import Chain, Token
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock, iso_utc
from moorage.errors import ChainUnavailable, NameUnavailable, RateLimited
from moorage.money import NOTHING, AtomicUnits, MicroUsd
from moorage.records.payments import Quote
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import names, projects
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import quotes


class PaymentOption(msgspec.Struct, frozen=True):
    """One of the ways to pay a demand."""

    chain: Chain
    token: Token
    amount: AtomicUnits


Held = Mapping[tuple[str, str], AtomicUnits]
"""Balances by the names of chain and token; what is missing is not known."""

NOTHING_KNOWN: Held = {}
_WAIT_SECONDS = 0.004
"""How long an answer may wait for a look that is under way."""

_FRESH_SECONDS = 15
_REMEMBERED = 1024  # wallets
_WAITING = 64
_AT_ONCE = 8


class Holdings:
    """Looks at wallets' balances in the background: bounded, and without errors.

    `strangers` limits, by client address, the looks at wallets that never paid.
    """

    def __init__(
        self, clients: Mapping[str, RpcClient], *, strangers: RateLimiter, clock: Clock
    ) -> None:
        self._clients = clients
        self._strangers = strangers
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Held]] = OrderedDict()
        self._under_way: dict[str, asyncio.Event] = {}
        self._waiting: asyncio.Queue[str] = asyncio.Queue(_WAITING)

    async def run(self) -> None:
        """Looks at what `begin` names, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._work())

    async def begin(self, wallet: str, *, stranger_at: str | None = None) -> None:
        """Has a wallet looked at, unless that is known, under way, or too much is asked."""
        if self._remembered(wallet) is not None or wallet in self._under_way:
            return
        if self._waiting.full():
            return
        if stranger_at is not None:
            try:
                await self._strangers.check(stranger_at)
            except RateLimited:
                return
            if wallet in self._under_way:  # the limiter took its time
                return
        with suppress(asyncio.QueueFull):
            self._waiting.put_nowait(wallet)
            self._under_way[wallet] = asyncio.Event()

    async def known(self, wallet: str) -> Held:
        """Returns what the wallet holds; waits for a look under way, for a few milliseconds."""
        looked = self._under_way.get(wallet)
        if looked is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(looked.wait(), _WAIT_SECONDS)
        return self._remembered(wallet) or NOTHING_KNOWN

    def forget(self, wallet: str) -> None:
        """Forgets what is known of a wallet: a chain has just shown something else."""
        self._known.pop(wallet, None)

    def _remembered(self, wallet: str) -> Held | None:
        found = self._known.get(wallet)
        if found is None or self._clock.monotonic_seconds() - found[0] > _FRESH_SECONDS:
            return None
        return found[1]

    async def _work(self) -> None:
        while True:
            wallet = await self._waiting.get()
            try:
                self._remember(wallet, await self._look(wallet))
            finally:
                self._under_way.pop(wallet).set()

    def _remember(self, wallet: str, held: Held) -> None:
        self._known[wallet] = (self._clock.monotonic_seconds(), held)
        self._known.move_to_end(wallet)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    async def _look(self, wallet: str) -> Held:
        chains = await asyncio.gather(*(self._on(name, wallet) for name in self._clients))
        return {key: amount for held in chains for key, amount in held.items()}

    async def _on(self, name: str, wallet: str) -> Held:
        client = self._clients[name]
        try:
            found = await token_balances(client, client.chain, wallet)
        except ChainUnavailable:
            return NOTHING_KNOWN
        return {(name, token.name): amount for token, amount in found}


QUOTE_LIFETIME_MS = 30 * 60 * 1000
MAX_NAMES_HELD = 50
"""How many names one wallet may hold at a time, so that nobody takes every name for free."""

_TIME_TO_PAY_MS = 60_000
"""A quote below today's price is returned again while it is valid for at least this long."""

MAX_PROMISE_MS = 2 * 3_600_000
"""How long after the first quote a price below today's can be prolonged."""

_PARTS = 10
"""Paying this fraction of the price (1 / _PARTS) prolongs the quote."""

_NAMES_RETRY_SECONDS = 60
_TOO_MANY_HELD = (
    "Too many names are held for wallets at your address that never paid. "
    "Try again later, or top up with POST /agent/credits first: that needs no name."
)
_HELD = (
    "This uniqueName is held until {until} for a wallet that is about to pay for it, or has paid a "
    "part. If the wallet is yours, sign the request with it. Else choose another name."
)
_TAKEN = (
    "This name is taken. If it is yours, sign the request with its wallet, or send its "
    "manage_token; nothing was taken."
)
_BEING_DELETED = "This project is just being deleted. Send the request again in a moment."


class QuoteRequest(msgspec.Struct, frozen=True):
    """What a wallet wants to deploy, and at what price."""

    wallet: str
    unique_name: str
    months: int
    size: str
    price: MicroUsd
    """Today's price."""
    received: MicroUsd = NOTHING
    """What the wallet has paid towards it: the next 402 asks for the rest."""
    stranger_at: str | None = None
    """The client address that the quote counts for; None for a wallet that has paid before."""


@dataclass(frozen=True, kw_only=True)
class Quotes:
    """Creates and finds quotes."""

    db: Database
    strangers: RateLimiter
    """The quotes of wallets that never paid, by client address.

    Its window must be a quote's lifetime, so that it also limits how many are held at a time.
    """
    clock: Clock

    async def of_name(
        self, source: Source, *, wallet: str, unique_name: str
    ) -> tuple[Project | None, list[Quote]]:
        """Returns the wallet's project of this name, if any, and its valid quotes for the name.

        The quote that expires last comes first. Raises NameUnavailable when the wallet can't deploy
        under this name now: another wallet owns or holds it, or the wallet's own project of that
        name is being deleted.
        """
        now_ms = self.clock.now_ms()
        owner = await names.owner(source, unique_name, now_ms=now_ms)
        if owner is None:
            return None, []
        if owner.wallet != wallet:
            raise _held(owner.held_until_ms)
        has_project = owner.held_until_ms is None
        project = await projects.by_name(source, unique_name) if has_project else None
        if project is not None and project.status is ProjectStatus.DELETING:
            raise NameUnavailable(_BEING_DELETED)
        living = await quotes.live(source, wallet=wallet, unique_name=unique_name, now_ms=now_ms)
        return project, living

    async def require_free(self, source: Source, *, payer: str, unique_name: str) -> None:
        """Raises NameUnavailable if anybody has the name, or holds it: the payer as any other.

        A hold without a quote is that of the payer's own open payment, which is being settled.
        """
        now_ms = self.clock.now_ms()
        owner = await names.owner(source, unique_name, now_ms=now_ms)
        if owner is None:
            return
        if owner.wallet == payer and owner.held_until_ms is not None:
            named = {"wallet": payer, "unique_name": unique_name}
            if not await quotes.live(source, **named, now_ms=now_ms):
                return
        raise taken_openly(owner.held_until_ms)

    async def offer(self, tx: Transaction, living: Sequence[Quote], asked: QuoteRequest) -> Quote:
        """Returns a quote with at least half of its lifetime left; creates one if there is none.

        `living` are the wallet's valid quotes for this name, read in the same transaction. One
        below today's price is returned until shortly before it expires. A new quote keeps its price
        only if the wallet has paid a tenth of it since, and within two hours of the first quote:
        otherwise asking again would keep a price for ever. Raises NameUnavailable.

        A wallet that holds too many names gets a quote if it has begun to pay, but the name is not
        held for it; otherwise RateLimited is raised. It is also raised when too many quotes are
        held for wallets that never paid at this client address.
        """
        now_ms = self.clock.now_ms()
        same = [
            each
            for each in living
            if (each.months, each.size) == (asked.months, asked.size)
            and each.price_micro_usd <= asked.price
        ]
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
            await self.strangers.check(stranger_at)
        except RateLimited as full:
            raise RateLimited(full.retry_after_seconds, _TOO_MANY_HELD) from full

    async def purge(self) -> int:
        """Deletes expired quotes and held names; returns the number of quotes."""
        async with self.db.transaction(durable=False) as tx:
            now_ms = self.clock.now_ms()
            await names.forget(tx, until_ms=now_ms)
            return await quotes.purge(tx, before_ms=now_ms)


def taken_openly(held_until_ms: int | None = None, message: str = _TAKEN) -> NameUnavailable:
    """Returns the answer to a payment alone whose name is not free, the same whosever it is."""
    taken = NameUnavailable(message)
    taken.held_until_ms, taken.openly = held_until_ms, True
    return taken


def _held(until_ms: int | None) -> NameUnavailable:
    """Returns why another wallet's name can't be had; None: a project has it."""
    if until_ms is None:
        return NameUnavailable()
    held = NameUnavailable(_HELD.format(until=iso_utc(until_ms)))
    held.held_until_ms = until_ms
    return held


async def _given_again(
    tx: Transaction, same: Sequence[Quote], asked: QuoteRequest, *, now_ms: int
) -> Quote | None:
    """Returns the cheapest quote of `same` that leaves time to pay, if any."""
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
    """Returns a quote at today's price, or at the lowest earlier price that may be prolonged."""
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
        size=asked.size,
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
    """Whether what was paid since the quote was made is enough to prolong its price."""
    is_part = (paid - quote.counted_micro_usd) * _PARTS >= quote.price_micro_usd
    return is_part and now_ms - quote.promised_at_ms < MAX_PROMISE_MS


def honoured(living: Iterable[Quote], *, months: int, size: str, price: MicroUsd) -> MicroUsd:
    """Returns the lowest of today's `price` and those quoted for the same months and size."""
    same = (each for each in living if (each.months, each.size) == (months, size))
    return min([price, *(each.price_micro_usd for each in same)])

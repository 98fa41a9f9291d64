"""A price that was promised outlives the list's rise only for who pays it off, and not for ever."""

from random import Random

import pytest

from moorage.money import MicroUsd
from moorage.payments.price.quotes import MAX_PROMISE_MS, QUOTE_LIFETIME_MS
from moorage.storage.database import Database
from moorage.storage.money import quotes as rows
from support.books.records_fixture import ALICE
from support.clients.quoting import Quoting
from support.gateway.clock import MovableClock

OLD, TODAY = MicroUsd(6_000_000), MicroUsd(33_000_000)
MINUTE_MS = 60_000


class Buyer:
    """A wallet that was promised a price which has risen since."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.db = db
        self.clock = clock
        self.quotes = Quoting(db, clock)
        self.paid = 0

    async def asked(self, price: MicroUsd = TODAY) -> int:
        """The price that it is asked for now."""
        quote = await self.quotes.offer(wallet=ALICE, unique_name="hello", months=1, price=price)
        return quote.price_micro_usd

    async def pay(self, amount: int) -> None:
        async with self.db.transaction(durable=True) as tx:
            await rows.receive(
                tx,
                wallet=ALICE,
                unique_name="hello",
                amount=MicroUsd(amount),
                now_ms=self.clock.now_ms(),
            )
        self.paid += amount


async def test_one_atomic_unit_prolongs_nothing(db: Database, clock: MovableClock) -> None:
    buyer = Buyer(db, clock)
    await buyer.asked(OLD)
    for _ in range(4):
        await buyer.pay(1)
        clock.advance(QUOTE_LIFETIME_MS - MINUTE_MS)
        asked = await buyer.asked()
    assert asked == TODAY


async def test_one_part_that_was_paid_prolongs_once(db: Database, clock: MovableClock) -> None:
    buyer = Buyer(db, clock)
    await buyer.asked(OLD)
    await buyer.pay(OLD // 10)
    asked = []
    for _ in range(3):
        clock.advance(QUOTE_LIFETIME_MS - MINUTE_MS)
        asked.append(await buyer.asked())
    assert asked == [OLD, TODAY, TODAY]


async def test_small_first_part_is_asked_for_the_rest_of_the_promise(
    db: Database, clock: MovableClock
) -> None:
    """Where the quote does not know of it yet, as when the watcher credited it."""
    buyer = Buyer(db, clock)
    await buyer.asked(OLD)
    quote = await buyer.quotes.offer(
        wallet=ALICE, unique_name="hello", months=1, price=TODAY, received=MicroUsd(5)
    )
    assert (quote.price_micro_usd, quote.received_micro_usd) == (OLD, 5)
    _, (living,) = await buyer.quotes.of_name(wallet=ALICE, unique_name="hello")
    assert living == quote


@pytest.mark.parametrize("seed", range(30))
async def test_promise_lasts_as_long_as_it_is_paid_off_and_two_hours_at_most(
    db: Database, clock: MovableClock, seed: int
) -> None:
    """Any payments at any times: each half hour takes a tenth of the price."""
    random = Random(seed)
    buyer = Buyer(db, clock)
    begun_ms = clock.now_ms()
    await buyer.asked(OLD)
    for _ in range(12):
        await buyer.pay(random.choice([0, 1, OLD // 20, OLD // 10, OLD // 5]))
        clock.advance(random.randrange(1, 40) * MINUTE_MS)
        if await buyer.asked() == OLD:
            lasted_ms = clock.now_ms() - begun_ms
            assert lasted_ms < MAX_PROMISE_MS + QUOTE_LIFETIME_MS
            assert lasted_ms < (1 + buyer.paid * 10 // OLD) * QUOTE_LIFETIME_MS

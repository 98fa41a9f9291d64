import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.errors import DatabaseUnavailable, NameUnavailable, RateLimited
from moorage.money import MicroUsd
from moorage.payments.price.quotes import MAX_NAMES_HELD, QUOTE_LIFETIME_MS
from moorage.payments.price.quotes import honoured as best_price
from moorage.records.payments import Quote
from moorage.records.project import ProjectStatus
from moorage.records.size import PriceList, Size
from moorage.storage.apps import projects
from moorage.storage.database import Statement
from moorage.storage.money import quotes as rows
from moorage.storage.schema import quotes as table
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ALICE, BOB, add_project
from support.clients.quoting import Quoting
from support.gateway.clock import START_MS, MovableClock


@pytest.mark.parametrize(
    ("months", "price"), [(1, 500_000), (2, 1_000_000), (3, 1_500_000), (24, 12_000_000)]
)
def test_default_app_costs_half_a_dollar_a_month(months: int, price: int) -> None:
    assert PriceList().deploy(Size(), months=months) == price


def test_no_deploy_costs_less_than_the_minimum() -> None:
    cheap = PriceList(memory_gib_month=MicroUsd(1), cpu_month=MicroUsd(1))
    assert cheap.deploy(cheap.sizes().default, months=24) == 500_000
    assert cheap.month(memory_mib=512, cpu_millis=500) == 2


OLD, NEW = MicroUsd(500_000), MicroUsd(800_000)
COUNT = Statement(select(func.count()).select_from(table))


@pytest.fixture
def quotes(db: FaultyDatabase, clock: MovableClock) -> Quoting:
    return Quoting(db, clock)


async def offer(quotes: Quoting, wallet: str = ALICE, name: str = "hello", **changed: Any) -> Quote:
    wanted: dict[str, Any] = {"months": 1, "size": "standard", "price": OLD} | changed
    return await quotes.offer(wallet=wallet, unique_name=name, **wanted)


async def honoured(
    quotes: Quoting, price: int, wallet: str = ALICE, months: int = 1, size: str = "standard"
) -> int:
    now_ms = quotes.clock.now_ms()
    living = await rows.live(quotes.db, wallet=wallet, unique_name="hello", now_ms=now_ms)
    return best_price(living, months=months, size=size, price=MicroUsd(price))


async def is_free(quotes: Quoting, wallet: str, name: str = "hello") -> bool:
    try:
        await quotes.of_name(wallet=wallet, unique_name=name)
    except NameUnavailable:
        return False
    return True


async def test_quote_is_kept_for_thirty_minutes(quotes: Quoting, db: FaultyDatabase) -> None:
    quote = await offer(quotes)
    assert (quote.created_at_ms, quote.expires_at_ms) == (START_MS, START_MS + 30 * 60_000)
    assert (quote.price_micro_usd, quote.received_micro_usd, quote.months) == (OLD, 0, 1)
    assert await rows.live(db, wallet=ALICE, unique_name="hello", now_ms=START_MS) == [quote]


async def test_quoted_price_is_honoured_until_it_expires_and_not_a_moment_longer(
    quotes: Quoting, clock: MovableClock
) -> None:
    await offer(quotes)
    assert await honoured(quotes, NEW) == OLD
    clock.advance(QUOTE_LIFETIME_MS - 1)
    assert await honoured(quotes, NEW) == OLD
    clock.advance(1)
    assert await honoured(quotes, NEW) == NEW


async def test_price_that_fell_is_taken_over_the_quoted_one(quotes: Quoting) -> None:
    await offer(quotes, price=NEW)
    assert await honoured(quotes, OLD) == OLD


async def test_quote_is_for_its_wallet_and_its_months(quotes: Quoting) -> None:
    await offer(quotes)
    assert await honoured(quotes, NEW, wallet=BOB) == NEW
    assert await honoured(quotes, NEW, months=2) == NEW
    assert await honoured(quotes, NEW, size="large") == NEW


async def test_asking_again_gives_the_same_quote_while_half_its_life_is_left(
    quotes: Quoting, clock: MovableClock, db: FaultyDatabase
) -> None:
    first = await offer(quotes)
    clock.advance(QUOTE_LIFETIME_MS // 2 - 1)
    assert await offer(quotes) == first
    clock.advance(1)
    second = await offer(quotes)
    assert second.id != first.id
    assert second.expires_at_ms == clock.now_ms() + QUOTE_LIFETIME_MS
    assert await db.one(COUNT) == (2,)


async def test_fresh_quote_below_todays_price_is_given_again(quotes: Quoting) -> None:
    first = await offer(quotes)
    assert await offer(quotes, price=NEW) == first


async def test_better_promise_is_repeated_while_a_minute_is_left_to_pay(
    quotes: Quoting, clock: MovableClock
) -> None:
    first = await offer(quotes)
    clock.advance(QUOTE_LIFETIME_MS - 60_001)
    assert await offer(quotes, price=NEW) == first
    clock.advance(1)
    assert (await offer(quotes, price=NEW)).price_micro_usd == NEW


async def test_asking_again_and_again_does_not_keep_an_old_price(
    quotes: Quoting, clock: MovableClock
) -> None:
    await offer(quotes)
    for _ in range(4):
        clock.advance(QUOTE_LIFETIME_MS // 2)
        await offer(quotes, price=NEW)
    assert await honoured(quotes, NEW) == NEW


async def test_whoever_began_to_pay_keeps_the_price(quotes: Quoting, clock: MovableClock) -> None:
    await offer(quotes)
    clock.advance(QUOTE_LIFETIME_MS // 2)
    quote = await offer(quotes, price=NEW, received=MicroUsd(200_000))
    assert (quote.price_micro_usd, quote.received_micro_usd) == (OLD, 200_000)
    clock.advance(QUOTE_LIFETIME_MS // 2)
    later = await offer(quotes, price=NEW)
    assert (later.price_micro_usd, later.received_micro_usd) == (OLD, 200_000)


async def test_what_was_received_carries_over_to_the_next_quote(
    quotes: Quoting, clock: MovableClock, db: FaultyDatabase
) -> None:
    await offer(quotes)
    async with db.transaction(durable=True) as tx:
        await rows.receive(
            tx, wallet=ALICE, unique_name="hello", amount=MicroUsd(7), now_ms=clock.now_ms()
        )
    clock.advance(QUOTE_LIFETIME_MS // 2)
    assert (await offer(quotes)).received_micro_usd == 7
    assert (await offer(quotes, months=2, price=NEW)).received_micro_usd == 7


async def test_payment_is_noted_on_living_quotes_of_that_wallet_and_name_alone(
    quotes: Quoting, clock: MovableClock, db: FaultyDatabase
) -> None:
    await offer(quotes)
    clock.advance(QUOTE_LIFETIME_MS)
    await offer(quotes, months=2)
    await offer(quotes, name="other")
    await offer(quotes, BOB, "third")
    async with db.transaction(durable=True) as tx:
        await rows.receive(
            tx, wallet=ALICE, unique_name="hello", amount=MicroUsd(7), now_ms=clock.now_ms()
        )
    received = db.sql(
        "SELECT unique_name, months, received_micro_usd FROM quotes ORDER BY 1, 2"
    ).fetchall()
    assert received == [("hello", 1, 0), ("hello", 2, 7), ("other", 1, 0), ("third", 1, 0)]


async def test_name_is_held_for_the_wallet_until_its_quote_expires(
    quotes: Quoting, clock: MovableClock
) -> None:
    await offer(quotes)
    assert await is_free(quotes, ALICE)
    assert not await is_free(quotes, BOB)
    with pytest.raises(NameUnavailable):
        await offer(quotes, BOB)
    clock.advance(QUOTE_LIFETIME_MS - 1)
    assert not await is_free(quotes, BOB)
    clock.advance(1)
    assert await is_free(quotes, BOB)
    assert (await offer(quotes, BOB)).wallet == BOB
    assert not await is_free(quotes, ALICE)


async def test_one_of_forty_wallets_that_ask_at_once_gets_the_name(quotes: Quoting) -> None:
    wallets = [f"0x{number:040x}" for number in range(40)]
    answers = await asyncio.gather(
        *(offer(quotes, wallet) for wallet in wallets), return_exceptions=True
    )
    assert sum(isinstance(answer, Quote) for answer in answers) == 1
    assert sum(isinstance(answer, NameUnavailable) for answer in answers) == 39


async def test_name_of_a_project_is_its_owners(quotes: Quoting, db: FaultyDatabase) -> None:
    await add_project(db, ALICE, "hello", ProjectStatus.FAILED)
    assert await is_free(quotes, ALICE)
    assert not await is_free(quotes, BOB)


async def test_name_taken_while_a_quote_was_asked_for_is_not_sold_twice(
    quotes: Quoting, db: FaultyDatabase
) -> None:
    async with db.transaction(durable=True):
        asking = asyncio.create_task(offer(quotes, BOB))
        await asyncio.sleep(0)  # it found the name free and waits for its turn to write
        db.sql(
            "INSERT INTO projects (id, wallet, unique_name, display_name, description, status, "
            "monthly_price_micro_usd, months, created_at_ms) "
            "VALUES ('p', ?, 'hello', '', '', 'queued', 1, 1, 0)",
            (ALICE,),
        )
        db.sql("INSERT INTO names (unique_name, wallet) VALUES ('hello', ?)", (ALICE,))
    with pytest.raises(NameUnavailable):
        await asking


async def test_project_that_is_being_deleted_cannot_be_deployed_to(
    quotes: Quoting, db: FaultyDatabase
) -> None:
    project = await add_project(db, ALICE, "hello", ProjectStatus.DELETING)
    with pytest.raises(NameUnavailable, match="again in a moment"):
        await quotes.of_name(wallet=ALICE, unique_name="hello")
    async with db.transaction(durable=True) as tx:
        await projects.set_deleted(tx, project.id, at_ms=START_MS)
    assert await is_free(quotes, ALICE)
    assert await is_free(quotes, BOB)


async def test_wallet_holds_so_many_names_and_no_more(quotes: Quoting, clock: MovableClock) -> None:
    asked = await asyncio.gather(
        *(offer(quotes, name=f"name-{n}") for n in range(MAX_NAMES_HELD + 10)),
        return_exceptions=True,
    )
    refused = [answer for answer in asked if isinstance(answer, RateLimited)]
    assert len(refused) == 10
    assert refused[0].retry_after_seconds > 0
    assert await offer(quotes, name="name-0")  # one it holds
    assert await offer(quotes, BOB, "for-bob")
    paid = await offer(quotes, name="paid-for", received=MicroUsd(1))
    assert paid.received_micro_usd == 1
    clock.advance(QUOTE_LIFETIME_MS)
    assert await offer(quotes, name="another")


async def test_fresh_keys_of_one_address_hold_so_many_names_together(
    db: FaultyDatabase, clock: MovableClock
) -> None:
    limiter = MemoryRateLimiter(clock=clock, limit=3, window_seconds=QUOTE_LIFETIME_MS // 1000)
    quotes = Quoting(db, clock, limiter)
    for number in range(3):
        await offer(quotes, f"0x{number}", f"name-{number}", stranger_at="here")
    with pytest.raises(RateLimited, match="POST /agent/credits") as refused:
        await offer(quotes, "0x4", "name-4", stranger_at="here")
    assert refused.value.retry_after_seconds == QUOTE_LIFETIME_MS // 1000
    assert await is_free(quotes, BOB, "name-4")
    assert await db.one(COUNT) == (3,)

    assert await offer(quotes, "0x1", "name-1", stranger_at="here")  # one that it holds
    assert await offer(quotes, "0x4", "name-4", stranger_at="here", received=MicroUsd(1))
    assert await offer(quotes, "0x5", "name-5", stranger_at="elsewhere")
    assert await offer(quotes, "0x6", "name-6")  # of a wallet that paid
    clock.advance(QUOTE_LIFETIME_MS)
    assert await offer(quotes, "0x7", "name-7", stranger_at="here")


async def test_what_expired_is_forgotten(
    quotes: Quoting, clock: MovableClock, db: FaultyDatabase
) -> None:
    await offer(quotes, name="one")
    clock.advance(1)
    await offer(quotes, name="two")
    clock.advance(QUOTE_LIFETIME_MS - 1)
    assert await quotes.quotes.purge() == 1
    assert await db.one(COUNT) == (1,)
    assert await quotes.quotes.purge() == 0


async def test_no_quote_without_a_database(quotes: Quoting, db: FaultyDatabase) -> None:
    db.refuse_writes()
    with pytest.raises(DatabaseUnavailable):
        await offer(quotes)

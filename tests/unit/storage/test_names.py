"""A name is one wallet's at a time, whoever asks for it in whatever order."""

import pytest

from moorage.errors import UniqueViolation
from moorage.money import MicroUsd
from moorage.records.payments import Quote
from moorage.storage.apps import names, projects
from moorage.storage.database import Database
from moorage.storage.money import quotes
from support.books.records_fixture import ALICE, BOB, add_project
from support.gateway.clock import START_MS

NOW_MS, LATER_MS = START_MS, START_MS + 10


async def hold(
    db: Database, wallet: str, *, until_ms: int = LATER_MS, now_ms: int = NOW_MS
) -> bool:
    async with db.transaction(durable=False) as tx:
        return await names.hold(
            tx, wallet=wallet, unique_name="hello", until_ms=until_ms, now_ms=now_ms
        )


async def is_anothers(db: Database, wallet: str, *, now_ms: int = NOW_MS) -> bool:
    owner = await names.owner(db, "hello", now_ms=now_ms)
    return owner is not None and owner.wallet != wallet


async def test_name_is_held_by_the_first_who_asks_until_its_time_is_over(db: Database) -> None:
    assert await hold(db, ALICE)
    assert not await hold(db, BOB, now_ms=LATER_MS - 1)
    assert await is_anothers(db, BOB, now_ms=LATER_MS - 1)
    assert not await is_anothers(db, BOB, now_ms=LATER_MS)
    assert await hold(db, BOB, until_ms=LATER_MS + 10, now_ms=LATER_MS)
    assert await is_anothers(db, ALICE, now_ms=LATER_MS)


async def test_name_of_a_project_is_not_held_by_anybody_and_never_expires(db: Database) -> None:
    await add_project(db, ALICE, "hello")
    assert await hold(db, ALICE)  # asked to pay for a redeploy
    assert not await hold(db, BOB, now_ms=LATER_MS + 1)
    assert not await names.holds(db, wallet=ALICE, now_ms=NOW_MS, limit=1)


async def test_name_that_is_held_is_taken_by_its_wallet_alone(db: Database) -> None:
    assert await hold(db, ALICE)
    with pytest.raises(UniqueViolation):
        await add_project(db, BOB, "hello")
    await add_project(db, ALICE, "hello")


@pytest.mark.parametrize("quoted", [False, True])
async def test_name_of_a_deleted_project_is_free_but_for_what_was_quoted(
    db: Database, quoted: bool
) -> None:
    project = await add_project(db, ALICE, "hello")
    async with db.transaction(durable=False) as tx:
        if quoted:
            await quotes.add(tx, quote())
        await projects.set_deleted(tx, project.id, at_ms=NOW_MS)
    assert await hold(db, BOB) is not quoted
    assert await hold(db, BOB, now_ms=LATER_MS)


def quote() -> Quote:
    return Quote(
        id="quote",
        wallet=ALICE,
        unique_name="hello",
        months=1,
        price_micro_usd=MicroUsd(1),
        received_micro_usd=MicroUsd(0),
        created_at_ms=NOW_MS,
        expires_at_ms=LATER_MS,
        promised_at_ms=NOW_MS,
        counted_micro_usd=MicroUsd(0),
    )

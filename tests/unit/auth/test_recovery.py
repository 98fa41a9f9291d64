"""A lost key costs neither app nor money, and a stolen signature takes nothing over unseen."""

from collections.abc import Awaitable, Callable

import pytest

from moorage.auth.recovery import DAY_MS, Recoveries, require_unclaimed
from moorage.auth.tokens import ManageTokens
from moorage.errors import (
    RecoveryNotFound,
    RecoveryPending,
    RecoveryRefused,
    TokenInvalid,
    WalletRecovered,
)
from moorage.records.access import Recovery
from moorage.records.event import Webhook
from moorage.storage import events, recoveries
from moorage.storage.database import Database
from support.books.records_fixture import ALICE, BOB, CAROL, add_project
from support.gateway.clock import MovableClock

WAIT = 7
Passes = Callable[[float], Awaitable[None]]


class Billed:
    """Time that no change of the clock moves."""

    def __init__(self, clock: MovableClock) -> None:
        self._clock = clock

    def __call__(self) -> int:
        return round(self._clock.monotonic_seconds() * 1000)


@pytest.fixture
def recovery(db: Database, clock: MovableClock) -> Recoveries:
    return Recoveries(db=db, clock=clock, billed_ms=Billed(clock))


@pytest.fixture
def passes(recovery: Recoveries, clock: MovableClock) -> Passes:
    """Lets days pass, and what is due by then happen."""

    async def days(number: float) -> None:
        clock.advance(round(number * DAY_MS))
        await recovery.tick()

    return days


async def named(recovery: Recoveries) -> None:
    """Bob may take Alice's wallet over."""
    await recovery.put(ALICE, address=BOB, wait_days=WAIT)


async def address_of(recovery: Recoveries, wallet: str = ALICE) -> str:
    found = await recovery.of_wallet(wallet)
    assert found is not None
    return found.address


async def kinds(db: Database, wallet: str) -> list[str]:
    return [each.kind for each in await events.of_wallet(db, wallet, after=0, limit=20)]


async def test_address_takes_the_wallet_over_when_the_wait_is_over_and_not_before(
    recovery: Recoveries, passes: Passes, db: Database
) -> None:
    await named(recovery)
    claimed = await recovery.claim(ALICE, by=BOB)
    assert claimed.is_claimed
    await passes(WAIT - 0.01)
    assert await recovery.taken_over_by(ALICE) is None
    await passes(0.01)
    assert await recovery.taken_over_by(ALICE) == BOB
    assert "recovery.done" in await kinds(db, ALICE)
    assert "recovery.done" in await kinds(db, BOB)


async def test_events_have_no_key_of_their_log_lines(
    recovery: Recoveries, passes: Passes, db: Database
) -> None:
    """`wallet` there is whose event it is."""
    await named(recovery)
    await recovery.claim(ALICE, by=BOB)
    await passes(WAIT)
    for each in await events.of_wallet(db, BOB, after=0, limit=9):
        assert {"named_by", "address"} <= each.data.keys()
        assert each.data.keys().isdisjoint({"wallet", "event", "event_id"})


async def test_clock_that_is_set_forward_shortens_no_wait(
    recovery: Recoveries, passes: Passes, clock: MovableClock
) -> None:
    await named(recovery)
    await recovery.claim(ALICE, by=BOB)
    clock.step(400 * DAY_MS)
    await passes(1)
    assert await recovery.taken_over_by(ALICE) is None
    await passes(WAIT - 1)
    assert await recovery.taken_over_by(ALICE) == BOB


@pytest.mark.parametrize("by", [CAROL, ALICE])
async def test_nobody_else_claims(recovery: Recoveries, by: str) -> None:
    await named(recovery)
    with pytest.raises(RecoveryNotFound):
        await recovery.claim(ALICE, by=by)


async def test_wallet_that_named_nobody_is_claimed_by_nobody(recovery: Recoveries) -> None:
    with pytest.raises(RecoveryNotFound):
        await recovery.claim(ALICE, by=BOB)


async def test_owner_is_told_of_a_claim_and_ends_it(
    recovery: Recoveries, passes: Passes, db: Database
) -> None:
    await named(recovery)
    await recovery.claim(ALICE, by=BOB)
    assert "recovery.claimed" in await kinds(db, ALICE)
    await passes(1)
    await recovery.object(ALICE)
    await passes(40)
    assert await recovery.taken_over_by(ALICE) is None
    with pytest.raises(RecoveryNotFound):
        await recovery.object(ALICE)


async def test_owner_who_objected_has_the_time_to_name_another_before_the_next_claim(
    recovery: Recoveries, passes: Passes
) -> None:
    await named(recovery)
    await recovery.claim(ALICE, by=BOB)
    await recovery.object(ALICE)
    await recovery.put(ALICE, address=CAROL, wait_days=WAIT)
    with pytest.raises(RecoveryRefused):
        await recovery.claim(ALICE, by=BOB)
    await passes(WAIT)
    with pytest.raises(RecoveryNotFound):
        await recovery.claim(ALICE, by=BOB)
    assert await address_of(recovery) == CAROL


async def test_change_takes_effect_after_the_wait_and_the_address_is_told_at_once(
    recovery: Recoveries, passes: Passes, db: Database
) -> None:
    """Whoever stole the key for a moment can't put a place of its own in between."""
    await named(recovery)
    await recovery.put(ALICE, address=CAROL, wait_days=30)
    assert await kinds(db, BOB) == ["recovery.changed"]
    with pytest.raises(RecoveryNotFound):
        await recovery.claim(ALICE, by=CAROL)
    await passes(WAIT - 0.01)
    assert await address_of(recovery) == BOB
    await passes(0.01)
    assert await address_of(recovery) == CAROL


async def test_change_that_is_sent_again_waits_no_longer(
    recovery: Recoveries, passes: Passes, db: Database
) -> None:
    await named(recovery)
    await recovery.put(ALICE, address=CAROL, wait_days=30)
    await passes(WAIT - 1)
    await recovery.put(ALICE, address=CAROL, wait_days=30)
    await passes(1)
    assert await address_of(recovery) == CAROL


async def test_claim_before_a_change_takes_effect_goes_first(
    recovery: Recoveries, passes: Passes
) -> None:
    await named(recovery)
    await recovery.put(ALICE, address=CAROL, wait_days=WAIT)
    await passes(WAIT - 1)
    await recovery.claim(ALICE, by=BOB)
    await passes(WAIT)
    assert await recovery.taken_over_by(ALICE) == BOB


async def test_change_is_taken_back_by_naming_what_is_in_force(
    recovery: Recoveries, passes: Passes
) -> None:
    await named(recovery)
    await recovery.put(ALICE, address="", wait_days=WAIT)
    await named(recovery)
    await passes(WAIT + 1)
    assert await address_of(recovery) == BOB


async def test_while_a_claim_waits_nothing_is_changed_and_nothing_is_emptied(
    recovery: Recoveries, db: Database
) -> None:
    await named(recovery)
    await require_unclaimed(db, ALICE)
    await recovery.claim(ALICE, by=BOB)
    with pytest.raises(RecoveryPending):
        await recovery.put(ALICE, address="", wait_days=WAIT)
    with pytest.raises(RecoveryPending):
        await require_unclaimed(db, ALICE)
    await recovery.object(ALICE)
    await require_unclaimed(db, ALICE)


async def test_what_the_lost_key_let_in_ends_with_the_takeover(
    recovery: Recoveries, passes: Passes, db: Database, clock: MovableClock
) -> None:
    project = await add_project(db, ALICE)
    tokens = ManageTokens(db=db, clock=clock)
    token = await tokens.make(project.id)
    async with db.transaction(durable=True) as tx:
        webhook = Webhook(
            wallet=ALICE,
            url="https://a.example",
            secret="s",
            created_at_ms=clock.now_ms(),
        )
        await events.set_webhook(tx, webhook)
    await named(recovery)
    await recovery.claim(ALICE, by=BOB)
    await passes(WAIT)
    assert await events.webhook_of(db, ALICE) is None
    with pytest.raises(TokenInvalid):
        await tokens.project_of(token.token)
    with pytest.raises(WalletRecovered):
        await recovery.object(ALICE)
    with pytest.raises(WalletRecovered):
        await recovery.put(ALICE, address=CAROL, wait_days=WAIT)


async def test_another_gateway_knows_of_a_takeover(
    recovery: Recoveries, passes: Passes, db: Database, clock: MovableClock
) -> None:
    other = Recoveries(db=db, clock=clock, billed_ms=Billed(clock))
    assert await other.taken_over_by(ALICE) is None
    await named(recovery)
    await recovery.claim(ALICE, by=BOB)
    await passes(WAIT)
    await other.refresh()
    assert await other.taken_over_by(ALICE) == BOB
    assert await recoveries.taken_over(db) == {ALICE: BOB}


async def test_one_that_is_named_again_and_again_is_told_once_an_hour(
    recovery: Recoveries, db: Database, clock: MovableClock
) -> None:
    await named(recovery)
    for _ in range(3):
        await recovery.put(ALICE, address=CAROL, wait_days=WAIT)
        await named(recovery)
    assert await kinds(db, BOB) == ["recovery.changed"]
    assert await kinds(db, CAROL) == []


async def test_who_took_over_the_one_that_took_over_has_both(
    recovery: Recoveries, passes: Passes, db: Database, clock: MovableClock
) -> None:
    await named(recovery)
    await recovery.put(BOB, address=CAROL, wait_days=WAIT)
    await recovery.claim(ALICE, by=BOB)
    await passes(WAIT)
    tokens = ManageTokens(db=db, clock=clock)
    token = await tokens.make((await add_project(db, ALICE)).id)
    await recovery.claim(BOB, by=CAROL)
    await passes(WAIT)
    with pytest.raises(TokenInvalid):  # which the key that is lost now has made
        await tokens.project_of(token.token)
    assert await recovery.taken_over_by(ALICE) == await recovery.taken_over_by(BOB) == CAROL


async def test_two_that_named_each_other_are_never_both_without_a_key(
    recovery: Recoveries, passes: Passes
) -> None:
    await named(recovery)
    await recovery.put(BOB, address=ALICE, wait_days=WAIT)
    await recovery.claim(ALICE, by=BOB)
    await recovery.claim(BOB, by=ALICE)
    await passes(WAIT)
    assert await recovery.taken_over_by(ALICE) == BOB
    assert await recovery.taken_over_by(BOB) is None


async def test_claims_that_wait_hold_up_no_other(
    recovery: Recoveries, passes: Passes, db: Database, clock: MovableClock
) -> None:
    """Their changes are due and wait for them: a page of these would be read again and again."""
    async with db.transaction(durable=True) as tx:
        for number in range(101):
            waits = Recovery(
                wallet=f"0x{number:040x}",
                address=CAROL,
                wait_days=30,
                next_address=BOB,
                next_wait_days=WAIT,
                change_at_ms=clock.now_ms(),
                change_billed_ms=0,
                claim_at_ms=clock.now_ms() + 30 * DAY_MS,
                claim_billed_ms=0,
            )
            await recoveries.put(tx, waits)
    await named(recovery)
    await recovery.claim(ALICE, by=BOB)
    await passes(WAIT)
    assert await recovery.taken_over_by(ALICE) == BOB

"""What strangers can make a node do by showing transactions."""

from contextlib import ExitStack

import pytest

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.errors import PaymentPending, RateLimited
from moorage.payments.taking.verification import (
    MISSED_SECONDS,
    WAIT_AT_ONCE,
    WAIT_AT_ONCE_PER_ADDRESS,
    Lookups,
)
from support.books.records_fixture import fresh_hash
from support.gateway.clock import MovableClock

LIMIT = 5
HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def lookups(clock: MovableClock) -> Lookups:
    return Lookups(looks=MemoryRateLimiter(clock=clock, limit=LIMIT), clock=clock)


def miss(lookups: Lookups, stranger_at: str | None, tx_hash: str) -> bool:
    """A look-up that finds nothing; whether it waited for the transaction."""
    waited = []

    def look() -> None:
        with lookups.of(stranger_at, tx_hash) as lookup:
            waited.append(lookup.waits)
            raise PaymentPending

    with pytest.raises(PaymentPending):
        look()
    return waited == [True]


def test_stranger_waits_once_for_a_transaction_that_is_not_there(
    lookups: Lookups, clock: MovableClock
) -> None:
    tx_hash = fresh_hash()
    assert miss(lookups, HERE, tx_hash)
    assert not miss(lookups, HERE, tx_hash)
    assert miss(lookups, ELSEWHERE, tx_hash)  # nobody is held up by who asked before
    assert miss(lookups, HERE, fresh_hash())
    clock.advance(round(MISSED_SECONDS * 1000))
    assert miss(lookups, HERE, tx_hash)


def test_wallet_that_paid_waits_each_time(lookups: Lookups) -> None:
    tx_hash = fresh_hash()
    for _ in range(WAIT_AT_ONCE + 1):
        assert miss(lookups, None, tx_hash)


def test_so_many_of_one_address_wait_at_once(lookups: Lookups) -> None:
    with ExitStack() as waiting:
        for _ in range(WAIT_AT_ONCE_PER_ADDRESS):
            assert waiting.enter_context(lookups.of(HERE, fresh_hash())).waits
        assert not miss(lookups, HERE, fresh_hash())
        assert miss(lookups, ELSEWHERE, fresh_hash())
    assert miss(lookups, HERE, fresh_hash())


def test_so_many_strangers_wait_at_once(lookups: Lookups) -> None:
    with ExitStack() as waiting:
        for number in range(WAIT_AT_ONCE):
            address = f"192.0.2.{number // WAIT_AT_ONCE_PER_ADDRESS}"
            assert waiting.enter_context(lookups.of(address, fresh_hash())).waits
        assert not miss(lookups, "198.51.100.1", fresh_hash())
        assert miss(lookups, None, fresh_hash())


async def test_questions_of_an_address_are_bounded_and_what_is_not_asked_is_pending(
    lookups: Lookups,
) -> None:
    for _ in range(LIMIT):
        with lookups.of(HERE, fresh_hash()) as lookup:
            await lookup.count()
    with (
        pytest.raises(PaymentPending, match="do not pay again") as refused,
        lookups.of(HERE, fresh_hash()) as lookup,
    ):
        await lookup.count()
    assert refused.value.retry_after_seconds == 60
    for free in (ELSEWHERE, None):
        with lookups.of(free, fresh_hash()) as lookup:
            await lookup.count()


async def test_authorizations_share_the_questions_and_are_refused(lookups: Lookups) -> None:
    for _ in range(LIMIT):
        await lookups.count(HERE)
    with pytest.raises(RateLimited):
        await lookups.count(HERE)
    await lookups.count(ELSEWHERE)

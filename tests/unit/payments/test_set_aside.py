"""What one try may spend on screening, and that many payers are judged in several tries."""

import msgspec
import pytest

from moorage.errors import PaymentPending
from moorage.ledger.ledger import Transfer
from moorage.payments.taking.screening import held_back
from moorage.payments.watch.watcher import TimedScreening, Verdicts
from support.books.records_fixture import transfer
from support.gateway.clock import MovableClock

PAYERS = 600


async def test_slow_screening_of_many_payers_is_done_in_several_tries() -> None:
    """Each answer takes four seconds, and each payer is asked about once."""
    clock = MovableClock()
    asked: list[str] = []

    async def slow(one: Transfer) -> str | None:
        asked.append(one.payer)
        clock.advance(4_000)
        return "listed" if one.payer.endswith("7") else None

    transfers = [
        msgspec.structs.replace(transfer(), payer=f"0x{at:040d}", log_index=at)
        for at in range(PAYERS)
    ]
    known: Verdicts = {}
    tries = 0
    while len(known) < PAYERS:
        before = len(asked)
        asking = TimedScreening(slow, clock, known=known)
        try:
            await held_back(transfers, asking.ask)
        except PaymentPending:
            assert 0 < len(asked) - before <= 12
        tries += 1
    assert tries >= PAYERS / 12
    held = await held_back(transfers, TimedScreening(slow, clock, known=known).ask)
    assert sorted(held) == [f"0x{at:040d}" for at in range(7, PAYERS, 10)]
    assert len(asked) == len(set(asked)) == PAYERS


async def test_nobody_is_asked_about_once_the_time_is_over() -> None:
    clock = MovableClock()
    asked = 0

    async def hang(_: Transfer) -> str | None:
        nonlocal asked
        asked += 1
        clock.advance(30_000)
        raise PaymentPending

    asking = TimedScreening(hang, clock)
    for _ in range(5):
        with pytest.raises(PaymentPending):
            await asking.ask(transfer())
    assert asked == 1

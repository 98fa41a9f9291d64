"""How many statements and commits a deploy takes: every unpaid one pays for each of them.

A number here may fall. It rises only with a reason: on a database server each is a round trip.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gate import Gate

from moorage.clock import SystemClock
from moorage.ledger.services import PaidWallets
from moorage.money import MicroUsd
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ALICE, BOB, fund

OF_A_FIRST_402 = {"SELECT": 6, "INSERT": 2, "BEGIN": 1, "COMMIT": 1}
"""Besides the look for an authorization that is being settled, which this gate's payments feign."""

OF_THE_SAME_402_AGAIN = {"SELECT": 6, "BEGIN": 1, "COMMIT": 1}
OF_A_PAID_DEPLOY = {"SELECT": 19, "INSERT": 12, "UPDATE": 4, "DELETE": 1, "BEGIN": 3, "COMMIT": 3}
"""The payment says itself what it was used for, so that the audit misses a use that is gone.

Three look at purses: which one a settlement fills, whose the name is, and what it was paid into.
"""


@asynccontextmanager
async def counted(gate: Gate) -> AsyncIterator[Counter[str]]:
    """Counts the statements by their first word, once everything has been asked for before."""
    await gate.demanded(BOB, "asked-before")
    kinds: Counter[str] = Counter()
    with gate.db.statements() as run:
        yield kinds
    kinds.update(first_words(run))


def first_words(run: Sequence[str]) -> list[str]:
    return [each.split()[0] for each in run if not each.startswith("PRAGMA")]


async def test_first_402_takes_few_statements_and_one_commit(gate: Gate) -> None:
    async with counted(gate) as kinds:
        await gate.demanded()
    assert kinds == OF_A_FIRST_402


async def test_the_same_402_again_writes_nothing(gate: Gate) -> None:
    await gate.demanded()
    async with counted(gate) as kinds:
        await gate.demanded()
    assert kinds == OF_THE_SAME_402_AGAIN


async def test_paid_deploy_takes_few_statements_and_three_commits(gate: Gate) -> None:
    await gate.demanded()
    paid = gate.pay()
    async with counted(gate) as kinds:
        await gate.deploy(tx=paid)
    assert kinds == OF_A_PAID_DEPLOY


async def test_whether_a_stranger_has_paid_is_one_statement_each_time(db: FaultyDatabase) -> None:
    wallets = PaidWallets(db=db, minimum_charge=MicroUsd(1), clock=SystemClock())
    await fund(db, BOB, 1)
    with db.statements() as run:
        assert not await wallets.has_paid(ALICE)
        assert not await wallets.has_paid(ALICE)
    assert first_words(run) == ["SELECT"] * 2

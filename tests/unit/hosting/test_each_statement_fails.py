"""A paid deploy whose database fails at any one statement: nobody pays twice, or for nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gate import PRICE, Gate, attempt

from moorage.errors import (
    CommitUnknown,
    DatabaseUnavailable,
    MoorageError,
    PaymentAlreadyUsed,
    PaymentPending,
)
from moorage.hosting.entrance.attempt import Admitted, DeployAttempt
from moorage.payments.protocols.evidence import PaymentMeans, TransactionEvidence
from moorage.storage import sqlite
from moorage.storage.migrate import migrate
from moorage.storage.money import accounts
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ALICE, ARBITRUM, USDC
from support.gateway.clock import MovableClock
from support.gateway.fakes import FakeSettlements, authorizes

MOST_STATEMENTS = 100
MEANS = PaymentMeans(chain=ARBITRUM, token=USDC)


class Failing:
    """Counts the database's statements down; the one that reaches zero fails.

    With `late`, those that are counted are commits, and the one that fails has happened.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, late: bool) -> None:
        self.left = 0
        self.late = late
        for name in ("_commit",) if late else ("_first", "_every", "_run", "_run_many", "_commit"):
            monkeypatch.setattr(sqlite, name, self._counted(getattr(sqlite, name)))

    def _counted(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **given: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self.late:
                run(*args, **given)
                raise CommitUnknown
            if self.left == 0:
                raise DatabaseUnavailable
            return run(*args, **given)

        return counted


class Shop:
    """One wallet that has been asked for the price, and has paid it."""

    def __init__(self, db: FaultyDatabase, directory: Path, *, signed: bool) -> None:
        self.gate = Gate(db, MovableClock(), directory)
        self.attempt: DeployAttempt = msgspec.structs.replace(
            attempt(),
            evidence=authorizes(PRICE) if signed else TransactionEvidence(MEANS, self.gate.pay()),
        )

    @property
    def settlements(self) -> FakeSettlements:
        return self.gate.settlements

    async def deploy(self) -> Admitted | MoorageError:
        received = self.gate.upload()
        try:
            return await self.gate.admission.admit(self.attempt, received)
        except MoorageError as refused:
            return refused
        finally:
            received.close()


@pytest.mark.parametrize("late", [False, True], ids=["statement", "answer to a commit"])
@pytest.mark.parametrize("signed", [False, True], ids=["hash", "authorization"])
async def test_payment_survives_a_failure_of_any_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: bool, late: bool
) -> None:
    migrate(tmp_path / "moorage.db")
    failing = Failing(monkeypatch, late=late)
    for number in range(1, MOST_STATEMENTS):
        directory = tmp_path / str(number)
        directory.mkdir()
        shutil.copy(tmp_path / "moorage.db", directory)
        db = FaultyDatabase(directory / "moorage.db")
        try:
            shop = Shop(db, directory, signed=signed)
            await shop.gate.demanded()
            failing.left = number
            answer = await shop.deploy()
            failed, failing.left = failing.left <= 0, 0
            await check_answer(shop, answer)
            await check_repeat(shop)
        finally:
            db.close()
        if not failed:
            assert isinstance(answer, Admitted)
            return
    pytest.fail("it takes ever more statements")


async def check_answer(shop: Shop, answer: Admitted | MoorageError) -> None:
    """Nothing asks for money that came, and what is credited is never a 503."""
    credited = await accounts.balance(shop.gate.db, ALICE) == PRICE
    allowed: type[Any] = PaymentPending if credited else DatabaseUnavailable
    assert isinstance(answer, Admitted | allowed), answer


async def check_repeat(shop: Shop) -> None:
    """The same request deploys, once, and is credited once."""
    again = await shop.deploy()
    assert isinstance(again, Admitted | PaymentAlreadyUsed), again
    assert await accounts.balance(shop.gate.db, ALICE) == PRICE
    assert (await shop.gate.counts())["deployments"] == 1
    assert again.deployment_id is not None
    assert shop.gate.kept() == {again.deployment_id}
    assert shop.settlements.sent <= 1

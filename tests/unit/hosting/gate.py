"""Admission over a real database, with a chain that holds what the tests put there."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.errors import MoorageError
from moorage.failpoints import armed
from moorage.hosting.entrance.admission import Admission, Pricing
from moorage.hosting.entrance.attempt import Admitted, DeployAttempt
from moorage.hosting.entrance.capacity import Quotas
from moorage.hosting.sources import Sources
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.payments.price.quotes import Quotes
from moorage.payments.protocols.evidence import Evidence, PaymentMeans, TransactionEvidence
from moorage.payments.taking.payment_required import Demand, PaymentRequired
from moorage.planning.plan import Plan, Settings
from moorage.records.access import StoredDelegation
from moorage.records.size import PriceList
from moorage.storage.database import Statement
from moorage.storage.schema import deployments, jobs, projects, quotes
from moorage.storage.vault import Vault
from moorage.uploads.reader import Upload
from moorage.uploads.request import DeployRequest, PurseTerms
from moorage.uploads.room import Spool
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ALICE, ARBITRUM, PLAN, USDC, transfer
from support.gateway.clock import MovableClock
from support.gateway.fakes import FakeRuntime, FakeSettlements, FakeVerifier, paywall_of, roomy

PRICE = 500_000
COUNTS = {
    table.name: Statement(select(func.count()).select_from(table))
    for table in (projects, deployments, jobs, quotes)
}


class Gate:
    """Admission, and what the tests want to know of it."""

    def __init__(self, db: FaultyDatabase, clock: MovableClock, directory: Path) -> None:
        self.db = db
        self.clock = clock
        self.chain = FakeVerifier()
        self.settlements = FakeSettlements(self.chain)
        self.paywall = paywall_of(db, self.chain, clock, ARBITRUM, settlements=self.settlements)
        self.sources = directory / "sources"
        self.sources.mkdir(parents=True)
        self.spool = directory / "spool"
        self.queued = 0
        self.superseded: list[str] = []
        self.on_step: Callable[[str], object] = lambda step: None
        self.quotes = Quotes(db=db, strangers=MemoryRateLimiter(clock=clock), clock=clock)
        self.vault = Vault([bytes(32)])
        self.runtime = FakeRuntime()
        self.admission = self.with_prices(PriceList())

    def with_prices(
        self,
        prices: PriceList,
        *,
        reserve_bytes: int = 0,
        quotas: Quotas | None = None,
    ) -> Admission:
        """As after a restart with other settings."""
        self.admission = Admission(
            db=self.db,
            quotes=self.quotes,
            paywall=self.paywall,
            pricing=Pricing(prices, prices.sizes()),
            sources=Sources(self.sources),
            capacity=roomy(self.db, runtime=self.runtime, reserve_bytes=reserve_bytes),
            quotas=quotas or Quotas(),
            metering=Metering(db=self.db, clock=self.clock),
            vault=self.vault,
            clock=self.clock,
            on_queued=self._wake,
            on_superseded=self.superseded.append,
        )
        return self.admission

    def _wake(self) -> None:
        self.queued += 1

    def reach(self, step: str) -> None:
        """A failpoint."""
        self.on_step(step)

    async def deploy(
        self,
        wallet: str = ALICE,
        name: str = "hello",
        *,
        body: str = "one",
        tx: str | None = None,
        evidence: Evidence | None = None,
        months: int = 1,
        use_existing_credits: bool = False,
        **named: Any,
    ) -> Admitted:
        """A request with this body; `tx` is its X-Payment-Tx, `evidence` any other payment.

        `named` are its display name and description, and what its manage token is for.
        """
        offered = attempt(
            wallet,
            name,
            body=body,
            tx=tx,
            evidence=evidence,
            months=months,
            use_existing_credits=use_existing_credits,
            **named,
        )
        received = self.upload(body)
        try:
            return await self.admission.admit(offered, received)
        finally:
            received.close()

    async def refused(self, *args: Any, **given: Any) -> MoorageError:
        """What a deploy is refused with."""
        with pytest.raises(MoorageError) as refused:
            await self.deploy(*args, **given)
        return refused.value

    async def demanded(self, *args: Any, **given: Any) -> Demand:
        """The payment that a deploy is refused with."""
        refused = await self.refused(*args, **given)
        assert isinstance(refused, PaymentRequired), refused
        return refused.demand

    async def answers(self, *deploys: Awaitable[Admitted]) -> list[Admitted | BaseException]:
        """What requests made at the same time are answered."""
        return await asyncio.gather(*deploys, return_exceptions=True)

    def upload(self, body: str = "one") -> Upload:
        spool = Spool(self.spool, memory_bytes=1 << 20)
        spool.write(body.encode())
        return Upload({"index.js": spool.finish()}, spool)

    def pay(self, wallet: str = ALICE, amount: int = PRICE) -> str:
        """Transfer USDC to the gateway on chain; the transaction's hash."""
        return self.chain.pays(transfer(wallet, amount))

    async def counts(self) -> dict[str, int]:
        """How many rows there are."""
        rows = {name: await self.db.one(statement) for name, statement in COUNTS.items()}
        return {name: row[0] for name, row in rows.items() if row}

    def kept(self) -> set[str]:
        """The deployments whose files are on disk."""
        return {path.name for path in self.sources.iterdir()}


def attempt(
    wallet: str = ALICE,
    name: str = "hello",
    *,
    body: str = "one",
    tx: str | None = None,
    evidence: Evidence | None = None,
    months: int = 1,
    use_existing_credits: bool = False,
    display_name: str = "Hello",
    description: str | None = None,
    managed: str | None = None,
    delegation: StoredDelegation | None = None,
    plan: Plan = PLAN,
    purse: PurseTerms | None = None,
    size: str | None = None,
) -> DeployAttempt:
    means = PaymentMeans(chain=ARBITRUM, token=USDC)
    return DeployAttempt(
        wallet=wallet,
        request=DeployRequest(
            unique_name=name,
            display_name=display_name,
            description=description,
            months=months,
            settings=Settings(size=size),
            purse=purse,
        ),
        request_digest=hashlib.sha256(body.encode()).hexdigest(),
        plan=plan,
        means=means,
        evidence=evidence if tx is None else TransactionEvidence(means, tx),
        use_existing_credits=use_existing_credits,
        managed=managed,
        delegation=delegation,
    )


def dearer(times: int = 2) -> PriceList:
    """A price list on which everything costs more."""
    usual = PriceList()
    return PriceList(
        memory_gib_month=MicroUsd(usual.memory_gib_month * times),
        cpu_month=MicroUsd(usual.cpu_month * times),
        minimum_charge=MicroUsd(usual.minimum_charge * times),
    )


@pytest.fixture
def gate(db: FaultyDatabase, clock: MovableClock, tmp_path: Path) -> Iterator[Gate]:
    made = Gate(db, clock, tmp_path)
    with armed(made.reach):
        yield made

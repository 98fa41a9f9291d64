"""What an operator sends back is backed as what wallets ask back: neither given nor reversible."""

from typing import Any

import pytest

from moorage.chains.signing import SigningKey
from moorage.errors import RefundRefused
from moorage.ledger import ledger
from moorage.money import AtomicUnits, MicroUsd
from moorage.payments.relay.refunds import Refunds
from moorage.payments.relay.relayer import treasury_relayer
from moorage.records.payments import Payment, RefundStatus
from moorage.storage.database import Database, Transaction
from moorage.storage.money import accounts, refunds
from moorage.storage.money.grants import Grant
from support.books.busy_books import stored
from support.books.records_fixture import ALICE, ARBITRUM, PAY_TO, USDC, transfer
from support.chains.chain_in_memory import Sent
from support.chains.nodes_in_memory import HONEST, NodesInMemory
from support.chains.treasury_in_memory import TreasuryChain
from support.gateway.clock import START_MS, MovableClock

KEY = SigningKey("46" * 32)


class Desk:
    """Sends payments back by hand, from a treasury."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.db = db
        self.chain = TreasuryChain(ARBITRUM, PAY_TO, treasury=KEY.address, token=USDC, clock=clock)
        client = NodesInMemory(self.chain).client(clock, HONEST)
        shared: dict[str, Any] = {"db": db, "client": client, "clock": clock}
        relayer = treasury_relayer(db, client, KEY, clock=clock)
        self.refunds = Refunds(**shared, relayer=relayer, sender=KEY.address, recipients={PAY_TO})

    async def paid(self, amount: int) -> Payment:
        """A payment that the chain shows for good, though the books don't say so yet."""
        tx_hash = self.chain.fresh_hash()
        self.chain.mine({tx_hash: (Sent(ALICE, USDC, amount),)})
        place = {"block_number": len(self.chain.blocks) - 1}
        sent = transfer(
            ALICE, amount, tx_hash=tx_hash, block_hash=self.chain.blocks[-1].hash, **place
        )
        async with self.db.transaction(durable=True) as tx:
            await ledger.credit_transfers(tx, [sent], now_ms=START_MS)
        self.chain.mine()
        return await stored(self.db, sent)

    async def send_back(self, payment: Payment, amount: int) -> None:
        async def nothing(_: Transaction) -> None:
            pass

        part = AtomicUnits(amount)
        await self.refunds.begin(payment, amount=part, reason="fair", note=nothing)


@pytest.mark.parametrize("given", [True, False])
async def test_credits_that_were_given_or_may_be_reversed_are_not_sent_back_by_hand(
    db: Database, clock: MovableClock, *, given: bool
) -> None:
    desk = Desk(db, clock)
    payment = await desk.paid(50_000)
    burn = ledger.Burn("none", ALICE, MicroUsd(40_000), "burn:x:1", START_MS)
    gift = Grant("g", ALICE, MicroUsd(60_000), "goodwill", START_MS)
    async with db.transaction(durable=True) as tx:
        await ledger.burn(tx, [burn], now_ms=START_MS)
        if given:
            await ledger.grant(tx, gift, now_ms=START_MS)
        else:
            await ledger.credit_transfers(tx, [transfer(ALICE, 60_000)], now_ms=START_MS)
    with pytest.raises(RefundRefused, match=r"\$0\.01 "):
        await desk.send_back(payment, 10_001)
    assert await accounts.balance(db, ALICE) == 70_000
    await desk.send_back(payment, 10_000)
    assert await accounts.balance(db, ALICE) == 60_000
    assert [each.status for each in await refunds.every(db)] == [RefundStatus.SENT]

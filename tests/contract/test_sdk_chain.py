"""Payments on a real node: what the client signs moves exactly the amount, and moves it once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sdk_stubs import (
    PAY_TO,
    PRICE,
    REQUEST,
    Crash,
    FakeTime,
    StubGateway,
    StubNode,
    demand,
    serving,
)

from moorage.chains.chain import Chain
from moorage.sdk.client import Client
from moorage.sdk.journal import Journal, Payment
from moorage.sdk.payer import Bought, Payer, PayStep
from moorage.sdk.payment import Node
from moorage.sdk.signer import Signer
from moorage.wire.deploy import Deployed
from support.chains.chain_fixture import LocalChains


class Market:
    """A stub gateway that is paid on real chains."""

    def __init__(self, chains: LocalChains, directory: Path) -> None:
        self.gateway = StubGateway()
        self.chains = {"arbitrum": chains.arbitrum, "base": chains.base}
        self.signer = Signer(chains.wallets.wallets[3].private_key)
        self.journal = Journal(directory)
        self.crash_at: PayStep | None = None

    def on_step(self, step: PayStep, _payment: Payment, _why: str) -> None:
        if step is self.crash_at:
            raise Crash

    async def deploy(self, **means: Any) -> Bought[Deployed]:
        time = FakeTime()
        async with Client(self.gateway.url, self.signer, clock=time, pause=time.pause) as client:
            payer = Payer(
                client,
                self.signer,
                chains=self.chains,
                journal=self.journal,
                approve=lambda _offer: True,
                on_step=self.on_step,
            )
            return await payer.deploy(REQUEST, **means)

    async def received(self, chain: str, token: str) -> int:
        """What `pay_to` holds of `token` on `chain`."""
        return await _balance(self.chains[chain], token)


async def _balance(chain: Chain, token_name: str) -> int:
    token = chain.token(token_name)
    assert token is not None
    async with Node(chain) as node:
        return (await node.holdings(PAY_TO, token)).tokens


@pytest.fixture
async def market(local_chains: LocalChains, tmp_path: Path) -> AsyncIterator[Market]:
    found = Market(local_chains, tmp_path / "state")
    async with serving(found.gateway, StubNode()):
        yield found


@pytest.mark.parametrize("chain", ["arbitrum", "base"])
@pytest.mark.parametrize("token", ["usdc", "usdt"])
async def test_transfer_moves_exactly_the_amount(market: Market, chain: str, token: str) -> None:
    market.gateway.unpaid = lambda _: demand(payment_chain=chain, token=token)
    before = await market.received(chain, token)
    deployed = await market.deploy(chain=chain, token=token)
    assert deployed.payment is not None
    assert market.gateway.hashes == [deployed.payment.tx_hash]
    assert await market.received(chain, token) - before == PRICE


@pytest.mark.parametrize("step", [PayStep.SIGNED, PayStep.MINED])
async def test_crash_and_second_run_move_it_once(market: Market, step: PayStep) -> None:
    before = await market.received("arbitrum", "usdc")
    market.crash_at = step
    with pytest.raises(Crash):
        await market.deploy()
    market.crash_at = None
    await market.deploy()
    assert await market.received("arbitrum", "usdc") - before == PRICE

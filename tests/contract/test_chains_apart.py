"""What happens on one chain changes nothing of what was paid on another."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from moorage.chains.local.devchain import DevWallet
from moorage.errors import ChainUnavailable
from moorage.records.payments import Finality, PaymentStatus
from moorage.storage.database import Database
from support.chains.chain_fixture import LocalChains
from support.chains.rpc_proxy import RpcProxy
from support.chains.watching import Watched

CHAINS = ("arbitrum", "base")


@pytest.fixture(params=[CHAINS, CHAINS[::-1]], ids=[f"{name}-reorganised" for name in CHAINS])
async def both(
    request: pytest.FixtureRequest,
    local_chains: LocalChains,
    db: Database,
    pay_to: str,
    payer: DevWallet,
) -> AsyncIterator[tuple[Watched, Watched]]:
    """One gateway's two chains, either of them first."""
    first, second = (Watched(local_chains, db, pay_to, payer, on=name) for name in request.param)
    for each in (first, second):
        await each.watcher().look()
    yield first, second
    for each in (first, second):
        await each.close()


async def state(chain: Watched, tx_hash: str) -> tuple[PaymentStatus, Finality]:
    (payment,) = await chain.payments(tx_hash)
    return payment.status, payment.finality


async def test_reorganisation_of_one_and_the_loss_of_the_others_node_do_not_mix(
    both: tuple[Watched, Watched],
) -> None:
    reorganised, lost = both
    dropped, kept = await reorganised.pay(500_000), await lost.pay(30_000)
    await reorganised.watcher().look()
    await lost.watcher().look()
    assert await lost.balance() == 530_000

    async with RpcProxy(lost.url) as node:

        async def away(_: web.Request) -> web.StreamResponse:
            return web.Response(status=503)

        node.respond = away
        await reorganised.reorganise(1)
        await reorganised.mine(3)
        late = await lost.pay(4_000)
        check, watcher = lost.finality_check(node.url), lost.watcher(node.url)
        check_there = reorganised.finality_check()
        for _ in range(2):
            await check_there.check()
            await reorganised.watcher().look()
            for look in (check.check, watcher.look):
                with pytest.raises(ChainUnavailable):
                    await look()
        assert (await state(reorganised, dropped))[0] is PaymentStatus.REVERSED
        assert await state(lost, kept) == (PaymentStatus.CREDITED, Finality.PROVISIONAL)
        assert await lost.balance() == 30_000

        node.behave()
        await lost.mine(3)
        await watcher.look()
        await check.check()
    assert await state(lost, kept) == (PaymentStatus.CREDITED, Finality.FINALIZED)
    assert (await state(lost, late))[0] is PaymentStatus.CREDITED
    assert await lost.balance() == 34_000
    assert await lost.ledger_sum() == 0

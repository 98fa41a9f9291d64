"""A node that hides what became of a settlement, beside one that tells it."""

import time
from typing import Any

import pytest

from moorage.errors import PaymentAlreadyUsed
from moorage.records.payments import SettlementStatus
from support.chains.chain_fixture import LocalChains
from support.chains.desk_fixture import USDC, Desk, Sign, as_read
from support.chains.paying import send_transaction, sign_authorization
from support.chains.rpc_proxy import RpcProxy

UNUSED = "0x" + "0" * 64


def hide(proxy: RpcProxy, *, now: int) -> None:
    """Tell of no receipt and of no authorization's use, and of a safe block of that time."""

    def alter(method: str, result: Any) -> Any:
        if method == "eth_getTransactionReceipt":
            return None
        if method == "eth_call":
            return UNUSED
        if method == "eth_getBlockByNumber" and result is not None:
            return {**result, "timestamp": hex(now)}
        return result

    proxy.alter = alter


@pytest.mark.parametrize("other_answers", [True, False])
async def test_settlement_is_not_given_up_on_one_nodes_word(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy, other_answers: bool
) -> None:
    signed = signs()
    await desk.settle(signed)
    await desk.until_mined()
    nodes = [arbitrum_proxy.url, desk.url] if other_answers else [arbitrum_proxy.url]
    await desk.open(*nodes)
    hide(arbitrum_proxy, now=int(time.time()) + 7_200)

    await desk.resume()

    given_up = (await desk.row(signed)).status is SettlementStatus.FAILED
    assert given_up is not other_answers  # a node alone is believed: nobody knows better
    assert await desk.settlements.unresolved(signed.payer) is other_answers


async def test_settlement_that_was_hidden_is_credited_when_it_is_told(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    signed = signs()
    await desk.settle(signed)
    await desk.until_mined()
    await desk.open(arbitrum_proxy.url, desk.url)
    hide(arbitrum_proxy, now=int(time.time()) + 7_200)
    await desk.resume()
    arbitrum_proxy.behave()
    await desk.resume()
    assert (await desk.row(signed)).status is SettlementStatus.SETTLED
    assert await desk.received() == 500_000


async def test_authorization_that_was_used_without_a_trace_asks_for_nothing(
    desk: Desk, local_chains: LocalChains, pay_to: str, arbitrum_proxy: RpcProxy
) -> None:
    payer, stranger = local_chains.wallets.wallets[0], local_chains.wallets.relayer
    written = sign_authorization(
        payer.private_key, chain_id=42161, token_address=USDC.address, to=pay_to, value=500_000
    )
    await send_transaction(desk.url, stranger.private_key, to=USDC.address, data=written.calldata)
    await desk.open(arbitrum_proxy.url)
    arbitrum_proxy.alter = lambda method, result: [] if method == "eth_getLogs" else result
    with pytest.raises(PaymentAlreadyUsed, match="Do not pay again"):
        await desk.settle(as_read(written))

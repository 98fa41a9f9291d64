"""A node that hides what became of a settlement, beside one that tells it."""

import time
from typing import Any

import pytest

from desk_fixture import Desk, Sign
from moorage.payments.settlement import SettlementStatus
from rpc_proxy import RpcProxy

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

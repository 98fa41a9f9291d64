"""A node that denies a payment, beside one that shows it: nobody is asked to pay again."""

from typing import Any

import msgspec
import pytest

from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.local.devchain import DevWallet
from moorage.chains.rpc import RpcClient
from moorage.clock import SystemClock
from moorage.errors import ChainUnavailable, PaymentNotFound
from moorage.money import MicroUsd
from moorage.payments.taking.verification import Verifier
from support.chains.chain_fixture import LocalChains
from support.chains.paying import send_transfer
from support.chains.rpc_proxy import RpcProxy

USDC = KNOWN_CHAINS["arbitrum"].tokens[0]


async def pay(chains: LocalChains, payer: DevWallet, to: str) -> str:
    url = chains.arbitrum.rpc_urls[0]
    return await send_transfer(url, payer.private_key, USDC.address, to, 500_000)


async def ask(chains: LocalChains, pay_to: str, tx_hash: str, *urls: str, times: int = 1) -> Any:
    """What the verifier says at last, asked so often."""
    chain = msgspec.structs.replace(chains.arbitrum, rpc_urls=urls)
    client = RpcClient(chain, timeout_seconds=30)
    verifier = Verifier(
        pay_to=pay_to,
        clients={"arbitrum": client},
        clock=SystemClock(),
        safe_above=MicroUsd(10**9),
        pending_wait_seconds=0,
    )
    answer: Any = None
    try:
        for _ in range(times):
            try:
                answer = await verifier.transfers(
                    chain=chains.arbitrum, token=USDC, tx_hash=tx_hash
                )
            except (ChainUnavailable, PaymentNotFound) as refused:
                answer = refused
    finally:
        await client.close()
    return answer


@pytest.mark.parametrize("lie", [{"status": "0x0", "logs": []}, {"logs": []}])
async def test_payment_is_not_denied_on_one_nodes_word(
    local_chains: LocalChains,
    payer: DevWallet,
    pay_to: str,
    arbitrum_proxy: RpcProxy,
    lie: dict[str, Any],
) -> None:
    honest = local_chains.arbitrum.rpc_urls[0]
    paid = await pay(local_chains, payer, pay_to)
    arbitrum_proxy.alter = lambda method, result: (
        {**result, **lie} if method == "eth_getTransactionReceipt" and result else result
    )
    first = await ask(local_chains, pay_to, paid, arbitrum_proxy.url, honest)
    assert isinstance(first, ChainUnavailable)
    (transfer,) = await ask(local_chains, pay_to, paid, arbitrum_proxy.url, honest, times=2)
    assert transfer.amount == 500_000


async def test_what_no_node_shows_is_not_found(
    local_chains: LocalChains, payer: DevWallet, pay_to: str, arbitrum_proxy: RpcProxy
) -> None:
    honest = local_chains.arbitrum.rpc_urls[0]
    elsewhere = await pay(local_chains, payer, "0x" + "9" * 40)
    answer = await ask(local_chains, pay_to, elsewhere, arbitrum_proxy.url, honest)
    assert isinstance(answer, PaymentNotFound)


async def test_node_that_lacks_the_transaction_denies_nothing(
    local_chains: LocalChains, payer: DevWallet, pay_to: str, arbitrum_proxy: RpcProxy
) -> None:
    honest = local_chains.arbitrum.rpc_urls[0]
    elsewhere = await pay(local_chains, payer, "0x" + "9" * 40)
    arbitrum_proxy.alter = lambda method, result: (
        None if method == "eth_getTransactionReceipt" else result
    )
    answer = await ask(local_chains, pay_to, elsewhere, honest, arbitrum_proxy.url)
    assert isinstance(answer, PaymentNotFound)

"""Payers who have the relayer pay gas for nothing, on a real node: how far they get."""

import asyncio
import secrets
from typing import Any

import msgspec
import pytest
from eth_account import Account

from moorage.chains.eip3009 import TransferAuthorization
from moorage.errors import AuthorizationRefused
from moorage.payments.relay import settlements
from moorage.records.payments import RelayStatus, SettlementStatus
from support.chains.contract_wallet import put_code
from support.chains.desk_fixture import USDC, Desk, Sign
from support.chains.paying import mine, rpc
from support.chains.rpc_proxy import RpcProxy

AT_MOST = 4
SEARCHED_BLOCKS = 50
USED = "0x" + "0" * 63 + "1"
DAY_MS = 24 * 3_600_000

# isValidSignature: the magic value (EIP-1271) where gas costs nothing, as in a simulation; else
# the invalid instruction, which burns all gas it was given.
TWO_FACED = "0x" + "3a15600657fe5b" + "631626ba7e60e01b60005260206000f3"

# The same, but where its storage's first word is zero.
FICKLE = "0x" + "60005415600857fe5b" + "631626ba7e60e01b60005260206000f3"


async def give(desk: Desk, payer: str, amount: int) -> None:
    await rpc(desk.url, "anvil_dealERC20", payer, USDC.address, hex(amount))


async def poor_payer(desk: Desk) -> str:
    """The key of a wallet that has the money for one authorization."""
    key = "0x" + secrets.token_hex(32)
    await give(desk, Account.from_key(key).address, 500_000)
    return key


async def outcomes(desk: Desk, *wishes: TransferAuthorization) -> list[str | BaseException]:
    return await asyncio.gather(*map(desk.settle, wishes), return_exceptions=True)


async def fickle_payer(desk: Desk) -> str:
    payer = await put_code(desk.url, FICKLE)
    await give(desk, payer, 10**9)
    return payer


async def settle_and_refuse(desk: Desk, wish: TransferAuthorization) -> None:
    """The payer's contract says yes while it is simulated, and no when it is mined."""
    await rpc(desk.url, "evm_setAutomine", False)
    try:
        await desk.settle(wish)
        await set_mind(desk, wish.payer, 1)
        await mine(desk.url)
    finally:
        await rpc(desk.url, "evm_setAutomine", True)
        await set_mind(desk, wish.payer, 0)
    await desk.resume()


async def set_mind(desk: Desk, payer: str, word: int) -> None:
    await rpc(desk.url, "anvil_setStorageAt", payer, "0x0", f"0x{word:064x}")


async def test_contract_wallet_that_tells_simulations_by_their_price_is_refused_unspent(
    desk: Desk, signs: Sign
) -> None:
    payer = await put_code(desk.url, TWO_FACED)
    await give(desk, payer, 10**9)
    with pytest.raises(AuthorizationRefused):
        await desk.settle(signs(payer=payer))


async def test_what_contract_wallets_may_have_lost_of_gas_in_a_day_is_bounded_for_all_together(
    desk: Desk, signs: Sign
) -> None:
    payer = await fickle_payer(desk)
    wish = signs(payer=payer)
    await settle_and_refuse(desk, wish)
    (version,) = await desk.versions(wish)
    cost = version.gas_limit * int(version.max_fee_per_gas)
    desk.limits = msgspec.structs.replace(desk.limits, reverted_wei=5 * cost)
    await desk.open()

    another = await fickle_payer(desk)
    await settle_and_refuse(desk, signs(payer=another))
    for contract in (payer, await fickle_payer(desk)):
        with pytest.raises(AuthorizationRefused, match="lost today"):
            await desk.settle(signs(payer=contract))
    assert await desk.settle(signs())  # keys still may

    desk.limits = msgspec.structs.replace(desk.limits, reverted_wei=cost)
    await desk.open()
    assert not desk.settlements.offered(desk.chain, USDC)
    desk.clock.advance(DAY_MS)
    await desk.settlement_follow_up.check_balances()
    assert desk.settlements.offered(desk.chain, USDC)


@pytest.mark.usefixtures("paused")
async def test_payer_of_one_signs_many_at_once_and_few_are_sent(desk: Desk, signs: Sign) -> None:
    key = await poor_payer(desk)
    answers = await outcomes(desk, *(signs(private_key=key) for _ in range(20)))
    sent = [answer for answer in answers if isinstance(answer, str)]
    assert 1 <= len(sent) <= AT_MOST
    assert all(isinstance(one, str | AuthorizationRefused) for one in answers)


async def test_contract_wallet_that_changes_its_mind_is_settled_for_a_few_times_a_day(
    desk: Desk, signs: Sign
) -> None:
    payer = await fickle_payer(desk)
    for _ in range(AT_MOST):
        wish = signs(payer=payer)
        await settle_and_refuse(desk, wish)
        (version,) = await desk.versions(wish)
        assert version.status is RelayStatus.REVERTED
    await mine(desk.url, 100)
    await desk.resume()
    assert (await desk.row(wish)).status is SettlementStatus.FAILED

    with pytest.raises(AuthorizationRefused, match="reverted today"):
        await desk.settle(signs(payer=payer))

    desk.clock.advance(DAY_MS)
    assert await desk.settle(signs(payer=payer, valid_before=2**48))


async def test_payer_whose_authorizations_settle_may_bring_any_number(
    desk: Desk, signs: Sign
) -> None:
    for _ in range(AT_MOST + 2):
        await desk.pay(signs())
    assert await desk.received() == (AT_MOST + 2) * 500_000


@pytest.mark.usefixtures("paused")
async def test_one_payer_does_not_keep_others_from_paying(desk: Desk, signs: Sign) -> None:
    key = await poor_payer(desk)
    await outcomes(desk, *(signs(private_key=key) for _ in range(20)))
    assert await desk.settle(signs())


# A search of the chain is dear as well


async def test_authorization_that_failed_is_looked_up_once_for_each_request(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    wish = await failed(desk, signs)
    asked = asked_for(arbitrum_proxy, "eth_getLogs")
    await desk.open(arbitrum_proxy.url)
    for _ in range(3):
        with pytest.raises(AuthorizationRefused, match="reverted"):
            await desk.settle(wish)
    assert asked == []


async def test_use_is_searched_in_so_many_blocks_and_no_more(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlements, "_SEARCHED_BLOCKS", SEARCHED_BLOCKS)
    wish = await failed(desk, signs)
    await mine(desk.url, 4 * SEARCHED_BLOCKS)
    asked = asked_for(arbitrum_proxy, "eth_getLogs")
    await desk.open(arbitrum_proxy.url)
    arbitrum_proxy.alter = lambda method, result: USED if method == "eth_call" else result
    with pytest.raises(AuthorizationRefused, match="paid nothing here"):
        await desk.settle(wish)
    searched = [int(one[0]["toBlock"], 16) - int(one[0]["fromBlock"], 16) + 1 for one in asked]
    assert 0 < sum(searched) <= SEARCHED_BLOCKS + 1


async def failed(desk: Desk, signs: Sign) -> TransferAuthorization:
    """An authorization that was reverted for good."""
    wish = signs(payer=await fickle_payer(desk))
    await settle_and_refuse(desk, wish)
    await mine(desk.url, 100)
    await desk.resume()
    assert (await desk.row(wish)).status is SettlementStatus.FAILED
    return wish


def asked_for(proxy: RpcProxy, method: str) -> list[Any]:
    """The parameters of each call of `method`, as they come."""
    asked: list[Any] = []

    def rephrase(call: dict[str, Any]) -> dict[str, Any]:
        if call["method"] == method:
            asked.append(call["params"])
        return call

    proxy.rephrase = rephrase
    return asked

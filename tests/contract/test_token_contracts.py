"""The stand-ins for real tokens do what the real ones do, on a real node."""

import secrets
import time

import pytest

from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.local.devchain import DevWallet, artifact
from support.chains.chain_fixture import LocalChains
from support.chains.paying import (
    Authorization,
    calldata,
    rpc,
    send_transaction,
    sign_authorization,
    token_balance,
)

USDC = KNOWN_CHAINS["base"].tokens[0].address


@pytest.fixture
def url(local_chains: LocalChains) -> str:
    return local_chains.base.rpc_urls[0]


@pytest.fixture
def relayer(local_chains: LocalChains) -> DevWallet:
    return local_chains.wallets.relayer


def authorization(signer: DevWallet, to: str, **changes: object) -> Authorization:
    fields = {"chain_id": 8453, "token_address": USDC, "to": to, "value": 1_000}
    return sign_authorization(signer.private_key, **{**fields, **changes})  # type: ignore[arg-type]


async def refusal(url: str, sender: str, data: str) -> str:
    """Why the token refuses a call, in its own words."""
    with pytest.raises(AssertionError) as refused:
        await rpc(url, "eth_call", {"from": sender, "to": USDC, "data": data}, "pending")
    return str(refused.value.args[0]["message"])


async def test_authorization_is_bound_to_chain_contract_and_every_field(
    url: str, payer: DevWallet, relayer: DevWallet, pay_to: str
) -> None:
    good = authorization(payer, pay_to)
    forged = Authorization(good.kind, {**good.message, "value": 1_001}, good.signature)
    for wrong in (
        forged,
        authorization(payer, pay_to, chain_id=42161),
        authorization(payer, pay_to, token_address="0x" + "11" * 20),
        authorization(relayer, pay_to, payer=payer.address),
        Authorization("ReceiveWithAuthorization", good.message, good.signature),
    ):
        sender = pay_to if wrong.kind.startswith("Receive") else relayer.address
        for data in (wrong.calldata, wrong.calldata_bytes):
            assert "FiatTokenV2: invalid signature" in await refusal(url, sender, data)
    await rpc(
        url, "eth_call", {"from": relayer.address, "to": USDC, "data": good.calldata}, "pending"
    )


async def test_authorization_expires(
    url: str, payer: DevWallet, relayer: DevWallet, pay_to: str
) -> None:
    late = authorization(payer, pay_to, valid_before=int(time.time()) - 10)
    reason = "FiatTokenV2: authorization is expired"
    assert reason in await refusal(url, relayer.address, late.calldata)


async def test_used_authorization_is_spent_and_says_so(
    url: str, payer: DevWallet, relayer: DevWallet, pay_to: str
) -> None:
    signed = authorization(payer, pay_to)
    state = calldata(
        "authorizationState(address,bytes32)", payer.address, signed.message["nonce"].hex()
    )
    call = {"to": USDC, "data": state}
    assert int(await rpc(url, "eth_call", call, "latest"), 16) == 0
    tx_hash = await send_transaction(url, relayer.private_key, to=USDC, data=signed.calldata)
    assert int(await rpc(url, "eth_call", call, "latest"), 16) == 1
    assert await token_balance(url, USDC, pay_to) == 1_000
    receipt = await rpc(url, "eth_getTransactionReceipt", tx_hash)
    # keccak of "AuthorizationUsed(address,bytes32)", as on the real token.
    used = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
    assert receipt["logs"][0]["topics"] == [
        used,
        "0x" + payer.address[2:].lower().rjust(64, "0"),
        "0x" + signed.message["nonce"].hex(),
    ]
    reason = "FiatTokenV2: authorization is used or canceled"
    assert reason in await refusal(url, relayer.address, signed.calldata_bytes)


async def test_only_the_payee_may_receive_with_authorization(
    url: str, payer: DevWallet, relayer: DevWallet, pay_to: str
) -> None:
    signed = authorization(payer, pay_to, kind="ReceiveWithAuthorization")
    reason = "FiatTokenV2: caller must be the payee"
    assert reason in await refusal(url, relayer.address, signed.calldata)
    await rpc(url, "eth_call", {"from": pay_to, "to": USDC, "data": signed.calldata}, "pending")


async def test_contract_wallet_authorizes_by_its_owners_signature(
    url: str, payer: DevWallet, relayer: DevWallet, pay_to: str
) -> None:
    """ERC-1271: the wallet's code judges, not ecrecover."""
    wallet = "0x" + secrets.token_hex(20)
    await rpc(url, "anvil_setCode", wallet, artifact().contracts["DevWallet"].runtime)
    owner = "0x" + payer.address[2:].rjust(64, "0")
    await rpc(url, "anvil_setStorageAt", wallet, "0x0", owner)
    await rpc(url, "anvil_dealERC20", wallet, USDC, hex(5_000))

    signed = authorization(payer, pay_to, payer=wallet)
    await send_transaction(url, relayer.private_key, to=USDC, data=signed.calldata_bytes)
    assert await token_balance(url, USDC, pay_to) == 1_000

    stranger = authorization(relayer, pay_to, payer=wallet)
    assert "invalid signature" in await refusal(url, relayer.address, stranger.calldata_bytes)


async def test_usdt_knows_no_authorizations(url: str, payer: DevWallet) -> None:
    usdt = KNOWN_CHAINS["base"].tokens[1].address
    asked = calldata("authorizationState(address,bytes32)", payer.address, "0x" + "11" * 32)
    with pytest.raises(AssertionError, match="revert"):
        await rpc(url, "eth_call", {"to": usdt, "data": asked}, "latest")

"""Authorizations settled by a relayer on real nodes, of which one may lie."""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from eth_account import Account

from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.local.devchain import artifact
from moorage.errors import (
    AuthorizationRefused,
    ChainUnavailable,
    PaymentAlreadyUsed,
    PaymentPending,
)
from moorage.records.payments import RelayStatus, SettlementStatus
from moorage.storage.database import Database
from moorage.storage.opening import open_database
from support.chains.chain_fixture import LocalChains
from support.chains.desk_fixture import LIMITS, USDC, Desk, Sign, as_read
from support.chains.paying import (
    cancel_authorization,
    mine,
    rpc,
    send_transaction,
    sign_authorization,
)
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


USDT = KNOWN_CHAINS["arbitrum"].tokens[1]


async def test_authorization_is_settled_and_credited(desk: Desk, signs: Sign) -> None:
    signed = signs()
    gained = await desk.pay(signed)

    assert gained == {signed.payer: 500_000}
    assert await desk.received() == 500_000
    row = await desk.row(signed)
    assert row.status is SettlementStatus.SETTLED
    assert not await desk.settlements.unresolved(signed.payer)
    (sent,) = await desk.versions(signed)
    assert (sent.status, sent.tx_hash) == (RelayStatus.MINED, row.tx_hash)


async def test_payment_by_authorization_takes_three_round_trips(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    await desk.open(arbitrum_proxy.url)
    before = arbitrum_proxy.requests
    await desk.pay(signs())
    assert arbitrum_proxy.requests - before == 3


async def test_twenty_concurrent_requests_settle_once(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    sends = count_calls(arbitrum_proxy, "eth_sendRawTransaction")
    await desk.open(arbitrum_proxy.url)
    signed = signs()
    hashes = await asyncio.gather(*(desk.settle(signed) for _ in range(20)))
    assert len(set(hashes)) == 1
    assert len(sends) == 1
    assert await desk.received() == 500_000


async def test_two_gateways_on_one_database_settle_once(
    desk: Desk, signs: Sign, db_path: Any
) -> None:
    other_db = open_database(db_path)
    other = await second_gateway(desk, other_db).open()
    try:
        signed = signs()
        hashes = await asyncio.gather(
            *(which.settle(signed) for which in (desk, other) for _ in range(5))
        )
        assert len(set(hashes)) == 1
        assert len(await desk.versions(signed)) == 1
        assert await desk.received() == 500_000
    finally:
        await other.close()
        other_db.close()


async def test_settled_authorization_gives_its_transaction_again_without_asking_the_chain(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    await desk.open(arbitrum_proxy.url)
    signed = signs()
    await desk.pay(signed)
    tx_hash = (await desk.row(signed)).tx_hash
    before = arbitrum_proxy.requests
    assert await desk.settle(signed) == tx_hash
    assert arbitrum_proxy.requests == before


async def test_different_payers_at_once_take_different_nonces(
    desk: Desk, signs: Sign, local_chains: LocalChains
) -> None:
    wishes = [signs(private_key=wallet.private_key) for wallet in local_chains.wallets.wallets]
    hashes = await asyncio.gather(*map(desk.settle, wishes))
    assert len(set(hashes)) == len(wishes)
    nonces = [(await desk.versions(wish))[0].nonce for wish in wishes]
    assert sorted(nonces) == list(range(len(wishes)))
    assert await desk.received() == 500_000 * len(wishes)


async def test_payer_is_unresolved_until_credited(desk: Desk, signs: Sign) -> None:
    signed = signs()
    await desk.settle(signed)
    assert await desk.settlements.unresolved(signed.payer)
    await desk.pay(signed)
    assert not await desk.settlements.unresolved(signed.payer)


# Who signed.


async def contract_wallet(url: str, owner: str) -> str:
    """A deployed wallet with tokens, whose owner signs for it (ERC-1271)."""
    wallet = "0x" + secrets.token_hex(20)
    await rpc(url, "anvil_setCode", wallet, artifact().contracts["DevWallet"].runtime)
    await rpc(url, "anvil_setStorageAt", wallet, "0x0", "0x" + owner[2:].rjust(64, "0"))
    await rpc(url, "anvil_dealERC20", wallet, USDC.address, hex(1_000_000))
    return wallet


async def test_contract_wallet_pays_with_its_owners_signature(
    desk: Desk, signs: Sign, local_chains: LocalChains
) -> None:
    wallet = await contract_wallet(desk.url, local_chains.wallets.wallets[0].address)
    assert await desk.pay(signs(payer=wallet)) == {wallet: 500_000}


async def test_contract_wallet_refuses_a_strangers_signature(
    desk: Desk, signs: Sign, local_chains: LocalChains
) -> None:
    wallet = await contract_wallet(desk.url, local_chains.wallets.wallets[1].address)
    with pytest.raises(AuthorizationRefused, match="invalid signature"):
        await desk.settle(signs(payer=wallet))


async def test_signature_that_is_no_keys_is_left_to_the_wallet(
    desk: Desk, signs: Sign, local_chains: LocalChains
) -> None:
    """Contract wallets may take any bytes; this one takes 65, and the token says so."""
    wallet = await contract_wallet(desk.url, local_chains.wallets.wallets[0].address)
    signed = signs(payer=wallet)
    for signature in (b"", signed.signature[:-1], signed.signature + b"\0" * 700):
        with pytest.raises(AuthorizationRefused, match="invalid signature"):
            await desk.settle(msgspec.structs.replace(signed, signature=signature))


async def test_forged_signature_is_refused_and_nothing_is_stored(desk: Desk, signs: Sign) -> None:
    signed = msgspec.structs.replace(signs(), value=499_999)
    with pytest.raises(AuthorizationRefused, match="invalid signature"):
        await desk.settle(signed)
    assert not await desk.settlements.known(signed)
    assert not await desk.settlements.unresolved(signed.payer)


# What is refused before the chain is asked.


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"recipient": "0x" + "11" * 20}, "it pays 0x1111"),
        ({"value": 0}, "less than a cent"),
        ({"value": 9_999}, "less than a cent"),
        ({"value": 10**15 + 1}, "more than a billion tokens"),
        ({"valid_after": 2**40}, "not valid yet"),
        ({"valid_before": int(time.time()) - 1}, "valid for less than 20 seconds"),
        ({"valid_before": int(time.time()) + 10}, "valid for less than 20 seconds"),
        ({"chain_id": 8453}, "not for usdc on arbitrum"),
        ({"token_address": "0x" + "22" * 20}, "not for usdc on arbitrum"),
        ({"signature": b"\x01" * 65 + bytes.fromhex("6492" * 16)}, "not deployed"),
    ],
)
async def test_authorization_that_cannot_pay_is_refused_without_asking(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy, changes: dict[str, Any], why: str
) -> None:
    await desk.open(arbitrum_proxy.url)
    before = arbitrum_proxy.requests
    signed = msgspec.structs.replace(signs(), **changes)
    with pytest.raises(AuthorizationRefused, match=why):
        await desk.settle(signed)
    assert arbitrum_proxy.requests == before
    assert not await desk.settlements.known(signed)


async def test_token_without_authorizations_is_not_offered(desk: Desk) -> None:
    assert desk.settlements.offered(desk.chain, USDC)
    assert not desk.settlements.offered(desk.chain, USDT)


# What the simulation refuses.


async def test_payer_without_the_money_is_refused(desk: Desk, signs: Sign) -> None:
    signed = signs(private_key="0x" + secrets.token_hex(32))
    with pytest.raises(AuthorizationRefused, match="transfer amount exceeds balance"):
        await desk.settle(signed)
    assert not await desk.settlements.known(signed)


async def test_tokens_own_words_are_made_harmless(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    """A node, or a token, may say anything: what is passed on is short and printable."""
    await desk.open(arbitrum_proxy.url)
    text = "Blacklistable: account is blacklisted\x1b[31m\n\u202e" + "x" * 1_000
    encoded = text.encode()
    data = "0x08c379a0" + f"{32:064x}{len(encoded):064x}" + encoded.hex()
    arbitrum_proxy.respond = refusing("eth_estimateGas", arbitrum_proxy, code=3, data=data)
    with pytest.raises(AuthorizationRefused) as refused:
        await desk.settle(signs())
    assert refused.value.why.startswith("Blacklistable: account is blacklisted[31mx")
    assert refused.value.why.isprintable()
    assert len(refused.value.why) <= 120


async def test_node_that_fails_to_simulate_spends_nothing(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    await desk.open(arbitrum_proxy.url)
    arbitrum_proxy.respond = refusing("eth_estimateGas", arbitrum_proxy, code=-32000)
    signed = signs()
    with pytest.raises(ChainUnavailable):
        await desk.settle(signed)
    assert not await desk.settlements.known(signed)


async def test_relayer_without_gas_money_is_not_offered_and_refuses(
    desk: Desk, signs: Sign
) -> None:
    await rpc(desk.url, "anvil_setBalance", Account.from_key(desk.key).address, "0x0")
    signed = signs()
    with pytest.raises(AuthorizationRefused, match="run out of gas"):
        await desk.settle(signed)  # it was rich when it was last looked at
    assert not desk.settlements.offered(desk.chain, USDC)
    with pytest.raises(AuthorizationRefused, match="not settled by this gateway right now"):
        await desk.settle(signed)
    assert not await desk.settlements.known(signed)


async def test_gas_dearer_than_the_operator_pays_is_refused(desk: Desk, signs: Sign) -> None:
    desk.limits = msgspec.structs.replace(LIMITS, fee_wei=1)
    await desk.open()
    with pytest.raises(AuthorizationRefused, match="gas costs more"):
        await desk.settle(signs())


async def test_call_that_takes_too_much_gas_is_refused(desk: Desk, signs: Sign) -> None:
    desk.limits = msgspec.structs.replace(LIMITS, gas=30_000)
    await desk.open()
    with pytest.raises(AuthorizationRefused, match="this gateway pays 30000"):
        await desk.settle(signs())


# What was used before it came here.


async def test_authorization_that_another_relayer_used_is_credited(
    desk: Desk, local_chains: LocalChains, pay_to: str
) -> None:
    written = wish(local_chains, pay_to)
    stranger = local_chains.wallets.relayer.private_key
    theirs = await send_transaction(desk.url, stranger, to=USDC.address, data=written.calldata)
    signed = as_read(written)

    assert await desk.settle(signed) == theirs
    assert await desk.pay(signed) == {signed.payer: 500_000}
    assert not await desk.settlements.known(signed)


async def test_authorization_that_another_relayer_is_using_is_pending(
    desk: Desk, local_chains: LocalChains, pay_to: str, paused: None
) -> None:
    written = wish(local_chains, pay_to)
    stranger = local_chains.wallets.relayer.private_key
    await send_transaction(desk.url, stranger, to=USDC.address, data=written.calldata, mined=False)
    with pytest.raises(PaymentPending):
        await desk.settle(as_read(written))


async def test_canceled_authorization_is_refused(
    desk: Desk, local_chains: LocalChains, pay_to: str
) -> None:
    written = wish(local_chains, pay_to)
    signed = as_read(written)
    key = local_chains.wallets.wallets[0].private_key
    await cancel_authorization(
        desk.url, key, chain_id=42161, token_address=USDC.address, nonce=signed.nonce
    )
    with pytest.raises(AuthorizationRefused, match="canceled"):
        await desk.settle(signed)
    assert not await desk.settlements.known(signed)


@pytest.mark.parametrize("paid_here", [False, True])
async def test_use_that_is_too_long_ago_to_be_found_is_judged_by_the_books(
    desk: Desk, local_chains: LocalChains, pay_to: str, arbitrum_proxy: RpcProxy, *, paid_here: bool
) -> None:
    """What the token has known for as long as that would be credited, had it come here."""
    written = wish(local_chains, pay_to if paid_here else "0x" + "ab" * 20)
    stranger = local_chains.wallets.relayer.private_key
    theirs = await send_transaction(desk.url, stranger, to=USDC.address, data=written.calldata)
    signed = msgspec.structs.replace(as_read(written), recipient=pay_to.lower())
    await mine(desk.url, 2)
    if paid_here:
        await desk.credit(chain=desk.chain, token=USDC, tx_hash=theirs)
    arbitrum_proxy.alter = lambda method, result: [] if method == "eth_getLogs" else result
    await desk.open(arbitrum_proxy.url)
    if paid_here:
        with pytest.raises(PaymentAlreadyUsed) as used:
            await desk.settle(signed)
        assert used.value.used_by == theirs
    else:
        with pytest.raises(AuthorizationRefused, match="paid nothing here"):
            await desk.settle(signed)


def wish(chains: LocalChains, pay_to: str) -> Any:
    """A signed authorization as a client has it."""
    return sign_authorization(
        chains.wallets.wallets[0].private_key,
        chain_id=42161,
        token_address=USDC.address,
        to=pay_to,
        value=500_000,
    )


def count_calls(proxy: RpcProxy, method: str) -> list[str]:
    """Where each call of `method` that passes the proxy is noted."""
    seen: list[str] = []

    def note(call: dict[str, Any]) -> dict[str, Any]:
        if call["method"] == method:
            seen.append(call["method"])
        return call

    proxy.rephrase = note
    return seen


def refusing(method: str, proxy: RpcProxy, **error: Any) -> Callable[..., Any]:
    """Answers every call but those of `method`, which the node is said to refuse."""

    async def respond(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        answer = await proxy.forward(request)
        assert isinstance(answer, web.Response)
        assert answer.text is not None
        answers = msgspec.json.decode(answer.text)
        for call, given in zip(asked, answers, strict=True):
            if call["method"] == method:
                given.pop("result", None)
                given["error"] = {"message": "refused"} | error
        return web.json_response(answers)

    return respond


def second_gateway(desk: Desk, db: Database) -> Desk:
    """Another gateway with the same key and its own connection to the database."""
    return Desk(db=db, chain=desk.chain, pay_to=desk.pay_to, key=desk.key, url=desk.url)

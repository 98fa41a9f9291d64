"""Settlements that were interrupted, lost, stuck or overtaken: all are brought to their end."""

import asyncio
import itertools
import secrets
from typing import Any

import msgspec
import pytest
from aiohttp import web
from eth_account import Account

from moorage.chains.eip3009 import TransferAuthorization
from moorage.errors import AuthorizationRefused, PaymentNotFound, PaymentPending
from moorage.ledger import ledger
from moorage.records.payments import PaymentStatus, RelayStatus, SettlementStatus
from moorage.storage.money import accounts, payments
from support.chains.chain_fixture import LocalChains
from support.chains.desk_fixture import USDC, Crash, Desk, Sign, as_read
from support.chains.paying import (
    Authorization,
    cancel_authorization,
    mine,
    mine_safe_block,
    rpc,
    send_transaction,
    send_transfer,
    sign_authorization,
    times_of_blocks,
)
from support.chains.rpc_proxy import RpcProxy


async def credits_of(desk: Desk, signed: TransferAuthorization) -> int:
    return await accounts.balance(desk.db, signed.payer)


async def status(desk: Desk, signed: TransferAuthorization) -> SettlementStatus:
    return (await desk.row(signed)).status


async def is_settled_once(desk: Desk, signed: TransferAuthorization) -> bool:
    """Settled, received and credited exactly once, and told the same ever after."""
    row = await desk.row(signed)
    return (
        row.status is SettlementStatus.SETTLED
        and await desk.settle(signed) == row.tx_hash
        and await desk.received() == 500_000
        and await credits_of(desk, signed) == 500_000
    )


def swallow_sends(proxy: RpcProxy, *, method: str = "eth_chainId") -> None:
    """The node is never sent a transaction; the sender gets the answer to `method` instead."""

    def rephrase(call: dict[str, Any]) -> dict[str, Any]:
        if call["method"] != "eth_sendRawTransaction":
            return call
        return {**call, "method": method, "params": []}

    proxy.rephrase = rephrase


@pytest.mark.parametrize("step", ["settlement_signed", "settlement_sent"])
async def test_crash_while_settling_is_made_good_by_resuming(
    desk: Desk, signs: Sign, step: str
) -> None:
    signed = signs()
    desk.crash_at = step
    with pytest.raises(Crash):
        await desk.settle(signed)
    assert await desk.settlements.unresolved(signed.payer)

    desk.crash_at = ""
    await desk.open()
    await desk.resume()  # what was never sent is sent now
    await desk.resume()
    assert await is_settled_once(desk, signed)
    assert len(await desk.versions(signed)) == 1


async def test_crash_before_the_credit_is_made_good_by_resuming(desk: Desk, signs: Sign) -> None:
    signed = signs()
    await desk.settle(signed)
    desk.crash_at = "settlement_mined"
    with pytest.raises(Crash):
        await desk.resume()
    assert await credits_of(desk, signed) == 0

    desk.crash_at = ""
    await desk.open()
    await desk.resume()
    assert await is_settled_once(desk, signed)


async def test_request_repeated_after_a_crash_is_the_same_settlement(
    desk: Desk, signs: Sign
) -> None:
    signed = signs()
    desk.crash_at = "settlement_signed"
    with pytest.raises(Crash):
        await desk.settle(signed)
    desk.crash_at = ""
    await desk.open()
    tx_hash = await desk.settle(signed)
    assert [one.tx_hash for one in await desk.versions(signed)] == [tx_hash]
    with pytest.raises(PaymentPending):
        await desk.credit(chain=desk.chain, token=USDC, tx_hash=tx_hash)
    await desk.resume()
    await desk.pay(signed)
    assert await is_settled_once(desk, signed)


async def test_fresh_settlement_is_left_to_its_request(desk: Desk, signs: Sign) -> None:
    signed = signs()
    await desk.settle(signed)
    await desk.settlement_follow_up.resume()
    assert await status(desk, signed) is SettlementStatus.SENT
    await desk.resume()
    assert await is_settled_once(desk, signed)


async def test_nothing_unresolved_asks_the_chain_nothing(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    await desk.pay(signs())
    await desk.open(arbitrum_proxy.url)
    before = arbitrum_proxy.requests
    await desk.resume()
    assert arbitrum_proxy.requests == before


# A node that is slow, or lies.


async def test_node_that_answers_too_late_leaves_the_payment_pending_until_resumed(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    desk.timeout_seconds = 4.0  # all but the one answer come in time, on a busy machine too
    await desk.open(arbitrum_proxy.url)
    late = asyncio.Event()

    async def answer_late(request: web.Request) -> web.StreamResponse:
        answer = await arbitrum_proxy.forward(request)
        if b"eth_sendRawTransaction" in await request.read():
            await late.wait()
        return answer

    arbitrum_proxy.respond = answer_late
    signed = signs()
    with pytest.raises(PaymentPending):
        await desk.settle(signed)
    late.set()
    assert await status(desk, signed) is SettlementStatus.INTENDED
    assert await desk.settlements.unresolved(signed.payer)

    arbitrum_proxy.behave()
    await desk.resume()
    assert await is_settled_once(desk, signed)
    assert len(await desk.versions(signed)) == 1


async def test_node_that_dies_before_it_is_sent_anything_leaves_it_pending(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    await desk.open(arbitrum_proxy.url)

    async def die(request: web.Request) -> web.StreamResponse:
        if b"eth_sendRawTransaction" in await request.read():
            return web.Response(status=500)
        return await arbitrum_proxy.forward(request)

    arbitrum_proxy.respond = die
    signed = signs()
    with pytest.raises(PaymentPending):
        await desk.settle(signed)
    await desk.resume()  # it is still dead
    assert await status(desk, signed) is SettlementStatus.INTENDED

    arbitrum_proxy.behave()
    await desk.resume()
    await desk.resume()
    assert await is_settled_once(desk, signed)


@pytest.mark.parametrize("lie", ["eth_chainId", "eth_noSuchMethod"])
async def test_node_that_claims_to_have_a_transaction_is_gone_round(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy, lie: str
) -> None:
    """It takes it and forgets it, or refuses it as "already known": the next node is sent it."""
    swallow_sends(arbitrum_proxy, method=lie)
    await desk.open(arbitrum_proxy.url, desk.url)
    signed = signs()
    tx_hash = await desk.settle(signed)
    with pytest.raises(PaymentPending):
        await desk.credit(chain=desk.chain, token=USDC, tx_hash=tx_hash)
    await desk.resume()
    await desk.resume()
    assert await is_settled_once(desk, signed)
    assert [one.tx_hash for one in await desk.versions(signed)] == [tx_hash]


# Transactions that are stuck.


async def test_stuck_transaction_offers_more_with_the_same_nonce(
    desk: Desk, signs: Sign, paused: None
) -> None:
    signed = signs()
    await desk.settle(signed)
    await desk.resume(after_ms=29_000)
    assert len(await desk.versions(signed)) == 1
    await desk.resume(after_ms=2_000)

    first, second = await desk.versions(signed)
    assert second.nonce == first.nonce
    assert second.data == first.data
    for fee in ("max_fee_per_gas", "max_priority_fee_per_gas"):
        assert int(getattr(second, fee)) * 8 >= int(getattr(first, fee)) * 9
    await mine(desk.url)
    await desk.resume()
    assert await is_settled_once(desk, signed)
    assert (await desk.row(signed)).tx_hash == second.tx_hash
    assert [one.status for one in await desk.versions(signed)] == [
        RelayStatus.REPLACED,
        RelayStatus.MINED,
    ]


async def test_first_version_may_be_the_one_that_is_mined(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy, paused: None
) -> None:
    await desk.open(arbitrum_proxy.url)
    signed = signs()
    first_hash = await desk.settle(signed)
    swallow_sends(arbitrum_proxy)
    await desk.resume(after_ms=31_000)
    assert len(await desk.versions(signed)) == 2
    await mine(desk.url)
    await desk.resume()
    assert await is_settled_once(desk, signed)
    assert (await desk.row(signed)).tx_hash == first_hash


async def test_stuck_transaction_never_offers_more_than_the_operator_allows(
    desk: Desk, signs: Sign, paused: None
) -> None:
    signed = signs()
    await desk.settle(signed)
    (only,) = await desk.versions(signed)
    desk.limits = msgspec.structs.replace(desk.limits, fee_wei=int(only.max_fee_per_gas))
    await desk.open()
    await desk.resume(after_ms=60_000)
    assert len(await desk.versions(signed)) == 1
    await mine(desk.url)
    await desk.resume()
    assert await is_settled_once(desk, signed)


# Nonces.


async def test_nonce_that_somebody_else_took_is_replaced_by_the_next(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    """The relayer's key is used elsewhere too. A new nonce is taken only once that is final."""
    await desk.open(arbitrum_proxy.url)
    swallow_sends(arbitrum_proxy)
    signed = signs()
    await desk.settle(signed)
    arbitrum_proxy.behave()
    await send_transaction(desk.url, desk.key, to=desk.pay_to)

    await desk.resume()
    assert len(await desk.versions(signed)) == 1
    await mine(desk.url, 2)
    await desk.resume()  # it is replaced for good: signed anew, sent
    await desk.resume()
    assert await is_settled_once(desk, signed)
    old, new = await desk.versions(signed)
    assert (old.status, new.status) == (RelayStatus.REPLACED, RelayStatus.MINED)
    assert new.nonce == old.nonce + 1


async def test_settlement_is_not_sent_anew_when_too_much_gas_was_lost_today(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    limits = desk.limits
    await desk.open(arbitrum_proxy.url)
    swallow_sends(arbitrum_proxy)
    signed = signs()
    await desk.settle(signed)
    arbitrum_proxy.behave()
    await send_transaction(desk.url, desk.key, to=desk.pay_to)
    desk.limits = msgspec.structs.replace(limits, reverted_wei=0)
    await desk.open()
    await mine(desk.url, 3)
    for _ in range(2):
        await desk.resume()
    assert len(await desk.versions(signed)) == 1
    desk.limits = limits
    await desk.open()
    for _ in range(2):
        await desk.resume()
    assert await is_settled_once(desk, signed)


async def test_mined_settlements_do_not_wait_for_one_another(
    desk: Desk, signs: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take as long as a request waits for its payment."""
    all_there = asyncio.Barrier(3)
    credit = desk.credit

    async def credit_together(**what: Any) -> dict[str, Any]:
        async with asyncio.timeout(60):
            await all_there.wait()
        return await credit(**what)

    monkeypatch.setattr(desk, "credit", credit_together)
    await desk.open()
    wishes = [signs() for _ in range(3)]
    for wish in wishes:
        await desk.settle(wish)
    await desk.resume()
    for wish in wishes:
        assert await status(desk, wish) is SettlementStatus.SETTLED


async def test_nonce_used_elsewhere_in_between_is_left_out(desk: Desk, signs: Sign) -> None:
    first, second = signs(), signs()
    await desk.settle(first)
    await send_transaction(desk.url, desk.key, to=desk.pay_to)
    await desk.settle(second)
    assert [(await desk.versions(one))[0].nonce for one in (first, second)] == [0, 2]
    await desk.resume()
    for signed in (first, second):
        assert await status(desk, signed) is SettlementStatus.SETTLED


async def test_gap_before_a_transaction_is_filled(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    """A node counted a transaction that never was: what came after it would wait for ever."""
    await desk.open(arbitrum_proxy.url)
    arbitrum_proxy.alter = lambda method, result: (
        "0x2" if method == "eth_getTransactionCount" else result
    )
    signed = signs()
    await desk.settle(signed)
    arbitrum_proxy.behave()
    await desk.resume()
    assert await status(desk, signed) is SettlementStatus.SENT
    await desk.resume(after_ms=31_000)
    await desk.resume()
    assert await is_settled_once(desk, signed)


# Others who use the authorization.


def written(chains: LocalChains, desk: Desk, **changes: Any) -> Authorization:
    """A signed authorization as a client has it."""
    given: dict[str, Any] = {
        "private_key": chains.wallets.wallets[0].private_key,
        "chain_id": 42161,
        "token_address": USDC.address,
        "to": desk.pay_to,
        "value": 500_000,
    }
    return sign_authorization(**(given | changes))


async def test_authorization_that_another_relayer_used_meanwhile_is_credited_once(
    desk: Desk, local_chains: LocalChains
) -> None:
    wish = written(local_chains, desk)
    signed = as_read(wish)
    desk.crash_at = "settlement_signed"
    with pytest.raises(Crash):
        await desk.settle(signed)
    desk.crash_at = ""
    stranger = local_chains.wallets.relayer.private_key
    theirs = await send_transaction(desk.url, stranger, to=USDC.address, data=wish.calldata)

    await desk.open()
    await desk.resume()
    await desk.resume()
    assert await is_settled_once(desk, signed)
    assert (await desk.row(signed)).tx_hash == theirs


# What can't be settled any more.


@pytest.fixture
async def spender(desk: Desk) -> str:
    """The key of a wallet with just enough tokens for one payment."""
    key = "0x" + secrets.token_hex(32)
    payer = Account.from_key(key).address
    await rpc(desk.url, "anvil_setBalance", payer, hex(10**18))
    await rpc(desk.url, "anvil_dealERC20", payer, USDC.address, hex(500_000))
    return key


async def settle_unsent(desk: Desk, proxy: RpcProxy, signed: TransferAuthorization) -> None:
    """Have it signed and stored, but no node be sent it."""
    await desk.open(proxy.url)
    swallow_sends(proxy)
    await desk.settle(signed)
    proxy.behave()


async def test_transaction_that_is_reverted_fails_once_that_is_final(
    desk: Desk, arbitrum_proxy: RpcProxy, local_chains: LocalChains, spender: str
) -> None:
    """The payer spends the money elsewhere, after it was simulated and before it is mined."""
    wish = written(local_chains, desk, private_key=spender)
    signed = as_read(wish)
    await settle_unsent(desk, arbitrum_proxy, signed)
    await send_transfer(desk.url, spender, USDC.address, "0x" + "77" * 20, 500_000)

    await desk.resume()  # sent, and reverted at once
    await desk.resume()
    assert await status(desk, signed) is SettlementStatus.SENT
    (sent,) = await desk.versions(signed)
    assert sent.status is RelayStatus.REVERTED
    with pytest.raises(PaymentNotFound):
        await desk.credit(chain=desk.chain, token=USDC, tx_hash=await desk.settle(signed))

    await mine(desk.url)
    await desk.resume()
    assert await status(desk, signed) is SettlementStatus.FAILED
    assert not await desk.settlements.unresolved(signed.payer)
    with pytest.raises(AuthorizationRefused, match="reverted"):
        await desk.settle(signed)

    # It is valid for anybody as long as it is unused: then it has paid after all.
    await rpc(desk.url, "anvil_dealERC20", signed.payer, USDC.address, hex(500_000))
    theirs = await send_transaction(desk.url, spender, to=USDC.address, data=wish.calldata)
    assert await desk.settle(signed) == theirs


async def test_authorization_that_expires_unused_fails_once_that_is_final(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy
) -> None:
    signed = signs()
    await settle_unsent(desk, arbitrum_proxy, signed)
    swallow_sends(arbitrum_proxy)
    async with times_of_blocks(desk.url):
        await mine_safe_block(desk.url, at=signed.valid_before - 1)
        await desk.resume()
        assert await status(desk, signed) is SettlementStatus.SENT

        await mine_safe_block(desk.url, at=signed.valid_before + 60)
        arbitrum_proxy.behave()
        await desk.resume()
        assert await status(desk, signed) is SettlementStatus.FAILED
        assert not await desk.settlements.unresolved(signed.payer)
        with pytest.raises(AuthorizationRefused, match="expired"):
            await desk.settle(signed)
        assert await desk.received() == 0


async def test_canceled_authorization_fails_once_that_is_final(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy, local_chains: LocalChains
) -> None:
    signed = signs()
    await settle_unsent(desk, arbitrum_proxy, signed)
    key = local_chains.wallets.wallets[0].private_key
    await cancel_authorization(
        desk.url, key, chain_id=42161, token_address=USDC.address, nonce=signed.nonce
    )
    swallow_sends(arbitrum_proxy)
    await desk.resume()
    assert await status(desk, signed) is SettlementStatus.SENT
    await mine(desk.url, 2)
    await desk.resume()
    assert await status(desk, signed) is SettlementStatus.FAILED
    with pytest.raises(AuthorizationRefused, match="canceled"):
        await desk.settle(signed)


# Reorganisations.


async def test_settlement_that_a_reorganisation_dropped_is_settled_again(
    desk: Desk, signs: Sign
) -> None:
    signed = signs()
    await desk.pay(signed)
    (before,) = await desk.versions(signed)
    await rpc(desk.url, "anvil_reorg", 1, [])
    await rpc(desk.url, "anvil_dropAllTransactions")
    assert await desk.received() == 0
    async with desk.db.transaction(durable=True) as tx:  # as the second look finds out
        (payment,) = await payments.of_transaction(tx, chain_id=42161, tx_hash=before.tx_hash)
        await ledger.reverse_payment(tx, payment, now_ms=desk.clock.now_ms())
    assert await credits_of(desk, signed) == 0

    await desk.resume()  # sent again; perhaps mined before it is looked at
    await desk.resume()
    assert await is_settled_once(desk, signed)
    assert [one.tx_hash for one in await desk.versions(signed)] == [before.tx_hash]


async def test_reorganisation_before_the_credit_only_delays_it(desk: Desk, signs: Sign) -> None:
    signed = signs()
    tx_hash = await desk.settle(signed)
    await desk.until_mined()
    await rpc(desk.url, "anvil_reorg", 1, [])
    await rpc(desk.url, "anvil_dropAllTransactions")
    with pytest.raises(PaymentPending):
        await desk.credit(chain=desk.chain, token=USDC, tx_hash=tx_hash)
    await desk.resume()
    await desk.resume()
    assert await is_settled_once(desk, signed)


async def test_settlement_whose_payment_moved_to_another_log_index_is_left_alone(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy, local_chains: LocalChains
) -> None:
    """Another's transaction comes before it in the block that took the place of its own."""
    signed = signs()
    await desk.pay(signed)
    tx_hash = await desk.settle(signed)
    other = await send_transfer(
        desk.url, local_chains.wallets.wallets[1].private_key, USDC.address, desk.pay_to, 7
    )
    raws = [await rpc(desk.url, "eth_getRawTransactionByHash", one) for one in (other, tx_hash)]
    await rpc(desk.url, "anvil_reorg", 2, [[raw, 0] for raw in raws])
    await desk.credit(chain=desk.chain, token=USDC, tx_hash=tx_hash)  # as the watcher follows it
    booked = await payments.of_transaction(desk.db, chain_id=42161, tx_hash=tx_hash)
    assert [one.status for one in booked] == [PaymentStatus.REVERSED, PaymentStatus.CREDITED]

    await desk.open(arbitrum_proxy.url)
    before = arbitrum_proxy.requests
    for _ in range(3):
        await desk.resume()
    assert await status(desk, signed) is SettlementStatus.SETTLED
    assert await credits_of(desk, signed) == 500_000
    assert arbitrum_proxy.requests == before


# A nonce that is used for somebody else.

STRANGER = "0x" + "55" * 20


async def spend_elsewhere(desk: Desk, chains: LocalChains, signed: TransferAuthorization) -> str:
    """The payer signs the same nonce to somebody else, and has that one mined."""
    nonce = bytes.fromhex(signed.nonce[2:])
    wish = written(chains, desk, to=STRANGER, nonce=nonce)
    key = chains.wallets.relayer.private_key
    return await send_transaction(desk.url, key, to=USDC.address, data=wish.calldata)


async def test_authorization_whose_nonce_paid_somebody_else_fails_once_that_is_final(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy, local_chains: LocalChains
) -> None:
    signed = signs(valid_before=2**48)
    await settle_unsent(desk, arbitrum_proxy, signed)
    spent = await spend_elsewhere(desk, local_chains, signed)
    swallow_sends(arbitrum_proxy)
    await desk.resume()
    assert await status(desk, signed) is SettlementStatus.SENT
    assert await desk.settlements.unresolved(signed.payer)

    await mine(desk.url, 2)
    await desk.resume()
    row = await desk.row(signed)
    assert (row.status, row.tx_hash) == (SettlementStatus.FAILED, spent)
    assert not await desk.settlements.unresolved(signed.payer)
    with pytest.raises(AuthorizationRefused, match="paid nothing here"):
        await desk.settle(signed)
    assert (await credits_of(desk, signed), await desk.received()) == (0, 0)


async def test_authorization_spent_elsewhere_before_it_came_is_refused_once_that_is_final(
    desk: Desk, signs: Sign, local_chains: LocalChains
) -> None:
    signed = signs()
    spent = await spend_elsewhere(desk, local_chains, signed)
    assert await desk.settle(signed) == spent  # its money may yet come to us, for all we know
    await mine(desk.url, 2)
    with pytest.raises(AuthorizationRefused, match="paid nothing here"):
        await desk.settle(signed)


async def test_use_that_no_node_shows_is_searched_forwards_and_no_safe_block_twice(
    desk: Desk, signs: Sign, arbitrum_proxy: RpcProxy, local_chains: LocalChains
) -> None:
    signed, other = signs(), signs()
    await settle_unsent(desk, arbitrum_proxy, signed)
    await spend_elsewhere(desk, local_chains, signed)
    await mine(desk.url, 40)
    await desk.settle(other)
    asked: list[tuple[int, int]] = []

    def note(call: dict[str, Any]) -> dict[str, Any]:
        if call["method"] == "eth_getLogs":
            span = call["params"][0]
            asked.append((int(span["fromBlock"], 16), int(span["toBlock"], 16)))
        return call

    arbitrum_proxy.rephrase = note
    arbitrum_proxy.alter = lambda method, result: [] if method == "eth_getLogs" else result
    for _ in range(3):
        await desk.resume()
        await mine(desk.url, 5)
    assert await is_settled_beside(desk, other)
    assert asked[0][1] - asked[0][0] >= 40
    for (_, before), (first, last) in itertools.pairwise(asked):
        assert before - 5 <= first <= last  # what was not safe is searched again, and no more
    assert await status(desk, signed) is SettlementStatus.SENT


async def is_settled_beside(desk: Desk, signed: TransferAuthorization) -> bool:
    return await status(desk, signed) is SettlementStatus.SETTLED

"""Payments that nobody presents are found and credited, once, whatever the node does."""

import asyncio
import itertools
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from moorage.chains.local.devchain import DevWallet
from moorage.clock import SystemClock
from moorage.errors import ChainUnavailable, PaymentPending
from moorage.ledger.ledger import Transfer
from moorage.payments.protocols.evidence import PaymentMeans, TransactionEvidence
from moorage.payments.taking.verification import Verifier
from moorage.payments.watch.watcher import Watcher
from moorage.records.payments import PaymentStatus
from moorage.settings import Settings
from moorage.storage.database import Database
from support.chains.chain_fixture import LocalChains
from support.chains.paying import rpc
from support.chains.rpc_proxy import RpcProxy
from support.chains.watching import SAFE_ABOVE, Watched
from support.gateway.clock import MovableClock
from support.gateway.fakes import paywall_of

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
async def chain(
    local_chains: LocalChains, db: Database, pay_to: str, payer: DevWallet
) -> AsyncIterator[Watched]:
    watched = Watched(local_chains, db, pay_to, payer)
    yield watched
    await watched.close()


# What is found.


async def test_payment_that_nobody_presents_is_credited_to_who_paid(chain: Watched) -> None:
    watcher = chain.watcher()
    assert await watcher.look() == 0
    tx_hash = await chain.pay(by=1)
    assert await watcher.look() == 1
    assert await chain.balance(by=1) == 500_000
    (payment,) = await chain.payments(tx_hash)
    receipt = await rpc(chain.url, "eth_getTransactionReceipt", tx_hash)
    assert (payment.block_hash, payment.payer) == (
        receipt["blockHash"],
        chain.chains.wallets.wallets[1].address.lower(),
    )


async def test_payment_is_found_once_however_often_one_looks(chain: Watched) -> None:
    watcher = chain.watcher()
    await watcher.look()
    await chain.pay()
    assert await watcher.look() == 1
    for _ in range(3):
        await chain.mine()
        assert await watcher.look() == 0
    assert await chain.balance() == 500_000


async def test_first_search_begins_at_the_head(chain: Watched) -> None:
    await chain.pay()
    await chain.mine(3)
    watcher = chain.watcher()
    assert await watcher.look() == 0
    assert await watcher.look() == 0


async def test_rest_costs_what_the_first_day_says(chain: Watched) -> None:
    async with RpcProxy(chain.url) as node:
        watcher, finality = chain.watcher(node.url), chain.finality_check(node.url)
        await watcher.look()
        await finality.check()
        await chain.mine(10)  # as between two looks at a real chain
        calls: Counter[str] = Counter()
        node.requests = 0
        node.alter = lambda method, result: calls.update([method]) or result
        await watcher.look()
        await finality.check()
    settings = Settings()
    looks, others = 3600 // settings.watch_seconds, 300  # others: vital signs and gas, each minute
    page = (REPOSITORY / "docs/run/first-day.md").read_text()
    (row,) = re.findall(r"an hour at rest.*?\| ([\d,]+) \| ([\d,]+) \|", page)
    told_requests, told_calls = (int(number.replace(",", "")) for number in row)
    assert told_requests == round(looks * node.requests + others, -2)
    assert told_calls == round(looks * calls.total() + 3 * others, -2)


async def test_first_search_begins_where_it_is_set_to(chain: Watched) -> None:
    before, then = await chain.pay(1), await chain.pay(2)
    watcher = chain.watcher(watch_from_block=await chain.head())
    assert await watcher.look() == 1
    assert (await chain.payments(before), len(await chain.payments(then))) == ([], 1)


async def test_payment_made_while_nothing_ran_is_found_by_the_next_start(chain: Watched) -> None:
    await chain.watcher().look()
    await chain.pay()
    await chain.mine(5)
    assert await chain.watcher().look() == 1
    assert await chain.balance() == 500_000


async def test_both_tokens_are_credited(chain: Watched) -> None:
    watcher = chain.watcher()
    await watcher.look()
    await chain.pay(100)
    await chain.pay(20, token=chain.usdt)
    assert await watcher.look() == 2
    assert await chain.balance() == 120


async def test_every_transfer_of_a_transaction_that_brings_money_is_credited(
    chain: Watched,
) -> None:
    watcher = chain.watcher()
    await watcher.look()
    tx_hash = await chain.disperse([1, 0, 2, *[1] * 150])
    assert await watcher.look() == 1
    assert len(await chain.payments(tx_hash)) == 152
    assert await chain.balance() == 153
    assert await chain.ledger_sum() == 0


async def test_payment_counts_at_the_configured_depth(chain: Watched) -> None:
    watcher = chain.watcher(confirmations=3)
    await watcher.look()
    await chain.pay()
    found = []
    for _ in range(3):
        found.append(await watcher.look())
        await chain.mine()
    # The node calls a block safe that is one deep; there the second search finds it first.
    assert found == [0, 1, 0]


async def test_what_brings_much_is_credited_once_it_is_safe(chain: Watched) -> None:
    watcher = chain.watcher()
    await watcher.look()
    await chain.pay(SAFE_ABOVE + 1)
    assert await watcher.look() == 0
    await chain.mine()
    assert await watcher.look() == 1
    assert await chain.balance() == 2_000_001


async def test_node_without_safe_blocks_is_given_a_depth(
    chain: Watched, arbitrum_proxy: RpcProxy
) -> None:
    def without_tags(call: dict[str, Any]) -> dict[str, Any]:
        unknown = call["method"] == "eth_getBlockByNumber" and call["params"][0] in (
            "safe",
            "finalized",
        )
        return {**call, "params": ["no such tag", False]} if unknown else call

    arbitrum_proxy.rephrase = without_tags
    watcher = chain.watcher(arbitrum_proxy.url, finality_blocks=3)
    await watcher.look()
    await chain.pay(SAFE_ABOVE + 1)
    for found in (0, 0, 0, 1):
        assert await watcher.look() == found
        await chain.mine()


# A payment that is presented as well.


class Claims:
    """A paywall beside the watcher, over the same books."""

    def __init__(self, chain: Watched) -> None:
        self._chain = chain
        verifier = Verifier(
            pay_to=chain.pay_to,
            clients={"arbitrum": chain.client()},
            clock=SystemClock(),
            safe_above=SAFE_ABOVE,
            pending_wait_seconds=0,
        )
        self._paywall = paywall_of(chain.db, verifier, SystemClock())

    async def take(self, tx_hash: str) -> int:
        means = PaymentMeans(chain=self._chain.chains.arbitrum, token=self._chain.usdc)
        receipt = await self._paywall.take(
            TransactionEvidence(means, tx_hash),
            wallet=self._chain.payer.address.lower(),
            body_digest="00" * 32,
            unique_name="hello",
        )
        return receipt.credited


async def test_payment_found_first_is_taken_when_it_is_presented(chain: Watched) -> None:
    watcher, claims = chain.watcher(), Claims(chain)
    await watcher.look()
    tx_hash = await chain.pay()
    await watcher.look()
    assert await claims.take(tx_hash) == 500_000  # accepted: so much it was credited with
    assert await chain.balance() == 500_000


async def test_payment_presented_first_is_not_found_again(chain: Watched) -> None:
    watcher, claims = chain.watcher(), Claims(chain)
    await watcher.look()
    tx_hash = await chain.pay()
    assert await claims.take(tx_hash) == 500_000
    assert await watcher.look() == 0
    assert await chain.balance() == 500_000


async def test_claims_and_searches_at_once_credit_once(chain: Watched) -> None:
    watcher, claims = chain.watcher(), Claims(chain)
    for paid in range(1, 21):
        await watcher.look()
        tx_hash = await chain.pay()
        await asyncio.gather(
            claims.take(tx_hash), watcher.look(), chain.watcher().look(), claims.take(tx_hash)
        )
        assert await chain.balance() == paid * 500_000
    assert await chain.ledger_sum() == 0


# Screening.


async def test_refused_payment_is_held_and_not_credited(chain: Watched) -> None:
    async def refuse(transfer: Transfer) -> str | None:
        return "listed" if transfer.amount == 13 else None

    watcher = chain.watcher(screen=refuse)
    await watcher.look()
    refused, allowed = await chain.pay(13), await chain.pay(14)
    assert await watcher.look() == 2
    (held,), (credited,) = await chain.payments(refused), await chain.payments(allowed)
    assert (held.status, held.held_reason) == (PaymentStatus.HELD, "listed")
    assert (credited.status, await chain.balance()) == (PaymentStatus.CREDITED, 14)


async def test_payment_without_a_verdict_waits_and_others_do_not(chain: Watched) -> None:
    silent = True

    async def screen(transfer: Transfer) -> str | None:
        if silent and transfer.amount == 13:
            raise PaymentPending
        return None

    watcher = chain.watcher(screen=screen)
    await watcher.look()
    await chain.pay(13)
    await chain.pay(14)
    await chain.mine()
    await watcher.look()
    assert await chain.balance() == 14
    silent = False
    await watcher.ask_again()
    assert await chain.balance() == 27


async def test_large_payment_does_not_wait_for_another_payers_verdict(chain: Watched) -> None:
    silent = True

    async def screen(transfer: Transfer) -> str | None:
        if silent and transfer.amount == 13:
            raise PaymentPending
        return None

    watcher = chain.watcher(screen=screen)
    await watcher.look()
    await chain.pay(13)
    await chain.mine()
    await chain.pay(SAFE_ABOVE + 1, by=1)
    await chain.mine(3)
    for _ in range(2):
        await watcher.look()
        assert (await chain.balance(), await chain.balance(by=1)) == (0, SAFE_ABOVE + 1)
    silent = False
    await watcher.ask_again()
    assert (await chain.balance(), await chain.balance(by=1)) == (13, SAFE_ABOVE + 1)


async def test_what_has_no_verdict_is_set_aside_and_asked_about_at_growing_pauses(
    chain: Watched,
) -> None:
    clock, asked, silent = MovableClock(), 0, True

    async def screen(transfer: Transfer) -> str | None:
        nonlocal asked
        if transfer.amount == 13:
            asked += 1
            if silent:
                raise PaymentPending
        return None

    watcher = chain.watcher(screen=screen, clock=clock)
    await watcher.look()
    await chain.pay(13)
    await chain.mine()
    await watcher.look()
    asked_by_search = asked
    for _ in range(3):  # later blocks are searched, and it is not asked about by the search
        await chain.mine()
        await watcher.look()
    assert asked == asked_by_search
    await chain.pay(14, by=1)
    await watcher.look()
    assert await chain.balance(by=1) == 14
    tries = []
    for _ in range(60):
        before = asked
        await watcher.ask_again()
        if asked > before:
            tries.append(clock.now_ms())
        clock.advance(5_000)
    assert [then - first for first, then in itertools.pairwise(tries)] == [
        5_000,
        10_000,
        20_000,
        40_000,
        80_000,
    ]
    anew = chain.watcher(screen=screen)  # begun again, it finds what was set aside
    await anew.look()
    silent = False
    await anew.ask_again()
    await anew.ask_again()
    assert (await chain.balance(), await chain.balance(by=1)) == (13, 14)
    await chain.watcher(screen=screen).look()
    assert await chain.ledger_sum() == 0


# What the books have no room for.


async def pay_too_much(chain: Watched) -> str:
    """As an added token would whose supply has no end."""
    wallet = chain.payer.address
    await rpc(chain.url, "anvil_dealERC20", wallet, chain.usdt.address, hex(10**31))
    return await chain.pay(10**30, token=chain.usdt)


async def test_transfer_of_more_than_there_is_stops_nobody(chain: Watched) -> None:
    watcher = chain.watcher()
    await watcher.look()
    too_much = await pay_too_much(chain)
    await chain.pay(7, by=1)
    await chain.mine(3)
    await watcher.look()
    assert await chain.balance(by=1) == 7
    assert await chain.payments(too_much) == []
    await chain.finality_check().check()
    assert await watcher.look() == 0


async def test_transfer_of_more_than_there_is_on_one_nodes_word_is_not_passed_over(
    chain: Watched, arbitrum_proxy: RpcProxy
) -> None:
    watcher = chain.watcher(arbitrum_proxy.url, chain.url)
    await watcher.look()
    await chain.pay()

    def enlarge(method: str, result: Any) -> Any:
        if method == "eth_getLogs":
            return [{**log, "data": "0x" + f"{10**30:064x}"} for log in result]
        if method == "eth_getTransactionReceipt":
            return {**result, "logs": enlarge("eth_getLogs", result["logs"])}
        return result

    arbitrum_proxy.alter = enlarge
    with pytest.raises(ChainUnavailable):
        await watcher.look()
    await watcher.look()
    assert await chain.balance() == 500_000


async def test_search_that_does_not_come_on_is_told(
    chain: Watched, arbitrum_proxy: RpcProxy
) -> None:
    clock = MovableClock()
    watcher = Watcher(
        db=chain.db,
        client=chain.client(arbitrum_proxy.url),
        recipients=[chain.pay_to],
        safe_above=SAFE_ABOVE,
        clock=clock,
    )
    await watcher.look()
    await chain.pay()
    arbitrum_proxy.alter = lambda method, result: (
        [{**log, "logIndex": "0x63"} for log in result] if method == "eth_getLogs" else result
    )
    for _ in range(2):
        clock.advance(100_000)
        with pytest.raises(ChainUnavailable):
            await watcher.look()
    with pytest.raises(ChainUnavailable, match="have not been searched for 200 s"):
        await watcher.check()
    arbitrum_proxy.behave()
    await watcher.look()
    await watcher.check()


# Reorganisations.


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_payment_mined_anew_elsewhere_is_credited_once(chain: Watched, depth: int) -> None:
    watcher = chain.watcher()
    await watcher.look()
    tx_hash = await chain.pay()
    await chain.mine(depth - 1)
    await watcher.look()
    raw = await chain.raw(tx_hash)
    await chain.reorganise(depth, *[[]] * (depth - 1), [raw])
    await chain.mine(2)
    for _ in range(2):
        await watcher.look()
    (payment,) = await chain.payments(tx_hash)
    receipt = await rpc(chain.url, "eth_getTransactionReceipt", tx_hash)
    assert (payment.block_hash, payment.status) == (receipt["blockHash"], PaymentStatus.CREDITED)
    assert await chain.balance() == 500_000
    assert await chain.ledger_sum() == 0


async def test_payment_in_a_block_that_took_the_place_of_a_searched_one_is_found(
    chain: Watched,
) -> None:
    watcher = chain.watcher()
    await chain.mine(3)
    await watcher.look()
    tx_hash = await chain.pay()
    raw = await chain.raw(tx_hash)
    await chain.reorganise(1)  # it is gone, before anybody saw it,
    await chain.mine(3)
    assert await watcher.look() == 0
    await chain.reorganise(3, [raw])  # and back, in a block whose number was searched
    await chain.mine()
    for _ in range(2):
        await watcher.look()
    assert await chain.balance() == 500_000


async def test_payment_moved_to_another_log_index_is_credited_once(chain: Watched) -> None:
    watcher = chain.watcher()
    await watcher.look()
    first, second = await chain.pay(5, by=1), await chain.pay(7)
    await watcher.look()
    raws = [await chain.raw(first), await chain.raw(second)]
    await chain.reorganise(2, raws)
    await chain.mine(3)
    for _ in range(2):
        await watcher.look()
    indices = [
        int((await rpc(chain.url, "eth_getTransactionReceipt", tx_hash))["logs"][0]["logIndex"], 16)
        for tx_hash in (first, second)
    ]
    assert sorted(indices) == [0, 1]
    assert (await chain.balance(by=1), await chain.balance()) == (5, 7)
    assert await chain.ledger_sum() == 0


# Nodes that refuse, lag and lie.


def refusing(limit: int, proxy: RpcProxy) -> list[int]:
    """Have the node refuse ranges of more than `limit` blocks; gives the sizes it was asked."""
    asked: list[int] = []

    async def respond(request: web.Request) -> web.StreamResponse:
        calls = json.loads(await request.read())
        answer = json.loads((await proxy.forward(request)).body)  # type: ignore[attr-defined]
        for call, told in zip(calls, answer, strict=True):
            if call["method"] == "eth_getLogs":
                span = call["params"][0]
                size = int(span["toBlock"], 16) - int(span["fromBlock"], 16) + 1
                asked.append(size)
                if size > limit:
                    del told["result"]
                    told["error"] = {"code": -32602, "message": "block range too large"}
        return web.json_response(answer)

    proxy.respond = respond
    return asked


async def test_range_that_a_node_refuses_is_asked_in_parts(
    chain: Watched, arbitrum_proxy: RpcProxy
) -> None:
    await chain.watcher().look()
    for amount in (1, 10, 100):
        await chain.pay(amount)
        await chain.mine(40)
    asked = refusing(10, arbitrum_proxy)
    await chain.watcher(arbitrum_proxy.url).look()
    assert await chain.balance() == 111
    assert sum(size for size in asked if size <= 10) == 2 * 123 - 1  # each search, each block once
    assert len([size for size in asked if size > 10]) < len(asked) / 2


async def test_answer_too_large_is_asked_in_parts(chain: Watched) -> None:
    """1,500 logs are about a megabyte."""
    await chain.watcher().look()
    for _ in range(5):
        await chain.disperse([1] * 300)
    assert await chain.watcher().look() == 5
    assert await chain.balance() == 1_500


async def test_interrupted_catching_up_goes_on_after_a_restart(
    chain: Watched, arbitrum_proxy: RpcProxy
) -> None:
    await chain.watcher().look()
    for amount in (1, 10, 100):
        await chain.pay(amount)
        await chain.mine(20)
    refusing(10, arbitrum_proxy)
    answers = 0
    refuse = arbitrum_proxy.respond
    assert refuse is not None

    async def die(request: web.Request) -> web.StreamResponse:
        nonlocal answers
        answers += 1
        assert refuse is not None
        return await refuse(request) if answers < 10 else web.Response(status=500)

    arbitrum_proxy.respond = die
    with pytest.raises(ChainUnavailable):
        await chain.watcher(arbitrum_proxy.url).look()
    assert 0 < await chain.balance() < 111
    await chain.watcher().look()
    assert await chain.balance() == 111
    assert await chain.ledger_sum() == 0


async def test_node_that_lacks_the_newest_block_finds_nothing_and_skips_nothing(
    chain: Watched, arbitrum_proxy: RpcProxy
) -> None:
    """One of several behind a balancer: the head came from another."""
    watcher = chain.watcher(arbitrum_proxy.url)
    await watcher.look()
    await chain.pay()
    head = hex(await chain.head())

    def lack(call: dict[str, Any]) -> dict[str, Any]:
        if call["method"] == "eth_getBlockByNumber" and call["params"][0] == head:
            return {**call, "params": [hex(10**9), False]}
        return call

    arbitrum_proxy.rephrase = lack
    arbitrum_proxy.alter = lambda method, result: [] if method == "eth_getLogs" else result
    with pytest.raises(ChainUnavailable, match="no block"):
        await watcher.look()
    arbitrum_proxy.behave()
    assert await watcher.look() == 1


@pytest.mark.parametrize(
    "lie",
    [
        {"data": "0x" + f"{10**12:064x}"},
        {"blockHash": "0x" + "ab" * 32},
        {"logIndex": "0x63"},
        {"address": "0x" + "cd" * 20},
        {"blockNumber": "0x1"},
        {"topics": ["0x" + "ef" * 32] * 3},
    ],
    ids=lambda lie: next(iter(lie)),
)
async def test_log_that_its_receipt_does_not_hold_credits_nothing(
    chain: Watched, arbitrum_proxy: RpcProxy, lie: dict[str, Any]
) -> None:
    watcher = chain.watcher(arbitrum_proxy.url)
    await watcher.look()
    await chain.pay()
    arbitrum_proxy.alter = lambda method, result: (
        [{**log, **lie} for log in result] if method == "eth_getLogs" else result
    )
    with pytest.raises(ChainUnavailable, match="contradicts itself"):
        await watcher.look()
    assert await chain.balance() == 0
    arbitrum_proxy.behave()
    await watcher.look()
    assert await chain.balance() == 500_000


async def test_removed_log_is_passed_over(chain: Watched, arbitrum_proxy: RpcProxy) -> None:
    watcher = chain.watcher(arbitrum_proxy.url)
    await watcher.look()
    await chain.pay()
    arbitrum_proxy.alter = lambda method, result: (
        [{**log, "removed": True} for log in result] if method == "eth_getLogs" else result
    )
    assert await watcher.look() == 0
    assert await chain.balance() == 0


async def test_liar_is_passed_over_for_the_next_node(
    chain: Watched, arbitrum_proxy: RpcProxy
) -> None:
    watcher = chain.watcher(arbitrum_proxy.url, chain.url)
    await watcher.look()
    await chain.pay()
    arbitrum_proxy.alter = lambda method, result: (
        [{**log, "logIndex": "0x63"} for log in result] if method == "eth_getLogs" else result
    )
    with pytest.raises(ChainUnavailable):
        await watcher.look()
    assert await watcher.look() == 1
    assert await chain.balance() == 500_000

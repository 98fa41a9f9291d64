"""What wallets hold is looked at in the background: it orders offers, and holds up no answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.chains.chain import KNOWN_CHAINS, Chain
from moorage.chains.rpc import RpcClient
from moorage.errors import ChainUnavailable
from moorage.payments.price.quotes import Holdings
from support.gateway.clock import MovableClock
from support.gateway.waiting import until, until_read

ARBITRUM, BASE = KNOWN_CHAINS["arbitrum"], KNOWN_CHAINS["base"]
WALLET = "0x" + "a1" * 20
HERE = "192.0.2.1"
RICH = {("base", "usdc"): 5, ("base", "usdt"): 5}


class Node:
    """A chain's node, where every wallet holds `balance` of each token."""

    def __init__(self, chain: Chain, balance: int) -> None:
        self.chain = chain
        self.balance = balance
        self.asked = 0
        self.fails = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def batch(self, calls: Sequence[object]) -> list[Any]:
        self.asked += 1
        await self.answers.wait()
        if self.fails:
            raise ChainUnavailable
        return [f"0x{self.balance:064x}" for _ in calls]


@asynccontextmanager
async def looking(
    *nodes: Node, clock: MovableClock | None = None, strangers: int = 100
) -> AsyncIterator[Holdings]:
    clock = clock or MovableClock()
    clients = {node.chain.name: cast("RpcClient", node) for node in nodes}
    limiter = MemoryRateLimiter(clock=clock, limit=strangers)
    holdings = Holdings(clients, strangers=limiter, clock=clock)
    running = asyncio.create_task(holdings.run())
    try:
        yield holdings
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def wallet(number: int) -> str:
    return f"0x{number:040x}"


async def test_balances_of_every_chain_and_token_are_known_after_a_look() -> None:
    async with looking(Node(ARBITRUM, 7), Node(BASE, 5)) as holdings:
        assert await holdings.known(WALLET) == {}
        await holdings.begin(WALLET)
        held = await until_read(lambda: holdings.known(WALLET), bool)
        assert held == RICH | {("arbitrum", "usdc"): 7, ("arbitrum", "usdt"): 7}


async def test_a_chain_that_fails_is_not_known_and_hides_no_other() -> None:
    broken = Node(ARBITRUM, 7)
    broken.fails = True
    async with looking(broken, Node(BASE, 5)) as holdings:
        await holdings.begin(WALLET)
        assert await until_read(lambda: holdings.known(WALLET), bool) == RICH


async def test_a_node_that_is_silent_holds_nobody_up_and_its_answer_is_for_the_next_time() -> None:
    node = Node(BASE, 5)
    node.answers.clear()
    async with looking(node) as holdings:
        await holdings.begin(WALLET)
        assert await holdings.known(WALLET) == {}
        node.answers.set()
        assert await until_read(lambda: holdings.known(WALLET), bool) == RICH


async def test_a_look_is_for_many_requests_until_it_is_stale_or_forgotten() -> None:
    node, clock = Node(BASE, 5), MovableClock()
    async with looking(node, clock=clock) as holdings:

        async def asked_again() -> int:
            await holdings.begin(WALLET)
            await until_read(lambda: holdings.known(WALLET), bool)
            return node.asked

        assert [await asked_again() for _ in range(5)] == [1] * 5
        clock.advance(60_000)
        assert await holdings.known(WALLET) == {}
        assert await asked_again() == 2
        holdings.forget(WALLET)
        assert await holdings.known(WALLET) == {}
        assert await asked_again() == 3


async def test_wallet_that_many_ask_about_is_looked_at_once_also_with_a_slow_limiter() -> None:
    class Slow(MemoryRateLimiter):
        async def check(self, key: str) -> None:
            await super().check(key)
            await let.wait()

    let, node, clock = asyncio.Event(), Node(BASE, 5), MovableClock()
    node.answers.clear()
    clients = {node.chain.name: cast("RpcClient", node)}
    holdings = Holdings(clients, strangers=Slow(clock=clock, limit=100), clock=clock)
    running = asyncio.create_task(holdings.run())
    asking = [asyncio.create_task(holdings.begin(WALLET, stranger_at=HERE)) for _ in range(5)]
    await asyncio.sleep(0)
    let.set()
    await asyncio.gather(*asking)
    node.answers.set()
    assert await until_read(lambda: holdings.known(WALLET), bool) == RICH
    assert node.asked == 1
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_strangers_of_one_address_have_so_many_looks_a_minute() -> None:
    node = Node(BASE, 5)
    async with looking(node, strangers=3) as holdings:
        for number in range(10):
            await holdings.begin(wallet(number), stranger_at=HERE)
        await holdings.begin(wallet(10), stranger_at="192.0.2.2")
        await holdings.begin(wallet(11))
        await until_read(lambda: holdings.known(wallet(11)), bool)
        await until(lambda: node.asked == 5)


async def test_what_waits_and_what_is_remembered_is_bounded() -> None:
    node = Node(BASE, 5)
    node.answers.clear()
    async with looking(node) as holdings:
        for number in range(1_000):
            await holdings.begin(wallet(number))
            await asyncio.sleep(0)
        assert node.asked <= 100
        node.answers.set()
        for number in range(1_100):
            await holdings.begin(wallet(number))
            await until_read(lambda n=number: holdings.known(wallet(n)), bool)  # type: ignore[misc]
        asked = node.asked
        await holdings.begin(wallet(0))
        await until(lambda: node.asked == asked + 1)

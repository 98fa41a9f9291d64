"""Catching up with payments that came while the gateway was down: a real node, a real database."""

import asyncio
import contextlib
import gc
import secrets
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from gateway import REPOSITORY
from measure import LOAD_CPU, SERVER_CPU, Row, on_cpu
from moorage.address import parse_address
from moorage.chains.chain import KNOWN_CHAINS, Chain
from moorage.chains.local.devchain import DevChain, artifact, dev_wallets, find_anvil
from moorage.chains.rpc import RpcClient
from moorage.clock import SystemClock
from moorage.money import MicroUsd
from moorage.payments.watch.watcher import Watcher
from moorage.storage.migrate import migrate
from moorage.storage.money import accounts
from moorage.storage.opening import open_database
from support.chains.paying import calldata

TRANSFERS = 10_000
BLOCKS = 100
_GAS = hex(15_000_000)
_TARGET_SECONDS = 10.0
_TARGET_STRETCH_SECONDS = 0.020
_TICK_SECONDS = 0.001


def run() -> list[Row]:
    """10,000 transfers in 10,000 transactions, and in 100 of a contract that pays many at once."""
    return [
        row
        for words, a_transaction in (("10,000", 1), ("100", 100))
        for row in asyncio.run(_caught_up(words, a_transaction))
    ]


async def _caught_up(words: str, a_transaction: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as directory:
        async with _chain(Path(directory)) as (chain, payer):
            pay_to = "0x" + secrets.token_hex(20)
            await _pay(chain, payer, pay_to, a_transaction)
            took, stretch, balance = await _catch_up(chain, payer, pay_to, Path(directory))
    assert balance == TRANSFERS, balance
    return [
        Row(
            f"watcher: 10,000 transfers in {words} transactions, found and credited",
            f"{took:.1f} s",
            "< 10 s",
            took < _TARGET_SECONDS,
            f"{BLOCKS} blocks of a real local node",
        ),
        Row(
            "… longest stretch of work that kept all else waiting",
            f"{stretch * 1000:.0f} ms",
            "≤ 20 ms",
            stretch <= _TARGET_STRETCH_SECONDS,
            "processor time between the ticks of a timer",
        ),
    ]


@contextlib.asynccontextmanager
async def _chain(directory: Path) -> AsyncIterator[tuple[Chain, str]]:
    """A local chain on the other core, and a wallet on it that needs no signature."""
    wallets = dev_wallets(directory / "wallets.json")
    node = DevChain(
        KNOWN_CHAINS["arbitrum"],
        directory=directory / "chain",
        anvil=find_anvil([REPOSITORY / "node_modules"]),
        wallets=wallets,
    )
    with on_cpu(LOAD_CPU):
        chain = await node.start()
    try:
        yield chain, wallets.wallets[0].address
    finally:
        await node.stop()


async def _pay(chain: Chain, payer: str, pay_to: str, a_transaction: int) -> None:
    """Every transfer is one atomic unit of USDC, 100 in a block."""
    usdc, disperser = chain.tokens[0].address, "0x" + secrets.token_hex(20)
    code = artifact().contracts["DevDisperser"].runtime
    to, data = usdc, calldata("transfer(address,uint256)", pay_to, 1)
    if a_transaction > 1:
        recipients = [pay_to] * a_transaction
        words: list[int | str] = [usdc, 96, 128 + 32 * a_transaction, a_transaction, *recipients]
        values = [a_transaction, *[1] * a_transaction]
        to = disperser
        data = calldata("disperse(address,address[],uint256[])", *words, *values)
    transaction = {"from": payer, "to": to, "data": data, "gas": _GAS}
    approval = calldata("approve(address,uint256)", disperser, TRANSFERS)
    async with aiohttp.ClientSession() as session:
        await _batch(
            session,
            chain,
            ("anvil_setCode", disperser, code),
            ("anvil_impersonateAccount", payer),
            ("eth_sendTransaction", {"from": payer, "to": usdc, "data": approval, "gas": _GAS}),
            ("evm_setAutomine", False),
        )
        sent = [("eth_sendTransaction", transaction)] * (TRANSFERS // BLOCKS // a_transaction)
        for _ in range(BLOCKS):
            await _batch(session, chain, *sent, ("evm_mine",))


async def _batch(session: aiohttp.ClientSession, chain: Chain, *calls: tuple[Any, ...]) -> None:
    requests = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, *params) in enumerate(calls)
    ]
    async with session.post(chain.rpc_urls[0], json=requests) as response:
        for answer in await response.json():
            assert "error" not in answer, answer


async def _catch_up(
    chain: Chain, payer: str, pay_to: str, directory: Path
) -> tuple[float, float, int]:
    """Seconds that one look took, its longest stretch, and what the payer has by then."""
    migrate(directory / "moorage.db")
    db = open_database(directory / "moorage.db")
    client = RpcClient(msgspec.structs.replace(chain, watch_from_block=1))
    watcher = Watcher(
        db=db,
        client=client,
        recipients=[parse_address(pay_to)],
        safe_above=MicroUsd(100_000_000),
        clock=SystemClock(),
    )
    try:
        with on_cpu(SERVER_CPU):
            gc.collect()
            gc.freeze()  # as the gateway does
            ticking = asyncio.create_task(_longest_stretch())
            began = time.perf_counter()
            await watcher.look()
            took = time.perf_counter() - began
            ticking.cancel()
            stretch = await ticking
        return took, stretch, await accounts.balance(db, payer.lower())
    finally:
        await client.close()
        db.close()


async def _longest_stretch() -> float:
    """The most processor time between two ticks, until cancelled; seconds.

    Processor time, as what else this machine does takes turns too.
    """
    longest = 0.0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            before = time.thread_time()
            await asyncio.sleep(_TICK_SECONDS)
            longest = max(longest, time.thread_time() - before)
    return longest

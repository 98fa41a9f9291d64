"""The faults, each from its beginning to its end, as an asynchronous context manager."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from typing import Any

from aiohttp import web
from cell import Cell

from support.chains.paying import mine, rpc, until_mined

LATEST_TAGS = {"latest": 0, "safe": 1, "finalized": 2}
DUPLICATES = 12
_AIR = bytes(1 << 20)

Fault = Callable[[Cell], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def node_down(cell: Cell) -> AsyncIterator[None]:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    cell.stage.rpc.respond = refuse
    try:
        yield
    finally:
        cell.stage.rpc.behave()


@asynccontextmanager
async def node_late(cell: Cell) -> AsyncIterator[None]:
    """It does as it is told, and answers when nobody waits any more."""

    async def answer_late(request: web.Request) -> web.StreamResponse:
        answer = await cell.stage.rpc.forward(request)
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.01)
        return answer

    cell.stage.rpc.respond = answer_late
    try:
        yield
    finally:
        cell.stage.rpc.behave()


@asynccontextmanager
async def node_behind(cell: Cell) -> AsyncIterator[None]:
    """It knows all blocks but the newest, and none that come."""
    shown = int(await rpc(cell.rpc_url, "eth_blockNumber"), 16) - 1

    def older(call: dict[str, Any]) -> dict[str, Any]:
        params = [
            hex(shown - LATEST_TAGS[item]) if str(item) in LATEST_TAGS else item
            for item in call["params"]
        ]
        return {**call, "params": params}

    def unseen(method: str, result: Any) -> Any:
        if method == "eth_blockNumber":
            return hex(shown)
        block = result.get("blockNumber") if isinstance(result, dict) else None
        if block is None or int(block, 16) <= shown:
            return result
        if method == "eth_getTransactionByHash":
            return {**result, "blockNumber": None, "blockHash": None, "transactionIndex": None}
        return None

    cell.stage.rpc.rephrase, cell.stage.rpc.alter = older, unseen
    try:
        yield
    finally:
        cell.stage.rpc.behave()


@asynccontextmanager
async def node_contradicts_itself(cell: Cell) -> AsyncIterator[None]:
    """Receipts lie in blocks that their transactions don't lie in."""

    def elsewhere(method: str, result: Any) -> Any:
        if method != "eth_getTransactionReceipt" or result is None:
            return result
        return {**result, "blockHash": "0x" + "66" * 32}

    cell.stage.rpc.alter = elsewhere
    try:
        yield
    finally:
        cell.stage.rpc.behave()


@asynccontextmanager
async def node_says_reverted(cell: Cell) -> AsyncIterator[None]:
    """Receipts say that their transactions did nothing. Nobody can tell, with this node alone."""

    def reverted(method: str, result: Any) -> Any:
        if method != "eth_getTransactionReceipt" or result is None:
            return result
        return {**result, "status": "0x0", "logs": []}

    cell.stage.rpc.alter = reverted
    cell.misled = True
    try:
        yield
    finally:
        cell.stage.rpc.behave()
        cell.misled = False


@asynccontextmanager
async def database_busy(cell: Cell) -> AsyncIterator[None]:
    """Another process writes, and takes its time."""
    with closing(sqlite3.connect(cell.stage.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@asynccontextmanager
async def disk_full(cell: Cell) -> AsyncIterator[None]:
    """No byte is free where the records are; nor in the write-ahead log, which is cut first."""
    with closing(sqlite3.connect(cell.stage.database)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    balloon = cell.stage.data_dir / "balloon"
    try:
        with balloon.open("wb", buffering=0) as file, suppress(OSError):  # ENOSPC, in the end
            while True:
                file.write(_AIR)
        yield
    finally:
        balloon.unlink()


@asynccontextmanager
async def asked_many_times_at_once(cell: Cell) -> AsyncIterator[None]:
    """The same request with the same proof, by a client that lost its patience."""
    copies = [asyncio.create_task(cell.send()) for _ in range(DUPLICATES)]
    yield
    await asyncio.gather(*copies)


async def newest_transactions(rpc_url: str, *, blocks: int) -> list[str]:
    """What the newest blocks hold, oldest first, ready to be sent again."""
    head = int(await rpc(rpc_url, "eth_blockNumber"), 16)
    found = []
    for number in range(head - blocks + 1, head + 1):
        block = await rpc(rpc_url, "eth_getBlockByNumber", hex(number), False)
        found += [
            await rpc(rpc_url, "eth_getRawTransactionByHash", tx) for tx in block["transactions"]
        ]
    return found


def reorganised(depth: int, *, forgets: bool = False) -> Fault:
    """The newest `depth` blocks of this cell are replaced.

    What they held is mined again after them, unless the chain `forgets` it.
    """

    @asynccontextmanager
    async def fault(cell: Cell) -> AsyncIterator[None]:
        await until_mined(cell.rpc_url)  # what is sent, and not mined, would be a block more
        head = int(await rpc(cell.rpc_url, "eth_blockNumber"), 16)
        await mine(cell.rpc_url, max(0, depth - (head - cell.first_block)))
        removed = await newest_transactions(cell.rpc_url, blocks=depth)
        await rpc(cell.rpc_url, "anvil_reorg", depth, [])
        for raw in [] if forgets else removed:
            await rpc(cell.rpc_url, "eth_sendRawTransactionSync", raw)
        yield

    return fault


FAULTS: dict[str, Fault] = {
    "database-busy": database_busy,
    "disk-full": disk_full,
    "node-down": node_down,
    "node-late": node_late,
    "node-behind": node_behind,
    "node-contradicts-itself": node_contradicts_itself,
    "node-says-reverted": node_says_reverted,
    "reorganised-1": reorganised(1),
    "reorganised-2": reorganised(2),
    "reorganised-3": reorganised(3),
    "duplicates": asked_many_times_at_once,
}
"""What can go wrong while the gateway lives, by name."""

OF_THE_DATABASE = (database_busy, disk_full)
"""Those that a gateway notices whenever it writes, though the request is long answered."""

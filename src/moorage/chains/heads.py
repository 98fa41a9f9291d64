"""How far a chain has come: its newest block, and those it calls `safe` and `finalized`.

On Arbitrum and Base a block is `safe` or `finalized` when the batch that holds it is so on
Ethereum.
"""

from typing import Any

import msgspec

from moorage.chains.encoding import parse_bytes32, parse_quantity
from moorage.chains.rpc import OVERLOADED_CODES, Call, RpcClient, RpcError


class Block(msgspec.Struct, frozen=True):
    """A block's place, its name and its time."""

    number: int
    hash: str
    time: int  # Unix seconds


class Heads(msgspec.Struct, frozen=True):
    """Numbers of blocks, as one answer tells them: finalized <= safe <= latest."""

    latest: int
    safe: int
    finalized: int


class _BlockAnswer(msgspec.Struct):
    number: str
    hash: str
    timestamp: str


def block_call(block: int | str) -> Call:
    """Asks for a block by number or tag, with the transactions' hashes alone."""
    return "eth_getBlockByNumber", [hex(block) if isinstance(block, int) else block, False]


def parse_block(answer: object) -> Block | None:
    """The block in a node's answer; None when it has none of that number.

    Raises ValueError when the answer is malformed, and what the node refused as it is.
    """
    if isinstance(answer, RpcError):
        raise answer
    if answer is None:
        return None
    raw = msgspec.convert(answer, _BlockAnswer)
    return Block(parse_quantity(raw.number), parse_bytes32(raw.hash), parse_quantity(raw.timestamp))


def parse_tagged_block(answer: object) -> Block | None:
    """As `parse_block`, for one asked for by tag; None from a node that knows no such tag."""
    if isinstance(answer, RpcError) and answer.code not in OVERLOADED_CODES:
        return None
    return parse_block(answer)


async def read_block(client: RpcClient, number: int) -> Block:
    """The block of that number. Raises ChainUnavailable, also when there is none."""
    method, parameters = block_call(number)
    try:
        block = parse_block(await client.call(method, parameters))
    except ValueError as problem:
        raise client.contradiction(problem) from problem
    if block is None:
        raise client.contradiction(f"it has no block {number}")
    return block


async def read_heads(client: RpcClient) -> Heads:
    """How far the chain has come. One round trip.

    Where the node knows no `safe` or no `finalized`, a block as deep as the chain's
    `finality_blocks` takes its place. Raises ChainUnavailable.
    """
    heads, _ = await _read(client)
    return heads


async def is_safe(client: RpcClient, *, number: int, block_hash: str) -> bool:
    """Whether this very block is part of the chain, and `safe`. As `read_heads` otherwise."""
    heads, (canonical,) = await _read(client, number)
    in_chain = canonical is not None and (canonical.number, canonical.hash) == (number, block_hash)
    return in_chain and number <= heads.safe


async def _read(client: RpcClient, *numbers: int) -> tuple[Heads, list[Block | None]]:
    """The heads and the blocks of these numbers, in one round trip."""
    asked: tuple[str | int, ...] = ("latest", "safe", "finalized", *numbers)
    latest, safe, finalized, *others = await client.batch([block_call(block) for block in asked])
    try:
        heads = _heads(latest, safe, finalized, finality_blocks=client.chain.finality_blocks)
        return heads, [parse_block(other) for other in others]
    except ValueError as problem:
        raise client.contradiction(problem) from problem


def _heads(latest: Any, safe: Any, finalized: Any, *, finality_blocks: int) -> Heads:
    newest = parse_block(latest)
    if newest is None:
        raise ValueError("there is no newest block")
    deep = max(0, newest.number - finality_blocks)
    safe_block, finalized_block = parse_tagged_block(safe), parse_tagged_block(finalized)
    if finalized_block is not None:
        finalized_number = finalized_block.number
    else:
        finalized_number = deep if safe_block is None else min(deep, safe_block.number)
    safe_number = max(deep, finalized_number) if safe_block is None else safe_block.number
    if not finalized_number <= safe_number <= newest.number:
        raise ValueError("its heads are out of order")
    return Heads(latest=newest.number, safe=safe_number, finalized=finalized_number)

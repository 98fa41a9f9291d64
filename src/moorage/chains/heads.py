"""Reads a chain's heads: its newest block, and the newest ones that are `safe` and `finalized`.

On Arbitrum and Base a block is `safe` or `finalized` when the batch that contains it is so on
Ethereum.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from moorage.chains.receipt import parse_bytes32, parse_quantity
from moorage.chains.rpc import OVERLOADED_CODES, Call, RpcClient, RpcError


class Block(msgspec.Struct, frozen=True):
    """A block's number, hash and time."""

    number: int
    hash: str
    time: int  # Unix seconds


class Heads(msgspec.Struct, frozen=True):
    """Block numbers from one answer: finalized <= safe <= latest."""

    latest: int
    safe: int
    finalized: int


class _BlockAnswer(msgspec.Struct):
    number: str
    hash: str
    timestamp: str


def block_call(block: int | str) -> Call:
    """Returns the call that asks for a block by number or tag, with transaction hashes only."""
    return "eth_getBlockByNumber", [hex(block) if isinstance(block, int) else block, False]


HEAD_CALLS: Final = tuple(map(block_call, ("latest", "safe", "finalized")))
"""Ask for what `parse_heads` reads."""


def parse_block(answer: object) -> Block | None:
    """Returns the block in a node's answer; None if the node has no such block.

    Raises ValueError for a malformed answer, and the RpcError if the node refused.
    """
    if isinstance(answer, RpcError):
        raise answer
    if answer is None:
        return None
    raw = msgspec.convert(answer, _BlockAnswer)
    return Block(parse_quantity(raw.number), parse_bytes32(raw.hash), parse_quantity(raw.timestamp))


def parse_tagged_block(answer: object) -> Block | None:
    """Like `parse_block`, for a block asked for by tag; None if the node doesn't know the tag."""
    if isinstance(answer, RpcError) and answer.code not in OVERLOADED_CODES:
        return None
    return parse_block(answer)


async def read_block(client: RpcClient, number: int) -> Block:
    """Reads the block of that number. Raises ChainUnavailable, also if there is none."""
    method, parameters = block_call(number)
    with client.reading():
        block = parse_block(await client.call(method, parameters))
    if block is None:
        raise client.contradiction(f"it has no block {number}")
    return block


async def read_heads(client: RpcClient) -> Heads:
    """Reads the heads in one round trip. Raises ChainUnavailable.

    If the node knows no `safe` or no `finalized` block, the one `finality_blocks` below the newest
    is used instead.
    """
    heads, _ = await _read(client)
    return heads


async def is_safe(client: RpcClient, *, number: int, block_hash: str) -> bool:
    """Whether the block with this number and hash is part of the chain and `safe`.

    Reads as `read_heads` does, and raises ChainUnavailable.
    """
    heads, (canonical,) = await _read(client, number)
    in_chain = canonical is not None and (canonical.number, canonical.hash) == (number, block_hash)
    return in_chain and number <= heads.safe


async def _read(client: RpcClient, *numbers: int) -> tuple[Heads, list[Block | None]]:
    """Reads the heads, and the blocks of these numbers, in one round trip."""
    answers = await client.batch([*HEAD_CALLS, *map(block_call, numbers)])
    with client.reading():
        heads = parse_heads(answers[:3], finality_blocks=client.chain.finality_blocks)
        return heads, [parse_block(other) for other in answers[3:]]


def parse_heads(answers: Sequence[object], *, finality_blocks: int) -> Heads:
    """Returns the heads in the answers to HEAD_CALLS.

    Raises ValueError for answers that can't be true, and the RpcError if the node refused.
    """
    latest, safe, finalized = answers
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

"""Checks each node of each chain by itself: a second URL is no help if it serves another chain."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from moorage.chains.chain import Chain
from moorage.chains.heads import Block, block_call, parse_block, parse_tagged_block
from moorage.chains.rpc import RpcClient, RpcError
from moorage.clock import SystemClock
from moorage.errors import ChainUnavailable
from moorage.gateway.receiving import is_local_node
from moorage.operate.check.finding import Finding

_MAX_AHEAD_SECONDS = 60  # of the newest block's time before this machine's clock
_MAX_BEHIND_SECONDS = 600


class NodeFacts(msgspec.Struct, frozen=True):
    """What a node says of itself."""

    version: str
    latest: Block
    knows_safe: bool  # the tags `safe` and `finalized`


async def check_nodes(chains: Sequence[Chain], *, timeout_seconds: int) -> list[Finding]:
    """Returns a finding for each URL of each chain, and one for each chain that has only one."""
    found = await asyncio.gather(
        *(
            _check(chain, number, timeout_seconds=timeout_seconds)
            for chain in chains
            for number in range(len(chain.rpc_urls))
        )
    )
    return [*found, *map(_alone, (chain for chain in chains if len(chain.rpc_urls) == 1))]


def _alone(chain: Chain) -> Finding:
    return Finding(
        f"nodes of {chain.name}",
        ok=True,
        warns=True,
        detail="it has one URL: whoever runs that node can make up payments, and hide them",
        remedy=f"name a second node, of somebody else, in chains.{chain.name}.rpc_urls",
        blocks=False,
    )


def judge_node(facts: NodeFacts, *, now_seconds: float) -> tuple[str, str, bool]:
    """Returns what is wrong with a node, what mends it, and whether nothing may start so.

    "" and "" for nothing.
    """
    if is_local_node(facts.version):
        return (
            f"it is {facts.version}, a local one that anybody can mint on",
            "name a real node, or use `moorage dev`",
            True,
        )
    ahead = facts.latest.time - now_seconds
    if ahead > _MAX_AHEAD_SECONDS:
        return (
            f"its newest block is {ahead:.0f} s ahead of this machine's clock",
            "set the clock: timedatectl set-ntp true",
            True,
        )
    if -ahead > _MAX_BEHIND_SECONDS:
        return (
            f"its newest block is {-ahead:.0f} s old",
            "wait until it has caught up, name another node, or set the clock right",
            False,
        )
    if not facts.knows_safe:
        return (
            "it knows no `safe` or `finalized` block, so finality_blocks decides",
            "name a node that does",
            False,
        )
    return "", "", False


async def _check(chain: Chain, number: int, *, timeout_seconds: float) -> Finding:
    name = f"node {number + 1} of {chain.name}"
    alone = msgspec.structs.replace(chain, rpc_urls=(chain.rpc_urls[number],))
    client = RpcClient(alone, timeout_seconds=timeout_seconds)
    try:
        facts = await _look(client)
    except (ChainUnavailable, RpcError, ValueError) as error:
        remedy = f"set chains.{chain.name}.rpc_urls and chain_id right"
        return Finding(name, ok=False, detail=str(error), remedy=remedy, blocks=False)
    finally:
        await client.close()
    problem, remedy, blocks = judge_node(facts, now_seconds=SystemClock().now_ms() / 1000)
    good = f"{facts.version}, chain {chain.chain_id}, block {facts.latest.number}"
    return Finding(name, not problem, problem or good, remedy, blocks=blocks)


async def _look(client: RpcClient) -> NodeFacts:
    """Asks a node. Raises ChainUnavailable, RpcError and ValueError."""
    tags = ("latest", "safe", "finalized")
    calls: list[Any] = [("web3_clientVersion", []), *map(block_call, tags)]
    version, latest, *deep = await client.batch(calls)
    newest = parse_block(latest)
    if newest is None:
        raise ValueError("it has no block")
    return NodeFacts(
        version=version if isinstance(version, str) else "it does not tell its program",
        latest=newest,
        knows_safe=all(parse_tagged_block(each) is not None for each in deep),
    )

"""Checks each node of each chain by itself: a second URL is no help if it serves another chain."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.chains.eip3009 import Eip712Domain, authorization_state_calldata, domain_separator
from moorage.chains.heads import Block, block_call, parse_block, parse_tagged_block
from moorage.chains.receipt import decode_uint256, parse_bytes32
from moorage.chains.rpc import Call, RpcClient, RpcError, revert_reason
from moorage.clock import SystemClock
from moorage.errors import ChainUnavailable
from moorage.gateway.configuration import is_local_node
from moorage.operate.check.configuration import Finding
from moorage.signing import keccak256

_QUESTIONS = ("DOMAIN_SEPARATOR()", "eip712Domain()", "name()", "version()")
_NOBODY, _NO_NONCE = "0x" + "00" * 20, "0x" + "00" * 32
_WORD = 32
_MAX_NAME_BYTES = 128


class TokenFacts(msgspec.Struct, frozen=True):
    """What a token's contract says of itself."""

    authorizes: bool
    """Whether it answers `authorizationState`, as EIP-3009 has it."""
    separator: bytes | None
    """Its `DOMAIN_SEPARATOR()`."""
    domains: tuple[Eip712Domain, ...]
    """What its EIP-712 domain may be: by `eip712Domain()`, and by `name()` and `version()`."""


async def check_tokens(chains: Iterable[Chain]) -> list[Finding]:
    """Returns a finding for each token; for a chain that can't be asked, one that says so."""
    found = await asyncio.gather(*(_on(chain) for chain in chains))
    return [finding for findings in found for finding in findings]


def judge_token(chain: Chain, token: Token, facts: TokenFacts) -> Finding:
    """Returns whether the token's configured domain is the one that its contract checks."""
    name, mine = f"{token.name} on {chain.name}", token.authorization
    where = f"authorization of {token.name} in chains.{chain.name}.tokens"
    if not facts.authorizes:
        if mine is None:
            return Finding(name, ok=True, detail="by transfers alone: it has no EIP-3009")
        detail = "it has no EIP-3009: no authorization could be settled"
        return Finding(name, ok=False, detail=detail, remedy=f"leave out {where}")
    right = _right_domain(chain, token, facts)
    if right is not None and mine == right:
        return Finding(name, ok=True, detail=f"without gas, or by transfers: {_written(mine)}")
    if mine is None:
        hint = f"set {where}: {_written(right)}" if right else "it does not tell its EIP-712 domain"
        return Finding(name, ok=True, detail=f"by transfers alone, though it has EIP-3009: {hint}")
    if right is None:
        detail = f"its EIP-712 domain is not {_written(mine)}, and it does not tell which it is"
        return Finding(name, ok=False, detail=detail, remedy=f"leave out {where}")
    detail = f"its EIP-712 domain is not {_written(mine)}: no authorization would be valid"
    return Finding(name, ok=False, detail=detail, remedy=f"set {where}: {_written(right)}")


async def read_tokens(client: RpcClient) -> list[TokenFacts]:
    """Returns the facts of the chain's tokens, in its order.

    Raises ChainUnavailable, also for a node that refuses to say whether a token has EIP-3009.
    """
    tokens = client.chain.tokens
    answers = await client.batch([call for token in tokens for call in _calls(token)])
    size = len(_QUESTIONS) + 1
    for state in answers[size - 1 :: size]:
        if isinstance(state, RpcError) and revert_reason(state) is None:
            raise state
    return [_facts(answers[size * at : size * (at + 1)]) for at in range(len(tokens))]


async def _on(chain: Chain) -> list[Finding]:
    client = RpcClient(chain)
    try:
        facts = await read_tokens(client)
    except ChainUnavailable as error:
        remedy = f"set chains.{chain.name}.rpc_urls right"
        return [Finding(f"chain {chain.name}", ok=False, detail=error.message, remedy=remedy)]
    finally:
        await client.close()
    return [
        judge_token(chain, token, each) for token, each in zip(chain.tokens, facts, strict=True)
    ]


def _calls(token: Token) -> list[Call]:
    asked = ["0x" + keccak256(question.encode())[:4].hex() for question in _QUESTIONS]
    asked.append(authorization_state_calldata(_NOBODY, _NO_NONCE))
    return [("eth_call", [{"to": token.key, "data": data}, "latest"]) for data in asked]


def _facts(answers: list[object]) -> TokenFacts:
    separator, domain, name, version, state = answers
    found_tokens = (
        (_text(domain, 1), _text(domain, 2)),  # its first word says which fields there are
        (_text(name, 0), _text(version, 0)),
    )
    return TokenFacts(
        authorizes=_number(state) in (0, 1),
        separator=_bytes32(separator),
        domains=tuple(
            Eip712Domain(name=each[0], version=each[1])
            for each in found_tokens
            if each[0] is not None and each[1] is not None
        ),
    )


def _right_domain(chain: Chain, token: Token, facts: TokenFacts) -> Eip712Domain | None:
    """Returns the domain that makes the token's separator; None if none of those known does."""
    known: list[Eip712Domain] = [*facts.domains]
    if token.authorization is not None:
        known.insert(0, token.authorization)
    for domain in known:
        if domain_separator(domain, chain.chain_id, token.key) == facts.separator:
            return domain
    return None


def _written(domain: Eip712Domain) -> str:
    """Returns a domain as the settings have it."""
    return f"{{ name = {_quoted(domain.name)}, version = {_quoted(domain.version)} }}"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _bytes32(answer: object) -> bytes | None:
    try:
        return None if isinstance(answer, RpcError) else bytes.fromhex(parse_bytes32(answer)[2:])
    except ValueError:
        return None


def _number(answer: object) -> int | None:
    try:
        return None if isinstance(answer, RpcError) else decode_uint256(answer)
    except ValueError:
        return None


def _text(answer: object, index: int) -> str | None:
    """Returns the string that the word at `index` of return data points to; None if none does."""
    if not isinstance(answer, str):
        return None
    try:
        data = bytes.fromhex(answer.removeprefix("0x"))
        start = _word(data, _WORD * index) + _WORD
        length = _word(data, start - _WORD)
        if not 0 < length <= _MAX_NAME_BYTES or start + length > len(data):
            return None
        return data[start : start + length].decode()
    except ValueError:
        return None


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + _WORD], "big")


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
    """Returns what is wrong with a node, what fixes it, and whether nothing may start so.

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
    client = RpcClient(chain, timeout_seconds=timeout_seconds)
    try:
        tags = ("latest", "safe", "finalized")
        calls: list[Any] = [("web3_clientVersion", []), *map(block_call, tags)]
        version, latest, *deep = await client.nodes[number].batch(calls)
        newest = parse_block(latest)
        if newest is None:
            raise ValueError("it has no block")
        facts = NodeFacts(
            version=version if isinstance(version, str) else "it does not tell its program",
            latest=newest,
            knows_safe=all(parse_tagged_block(each) is not None for each in deep),
        )
    except (ChainUnavailable, RpcError, ValueError) as error:
        remedy = f"set chains.{chain.name}.rpc_urls and chain_id right"
        return Finding(name, ok=False, detail=str(error), remedy=remedy, blocks=False)
    finally:
        await client.close()
    problem, remedy, blocks = judge_node(facts, now_seconds=SystemClock().now_ms() / 1000)
    good = f"{facts.version}, chain {chain.chain_id}, block {facts.latest.number}"
    return Finding(name, not problem, problem or good, remedy, blocks=blocks)

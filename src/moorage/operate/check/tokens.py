"""Asks the chains how each configured token can be paid, and judges whether the settings agree.

A token that has EIP-3009 can be paid without gas, if its EIP-712 domain is configured; with a wrong
one no signature is ever valid. Sources: EIP-712, EIP-3009, EIP-5267 (`eip712Domain()`).
"""

import asyncio
from collections.abc import Iterable

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.chains.eip3009 import Eip712Domain, authorization_state_calldata, domain_separator
from moorage.chains.encoding import parse_bytes32
from moorage.chains.erc20 import decode_uint256
from moorage.chains.rpc import Call, RpcClient, RpcError, revert_reason
from moorage.errors import ChainUnavailable
from moorage.operate.check.finding import Finding
from moorage.signing.keccak import keccak256

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


async def look_at_tokens(client: RpcClient) -> list[TokenFacts]:
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
        facts = await look_at_tokens(client)
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
    told = (
        (_text(domain, 1), _text(domain, 2)),  # its first word says which fields there are
        (_text(name, 0), _text(version, 0)),
    )
    return TokenFacts(
        authorizes=_number(state) in (0, 1),
        separator=_bytes32(separator),
        domains=tuple(
            Eip712Domain(name=each[0], version=each[1])
            for each in told
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

"""Finds whether an authorization (EIP-3009) was used, and by which transaction."""

from collections.abc import Sequence
from typing import Any

import msgspec

from moorage.chains.eip3009 import (
    TransferAuthorization,
    authorization_state_calldata,
    authorization_used_topics,
)
from moorage.chains.receipt import FoundLog, decode_uint256, parse_found_logs, parse_quantity
from moorage.chains.rpc import AnswerTooLarge, Call, Pace, RpcClient, RpcError
from moorage.signing import keccak256

_CANCELED_TOPIC = "0x" + keccak256(b"AuthorizationCanceled(address,bytes32)").hex()
_BLOCKS_AT_ONCE = 5_000
_ANSWER_BYTES = 512 * 1024  # a nonce is used once: there is one log at most


class AuthorizationUse(msgspec.Struct, frozen=True):
    """The transaction that used an authorization."""

    tx_hash: str
    block_number: int
    canceled: bool  # by its payer; then no money moved


def state_call(authorization: TransferAuthorization, block: str) -> Call:
    """Returns the call that asks whether it is used or cancelled, at the block of that tag."""
    data = authorization_state_calldata(authorization.payer, authorization.nonce)
    return "eth_call", [{"to": authorization.token_address, "data": data}, block]


def is_used(client: RpcClient, answer: object) -> bool:
    """Whether an answer to `state_call` says that it is used. Raises ChainUnavailable otherwise."""
    if isinstance(answer, RpcError):
        raise answer
    with client.reading():
        return decode_uint256(answer) != 0


async def find_use(
    client: RpcClient, authorization: TransferAuthorization, *, from_block: int
) -> AuthorizationUse | None:
    """Returns what used it in block `from_block` or later; None if nothing is found.

    Searches backwards from the newest block. Raises ChainUnavailable.
    """
    wanted = _wanted(authorization)
    pace = Pace(first=_BLOCKS_AT_ONCE, max_=_BLOCKS_AT_ONCE)
    last = await _newest(client)
    while last >= from_block:
        asked = min(pace.size, last - from_block + 1)
        logs = await _logs(client, wanted, first=last - asked + 1, last=last)
        if logs is None:
            pace.refused(asked)
        elif logs:
            return _use(client, logs[0], authorization)
        else:
            last -= asked
    return None


async def find_use_onwards(
    client: RpcClient, authorization: TransferAuthorization, *, from_block: int, limit: int
) -> tuple[AuthorizationUse | None, int]:
    """Returns what used it in block `from_block` or later, and the last block that was searched.

    Searches at most `limit` blocks, forwards. Raises ChainUnavailable.
    """
    wanted = _wanted(authorization)
    pace = Pace(first=_BLOCKS_AT_ONCE, max_=_BLOCKS_AT_ONCE)
    end = min(await _newest(client), from_block + limit - 1)
    first = from_block
    while first <= end:
        asked = min(pace.size, end - first + 1)
        logs = await _logs(client, wanted, first=first, last=first + asked - 1)
        if logs is None:
            pace.refused(asked)
        elif logs:
            return _use(client, logs[0], authorization), first + asked - 1
        else:
            first += asked
    return None, first - 1


def _wanted(authorization: TransferAuthorization) -> dict[str, Any]:
    used, *which = authorization_used_topics(authorization.payer, authorization.nonce)
    return {
        "address": authorization.token_address,
        "topics": [[used, _CANCELED_TOPIC], *which],
    }


async def _newest(client: RpcClient) -> int:
    with client.reading():
        return parse_quantity(await client.call("eth_blockNumber"))


async def _logs(
    client: RpcClient, wanted: dict[str, Any], *, first: int, last: int
) -> Sequence[FoundLog] | None:
    """Returns the logs of these blocks; None if the node refuses so many blocks at once."""
    span = {"fromBlock": hex(first), "toBlock": hex(last)}
    try:
        (answer,) = await client.batch(
            [("eth_getLogs", [wanted | span])], max_response_bytes=_ANSWER_BYTES
        )
        if isinstance(answer, RpcError):
            raise answer
        return parse_found_logs(answer)
    except (AnswerTooLarge, RpcError):
        if first == last:
            raise
        return None
    except ValueError as problem:
        raise client.contradiction(problem) from problem


def _use(
    client: RpcClient, found: FoundLog, authorization: TransferAuthorization
) -> AuthorizationUse:
    kind, *topics = found.log.topics
    if topics != authorization_used_topics(authorization.payer, authorization.nonce)[1:]:
        raise client.contradiction("it found another log than was asked for")
    return AuthorizationUse(found.tx_hash, found.block_number, canceled=kind == _CANCELED_TOPIC)

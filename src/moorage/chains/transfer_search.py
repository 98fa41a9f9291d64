"""Searches a chain for Transfer logs, in as many blocks at once as its node answers for."""

from collections.abc import Collection

from moorage.chains.receipt import (
    FoundLog,
    TransferLog,
    parse_found_logs,
    parse_quantity,
    parse_transfer_log,
    transfer_topics,
)
from moorage.chains.rpc import AnswerTooLarge, Pace, RpcClient, RpcError
from moorage.errors import ChainUnavailable

_FIRST_RANGE_BLOCKS = 2_000
_MAX_RANGE_BLOCKS = 50_000


async def find_transfers(
    client: RpcClient,
    *,
    senders: Collection[str] | None = None,
    recipients: Collection[str] | None = None,
    first: int,
    last: int,
) -> list[tuple[FoundLog, TransferLog]]:
    """Returns every transfer of the chain's tokens in blocks `first` to `last` inclusive.

    None stands for anybody. Raises ChainUnavailable, also from a node that has not reached `last`;
    ValueError for an answer that is malformed, or was not asked for.
    """
    pace = Pace(first=_FIRST_RANGE_BLOCKS, max_=_MAX_RANGE_BLOCKS)
    transfers: list[tuple[FoundLog, TransferLog]] = []
    while first <= last:
        end = min(last, first + pace.size - 1)
        asked = end - first + 1
        try:
            logs = await _logs(client, senders, recipients, first=first, last=end)
        except (RpcError, AnswerTooLarge):
            if asked == 1:
                raise
            pace.refused(asked)
            continue
        pace.answered(asked)
        for found in logs:
            log = parse_transfer_log(found.log)
            if log is None or not (
                _is_among(log.sender, senders) and _is_among(log.recipient, recipients)
            ):
                raise ValueError("a search found what was not searched for")
            transfers.append((found, log))
        first = end + 1
    return transfers


def require_head(client: RpcClient, head: object, wanted: int) -> None:
    """Raises ChainUnavailable if a node's newest block, as it answered, is below `wanted`."""
    if isinstance(head, RpcError):
        raise head
    if parse_quantity(head) < wanted:
        raise ChainUnavailable(f"The node of {client.chain.name} lags behind block {wanted}.")


async def _logs(
    client: RpcClient,
    senders: Collection[str] | None,
    recipients: Collection[str] | None,
    *,
    first: int,
    last: int,
) -> tuple[FoundLog, ...]:
    wanted = {
        "address": [token.key for token in client.chain.tokens],
        "topics": transfer_topics(recipients, senders=senders),
        "fromBlock": hex(first),
        "toBlock": hex(last),
    }
    head, answer = await client.batch([("eth_blockNumber", []), ("eth_getLogs", [wanted])])
    require_head(client, head, last)
    if isinstance(answer, RpcError):
        raise answer
    return parse_found_logs(answer)


def _is_among(address: str, wanted: Collection[str] | None) -> bool:
    return wanted is None or address in wanted

"""When payments were made: the time of their block, as the chains say."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from moorage.chains.heads import block_call, parse_block
from moorage.chains.rpc import RpcClient
from moorage.errors import ChainUnavailable
from moorage.records.payments import Payment

_BLOCKS_AT_ONCE = 50

ValueDates = Mapping[tuple[int, str], int]
"""Unix milliseconds by chain id and block hash; of blocks alone that the chain still has."""


async def value_dates(clients: Iterable[RpcClient], payments: Iterable[Payment]) -> ValueDates:
    """Asks each payment's chain for the time of its block.

    Of a chain that can't be read, or is not configured any more, the times are missing.
    """
    numbers: defaultdict[int, set[int]] = defaultdict(set)
    for payment in payments:
        numbers[payment.chain_id].add(payment.block_number)
    found: dict[tuple[int, str], int] = {}
    for client in clients:
        chain_id = client.chain.chain_id
        try:
            for number in _groups(sorted(numbers[chain_id])):
                answers = await client.batch([block_call(each) for each in number])
                blocks = filter(None, map(parse_block, answers))
                found |= {(chain_id, block.hash): block.time * 1000 for block in blocks}
        except (ChainUnavailable, ValueError):
            continue
    return found


def _groups(numbers: list[int]) -> Iterable[list[int]]:
    return (numbers[at : at + _BLOCKS_AT_ONCE] for at in range(0, len(numbers), _BLOCKS_AT_ONCE))

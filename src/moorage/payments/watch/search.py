"""Searches the blocks of a chain for transfers to us."""

from collections.abc import Collection, Iterable, Sequence

from moorage.chains.chain import Chain
from moorage.chains.erc20 import parse_transfer_log, transfer_topics
from moorage.chains.heads import block_call, parse_block
from moorage.chains.pace import Pace
from moorage.chains.receipt import FoundLog, Log, parse_found_logs
from moorage.chains.rpc import QUICK_ANSWER_BYTES, AnswerTooLarge, RpcClient, RpcError
from moorage.records.payments import Cursor, Payment, PaymentStatus, Place

_FIRST_BLOCKS = 2_000
_MAX_BLOCKS = 10_000


class Reorganised(Exception):
    """The last block that was searched is no longer part of the chain."""


class TransferSearch:
    """Finds transfers of a chain's tokens to `recipients`, in as many blocks as a node allows."""

    def __init__(self, client: RpcClient, recipients: Collection[str]) -> None:
        self._client = client
        self._recipients = recipients
        self._tokens = [token.key for token in client.chain.tokens]
        self._filter = {"address": self._tokens, "topics": transfer_topics(recipients)}
        self._blocks = Pace(first=_FIRST_BLOCKS, max_=_MAX_BLOCKS)

    async def next(self, cursor: Cursor, *, last: int) -> tuple[Sequence[FoundLog], Cursor]:
        """Returns the logs of the next blocks up to `last`, and a cursor at the last of them.

        Searches as many blocks as the node allows in one answer. The same batch asks for the block
        at `cursor` and the last one, so that a node that is behind is noticed. Raises Reorganised,
        ChainUnavailable.
        """
        begin = cursor.block_number + 1
        while True:
            end = min(last, cursor.block_number + self._blocks.size)
            asked = end - cursor.block_number
            span = {"fromBlock": hex(begin), "toBlock": hex(end)}
            try:
                logs, before, after = await self._client.batch(
                    [
                        ("eth_getLogs", [self._filter | span]),
                        block_call(cursor.block_number),
                        block_call(end),
                    ],
                    max_response_bytes=QUICK_ANSWER_BYTES if asked > 1 else None,
                )
            except AnswerTooLarge:
                if asked == 1:
                    raise
                self._blocks.refused(asked)
                continue
            if not isinstance(logs, RpcError):
                break
            if asked == 1:
                raise logs
            self._blocks.refused(asked)
        self._blocks.answered(asked)
        try:
            return self._found(logs, before, after, cursor=cursor, end=end)
        except ValueError as problem:
            raise self._client.contradiction(problem) from problem

    def _found(
        self, logs: object, before: object, after: object, *, cursor: Cursor, end: int
    ) -> tuple[Sequence[FoundLog], Cursor]:
        """The checked logs and the cursor. Raises Reorganised; ValueError for a bad answer."""
        first, last = parse_block(before), parse_block(after)
        if first is None or last is None:
            raise ValueError(f"it has no block {end}, or none {cursor.block_number}")
        if (first.number, last.number) != (cursor.block_number, end):
            raise ValueError("it shows other blocks than were asked for")
        if first.hash != cursor.block_hash:
            raise Reorganised
        found = parse_found_logs(logs)
        if not all(self._was_asked_for(one.log) for one in found):
            raise ValueError("it found other logs than were asked for")
        if any(not cursor.block_number < one.block_number <= end for one in found):
            raise ValueError("it found logs in other blocks")
        return found, Cursor(cursor.chain_id, cursor.search, last.number, last.hash)

    def _was_asked_for(self, found: Log) -> bool:
        transfer = parse_transfer_log(found)
        return (
            transfer is not None
            and transfer.recipient in self._recipients
            and transfer.token_address in self._tokens
        )


def by_transaction(logs: Iterable[FoundLog]) -> dict[str, list[FoundLog]]:
    """Returns the logs of each transaction, by its hash."""
    told: dict[str, list[FoundLog]] = {}
    for found in logs:
        told.setdefault(found.tx_hash, []).append(found)
    return told


def place_of(found: FoundLog, chain: Chain) -> Place:
    """Returns where a log's transaction lies."""
    return Place(chain.chain_id, found.tx_hash, found.block_number, found.block_hash)


def are_booked(logs: Iterable[FoundLog], booked: Iterable[Payment]) -> bool:
    """Whether all these logs of a transaction are in the books, from the same block."""
    standing = {
        (payment.log_index, payment.block_hash)
        for payment in booked
        if payment.status is not PaymentStatus.REVERSED
    }
    return all((found.log.log_index, found.block_hash) in standing for found in logs)

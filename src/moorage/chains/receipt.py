"""Parses receipts and logs in a node's answers; refuses those that contradict themselves."""

from functools import lru_cache
from itertools import pairwise

import msgspec

from moorage import address
from moorage.chains import encoding
from moorage.chains.encoding import parse_quantity

# The logs of a transaction repeat its hash, its block's, the token and the recipient.
parse_bytes32 = lru_cache(maxsize=1024)(encoding.parse_bytes32)
parse_address = lru_cache(maxsize=1024)(address.parse_address)


class Log(msgspec.Struct, frozen=True):
    """An event of a mined transaction. All hex is lower case."""

    log_index: int  # within the block
    address: str  # the contract that emitted it
    topics: tuple[str, ...]
    data: str


class Receipt(msgspec.Struct, frozen=True):
    """The result of a mined transaction."""

    tx_hash: str
    block_hash: str
    block_number: int
    succeeded: bool
    logs: tuple[Log, ...]  # by log_index, ascending


class FoundLog(msgspec.Struct, frozen=True):
    """A log that a search found, and the transaction and block that contain it."""

    tx_hash: str
    block_hash: str
    block_number: int
    log: Log


class _LogAnswer(msgspec.Struct, rename="camel"):
    address: str
    topics: list[str]
    data: str
    transaction_hash: str
    block_hash: str
    block_number: str
    log_index: str
    removed: bool = False


class _ReceiptAnswer(msgspec.Struct, rename="camel"):
    transaction_hash: str
    block_hash: str
    block_number: str
    status: str
    logs: list[_LogAnswer]


def parse_receipt(answer: object, *, tx_hash: str) -> Receipt:
    """Parses the receipt of `tx_hash`, which is in the form of `erc20.normalise_tx_hash`.

    Raises ValueError if the answer is malformed or contradicts itself: another transaction's
    receipt, logs of another transaction or block, logs out of order, removed logs, a status that
    is neither success nor failure.
    """
    raw = msgspec.convert(answer, _ReceiptAnswer)  # its ValidationError is a ValueError
    if parse_bytes32(raw.transaction_hash) != tx_hash:
        raise ValueError("the receipt is another transaction's")
    status = parse_quantity(raw.status)
    if status not in (0, 1):
        raise ValueError(f"the receipt's status is {status}")
    block_hash = parse_bytes32(raw.block_hash)
    block_number = parse_quantity(raw.block_number)
    logs = tuple(_parse_log(log, tx_hash, block_hash, block_number) for log in raw.logs)
    if any(log.log_index >= after.log_index for log, after in pairwise(logs)):
        raise ValueError("the receipt's logs are out of order")
    if logs and status == 0:
        raise ValueError("a reverted transaction has logs")
    return Receipt(tx_hash, block_hash, block_number, succeeded=status == 1, logs=logs)


def parse_found_logs(answer: object) -> tuple[FoundLog, ...]:
    """Parses the answer to `eth_getLogs`, without logs of blocks that were removed.

    Raises ValueError if the answer is malformed.
    """
    return tuple(
        FoundLog(
            tx_hash=parse_bytes32(raw.transaction_hash),
            block_hash=parse_bytes32(raw.block_hash),
            block_number=parse_quantity(raw.block_number),
            log=_parse_event(raw),
        )
        for raw in msgspec.convert(answer, list[_LogAnswer])
        if not raw.removed
    )


def _parse_log(raw: _LogAnswer, tx_hash: str, block_hash: str, block_number: int) -> Log:
    if raw.removed:
        raise ValueError("the receipt holds a removed log")
    if parse_bytes32(raw.transaction_hash) != tx_hash:
        raise ValueError("the receipt holds another transaction's log")
    if parse_bytes32(raw.block_hash) != block_hash or parse_quantity(raw.block_number) != (
        block_number
    ):
        raise ValueError("the receipt holds another block's log")
    return _parse_event(raw)


def _parse_event(raw: _LogAnswer) -> Log:
    return Log(
        log_index=parse_quantity(raw.log_index),
        address=parse_address(raw.address),
        topics=tuple(parse_bytes32(topic) for topic in raw.topics),
        data=raw.data.lower(),
    )

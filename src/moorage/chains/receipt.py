"""Parses what nodes answer: hex quantities, receipts, and the Transfer logs of ERC-20 in them.

Refuses what contradicts itself. Also writes the calldata of ERC-20 (EIP-20).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

import msgspec

from moorage.address import parse_address
from moorage.signing import keccak256

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_BYTES32 = re.compile(r"0x[0-9a-fA-F]{64}")


def parse_quantity(text: object) -> int:
    """Parses a quantity such as `"0xa4b1"`, from 0 to 2**256 - 1. Raises ValueError otherwise."""
    if not isinstance(text, str) or _QUANTITY.fullmatch(text) is None:
        raise ValueError("a quantity is 0x and 1 to 64 hex digits")
    return int(text, 16)


def parse_bytes32(text: object) -> str:
    """Returns 32 bytes as lower-case hex with `0x`. Raises ValueError for anything else."""
    if not isinstance(text, str) or _BYTES32.fullmatch(text) is None:
        raise ValueError("32 bytes are 0x and 64 hex digits")
    return text.lower()


# The logs of a transaction repeat its hash, its block's, the token and the recipient.
_bytes32 = lru_cache(maxsize=1024)(parse_bytes32)
_address = lru_cache(maxsize=1024)(parse_address)


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
    if _bytes32(raw.transaction_hash) != tx_hash:
        raise ValueError("the receipt is another transaction's")
    status = parse_quantity(raw.status)
    if status not in (0, 1):
        raise ValueError(f"the receipt's status is {status}")
    block_hash = _bytes32(raw.block_hash)
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
            tx_hash=_bytes32(raw.transaction_hash),
            block_hash=_bytes32(raw.block_hash),
            block_number=parse_quantity(raw.block_number),
            log=_parse_event(raw),
        )
        for raw in msgspec.convert(answer, list[_LogAnswer])
        if not raw.removed
    )


def _parse_log(raw: _LogAnswer, tx_hash: str, block_hash: str, block_number: int) -> Log:
    if raw.removed:
        raise ValueError("the receipt holds a removed log")
    if _bytes32(raw.transaction_hash) != tx_hash:
        raise ValueError("the receipt holds another transaction's log")
    if _bytes32(raw.block_hash) != block_hash or parse_quantity(raw.block_number) != (block_number):
        raise ValueError("the receipt holds another block's log")
    return _parse_event(raw)


def _parse_event(raw: _LogAnswer) -> Log:
    return Log(
        log_index=parse_quantity(raw.log_index),
        address=_address(raw.address),
        topics=tuple(_bytes32(topic) for topic in raw.topics),
        data=raw.data.lower(),
    )


TRANSFER_TOPIC = "0x" + keccak256(b"Transfer(address,address,uint256)").hex()

_BALANCE_OF = keccak256(b"balanceOf(address)")[:4].hex()
_TRANSFER = keccak256(b"transfer(address,uint256)")[:4].hex()
_TX_HASH = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})")
_ADDRESS_PADDING = "0x" + "0" * 24
_TRANSFER_TOPICS = 3  # the event, from, to


class TransferLog(msgspec.Struct, frozen=True):
    """One Transfer event. Addresses are in the form of `parse_address`."""

    log_index: int
    token_address: str
    sender: str
    recipient: str
    value: int  # atomic units, 0 to 2**256 - 1


def normalise_tx_hash(text: str) -> str:
    """Returns `text` in the form that is compared and stored: `0x` and 64 lower-case hex digits.

    Any letter case is accepted, and a missing `0x`. Raises ValueError for anything else.
    """
    match = _TX_HASH.fullmatch(text)
    if match is None:
        raise ValueError("a transaction hash is 0x and 64 hex digits")
    return "0x" + match[1].lower()


def parse_transfer_log(log: Log) -> TransferLog | None:
    """Parses a Transfer event; returns None for any other event.

    Raises ValueError for a Transfer that doesn't have the form of ERC-20's: an NFT's has four
    topics, and an address fills only the lower 20 bytes of its topic.
    """
    if not log.topics or log.topics[0] != TRANSFER_TOPIC:
        return None
    if len(log.topics) != _TRANSFER_TOPICS:
        raise ValueError(f"a Transfer has {len(log.topics)} topics")
    return TransferLog(
        log_index=log.log_index,
        token_address=log.address,
        sender=_topic_address(log.topics[1]),
        recipient=_topic_address(log.topics[2]),
        value=decode_uint256(log.data),
    )


def parse_transfer_logs(receipt: Receipt, *, token_address: str) -> tuple[TransferLog, ...]:
    """Returns every Transfer of the token at `token_address`, in log order.

    Raises ValueError if a Transfer of that contract is malformed; other contracts' logs are
    ignored.
    """
    wanted = parse_address(token_address)
    transfers = (parse_transfer_log(log) for log in receipt.logs if log.address == wanted)
    return tuple(transfer for transfer in transfers if transfer is not None)


def transfer_topics(
    recipients: Iterable[str] | None, *, senders: Iterable[str] | None = None
) -> list[str | list[str] | None]:
    """Returns the topics, for `eth_getLogs`, of every Transfer from `senders` to `recipients`.

    None stands for anybody.
    """
    return [TRANSFER_TOPIC, _topics_of(senders), _topics_of(recipients)]


def _topics_of(addresses: Iterable[str] | None) -> list[str] | None:
    if addresses is None:
        return None
    return ["0x" + _address_word(each) for each in sorted(addresses)]


def balance_of_calldata(account: str) -> str:
    """Returns the calldata of `balanceOf(account)`, hex. Raises ValueError for a bad address."""
    return f"0x{_BALANCE_OF}{_address_word(account)}"


def transfer_calldata(recipient: str, value: int) -> str:
    """Returns the calldata of `transfer(recipient, value)`, hex. Raises ValueError out of range."""
    if not 0 <= value < 2**256:
        raise ValueError("a transfer's value is a uint256")
    return f"0x{_TRANSFER}{_address_word(recipient)}{value:064x}"


def decode_uint256(data: object) -> int:
    """Returns the number in exactly 32 bytes of return or log data. Raises ValueError otherwise."""
    return parse_quantity(parse_bytes32(data))


def _topic_address(topic: str) -> str:
    if not topic.startswith(_ADDRESS_PADDING):
        raise ValueError("an address fills more than 20 bytes")
    return "0x" + topic[len(_ADDRESS_PADDING) :]


def _address_word(address: str) -> str:
    return parse_address(address)[2:].rjust(64, "0")

"""ERC-20 (EIP-20): Transfer logs, calldata, and the spelling of transaction hashes."""

import re
from collections.abc import Iterable

import msgspec

from moorage.address import parse_address
from moorage.chains.encoding import parse_bytes32, parse_quantity
from moorage.chains.receipt import Log, Receipt
from moorage.signing import keccak256

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

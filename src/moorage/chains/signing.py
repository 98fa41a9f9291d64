"""Signs transactions with a private key: EIP-1559, and legacy ones with EIP-155."""

import re
from collections.abc import Sequence
from typing import Any

import coincurve
import msgspec

from moorage.address import checksum_address, key_address
from moorage.chains.receipt import parse_quantity
from moorage.signing import keccak256


class Fees(msgspec.Struct, frozen=True):
    """The two fees of a transaction, in wei for one gas."""

    max_fee_per_gas: int  # the most that the sender pays, base fee and tip together
    max_priority_fee_per_gas: int  # the tip to the block producer


class GasPrice(msgspec.Struct, frozen=True):
    """The chain's price of one gas now, in wei."""

    base_fee: int
    tip: int

    def fees(self, *, max_: int) -> Fees | None:
        """Returns fees for up to twice the base fee, at most `max_` wei; None if it costs more now.

        Twice the base fee is enough for six full blocks: each raises it by an eighth at most.
        """
        if self.base_fee + self.tip > max_:
            return None
        return Fees(min(2 * self.base_fee + self.tip, max_), self.tip)

    def raised(self, stuck: Fees, *, max_: int) -> Fees | None:
        """Returns fees that replace a stuck transaction of the same nonce; None above `max_`.

        Nodes accept a replacement that raises both fees by a tenth; this raises them by an eighth.
        """
        wanted = max(2 * self.base_fee + self.tip, _raised(stuck.max_fee_per_gas))
        tip = max(self.tip, _raised(stuck.max_priority_fee_per_gas))
        min_fee = max(self.base_fee + tip, _raised(stuck.max_fee_per_gas))
        return Fees(min(wanted, max_), tip) if min_fee <= max_ else None


def parse_gas_price(block: Any, tip: object) -> GasPrice:
    """Parses the answers to a block call and to eth_maxPriorityFeePerGas.

    Raises ValueError for anything else, such as a block of a chain without EIP-1559.
    """
    base_fee = block.get("baseFeePerGas") if isinstance(block, dict) else None
    return GasPrice(base_fee=parse_quantity(base_fee), tip=parse_quantity(tip))


def _raised(fee: int) -> int:
    return fee + fee // 8 + 1


_FEE_MARKET_TYPE = b"\x02"  # EIP-2718's type byte of EIP-1559
_KEY = re.compile(r"(?:0[xX])?[0-9a-fA-F]{64}")
_SHORT_BYTES = 55  # longer payloads have a separate length (RLP)

_Rlp = bytes | int | Sequence["_Rlp"]


class ChainTransaction(msgspec.Struct, frozen=True):
    """A call of a contract that moves no ether. Fees are in wei for one gas.

    Without a priority fee it is a legacy transaction with `max_fee_per_gas` as its gas price.
    """

    chain_id: int
    nonce: int
    recipient: str  # the contract, lower-case hex
    data: str  # calldata, hex with 0x
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int | None


class SignedTransaction(msgspec.Struct, frozen=True):
    """A transaction ready to send, and its hash; both hex with `0x`."""

    raw: str
    tx_hash: str


class SigningKey:
    """A private key that never leaves this object. Its `repr` shows only the address."""

    def __init__(self, text: str) -> None:
        """Raises ValueError unless `text` is 64 hex digits, with or without 0x, and a valid key."""
        if _KEY.fullmatch(text) is None:
            raise ValueError("a private key is 64 hex digits")
        try:
            self._key = coincurve.PrivateKey(bytes.fromhex(text[-64:]))
        except ValueError:
            raise ValueError("not a key of secp256k1") from None  # the original error quotes it
        self.address = key_address(self._key.public_key.format(compressed=False))

    def __repr__(self) -> str:
        return f"SigningKey({checksum_address(self.address)})"

    def sign(self, transaction: ChainTransaction) -> SignedTransaction:
        """Signs a transaction; the same one always gives the same bytes (RFC 6979)."""
        call: list[_Rlp] = [
            transaction.gas_limit,
            bytes.fromhex(transaction.recipient[2:]),
            0,  # value
            bytes.fromhex(transaction.data[2:]),
        ]
        chain_id, nonce = transaction.chain_id, transaction.nonce
        if transaction.max_priority_fee_per_gas is None:
            legacy: list[_Rlp] = [nonce, transaction.max_fee_per_gas, *call]
            parity, *point = self._signed(rlp([*legacy, chain_id, 0, 0]))
            raw = rlp([*legacy, 2 * chain_id + 35 + parity, *point])
        else:
            tip, fee = transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas
            fields: list[_Rlp] = [chain_id, nonce, tip, fee, *call, []]  # no access list
            raw = _FEE_MARKET_TYPE + rlp([*fields, *self._signed(_FEE_MARKET_TYPE + rlp(fields))])
        return SignedTransaction(raw="0x" + raw.hex(), tx_hash="0x" + keccak256(raw).hex())

    def sign_digest(self, digest: bytes) -> bytes:
        """Signs these 32 bytes; returns r, s and the recovery id, 65 bytes. s is low."""
        return self._key.sign_recoverable(digest, hasher=None)

    def _signed(self, payload: bytes) -> tuple[int, int, int]:
        """Signs `payload`; returns the recovery id, r and s, as transactions contain them."""
        signature = self.sign_digest(keccak256(payload))
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        return signature[64], r, s


def rlp(item: _Rlp) -> bytes:
    """Encodes as Recursive Length Prefix; integers are big-endian without leading zeros.

    Source: the Yellow Paper, appendix B.
    """
    if isinstance(item, int):
        return rlp(item.to_bytes((item.bit_length() + 7) // 8, "big"))
    if isinstance(item, bytes):
        alone = len(item) == 1 and item[0] < 0x80
        return item if alone else _rlp_length(len(item), 0x80) + item
    payload = b"".join(map(rlp, item))
    return _rlp_length(len(payload), 0xC0) + payload


def _rlp_length(length: int, offset: int) -> bytes:
    if length <= _SHORT_BYTES:
        return bytes([offset + length])
    digits = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([offset + _SHORT_BYTES + len(digits)]) + digits

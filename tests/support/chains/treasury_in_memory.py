"""A chain that also takes what a treasury sends back: authorizations (EIP-3009) of one token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from moorage.chains.chain import Chain, Token
from support.chains.chain_in_memory import TAGS, ChainInMemory, Sent
from support.gateway.clock import MovableClock

_TRANSFER, _USED = (
    "0x" + keccak(text=text).hex()
    for text in ("Transfer(address,address,uint256)", "AuthorizationUsed(address,bytes32)")
)
_STATE = "0x" + keccak(text="authorizationState(address,bytes32)")[:4].hex()


@dataclass(frozen=True)
class SentBack:
    """A transaction of the treasury."""

    payer: str
    amount: int
    nonce: int  # of the treasury's account
    name: str  # the authorization's nonce
    ends_at: int  # Unix seconds


class TreasuryChain(ChainInMemory):
    """`pool` has what nodes know and no block has; `back` each block's transactions of `treasury`.

    One whose authorization was used before, or is over, does nothing.
    """

    def __init__(
        self, chain: Chain, pay_to: str, *, treasury: str, token: Token, clock: MovableClock
    ) -> None:
        self.treasury, self.token, self.clock = treasury, token, clock
        self.pool: dict[str, SentBack] = {}
        self.back: dict[str, dict[str, SentBack]] = {}  # by block and transaction
        self.times: dict[str, int] = {}
        super().__init__(chain, pay_to)

    def mine(self, holds: dict[str, tuple[Sent, ...]] | None = None) -> None:
        """Add a block, with the next transactions of the treasury."""
        super().mine(holds)
        block = self.blocks[-1]
        self.times[block.hash] = self.clock.now_ms() // 1000
        self.back[block.hash] = {}
        for tx_hash, sent in sorted(self.pool.items(), key=lambda item: item[1].nonce):
            if sent.nonce == self._count(len(self.blocks) - 1):
                self.back[block.hash][tx_hash] = self.pool.pop(tx_hash)
                block.holds[tx_hash] = ()

    def drop(self, depth: int) -> dict[str, tuple[Sent, ...]]:
        """As of any chain; what the treasury sent waits to be mined again."""
        for block in self.blocks[-depth:]:
            self.pool |= self.back[block.hash]
        removed = super().drop(depth)
        return {tx_hash: sent for tx_hash, sent in removed.items() if sent}

    def sent_back(self, last: int | None = None) -> dict[str, SentBack]:
        """What the treasury has paid up to a block: each authorization counts once."""
        paid: dict[str, tuple[str, SentBack]] = {}
        for block in self.blocks[: None if last is None else last + 1]:
            for tx_hash, sent in self.back[block.hash].items():
                if self.times[block.hash] < sent.ends_at:
                    paid.setdefault(sent.name, (tx_hash, sent))
        return dict(paid.values())

    def _count(self, last: int) -> int:
        return sum(len(self.back[block.hash]) for block in self.blocks[: last + 1])

    def _at(self, tag: str) -> int:
        return len(self.blocks) - 1 - TAGS.get(tag, 0)

    def answer(self, method: str, params: Sequence[Any]) -> Any:
        match method:
            case "eth_sendRawTransaction":
                return self._take(params[0])
            case "eth_getTransactionCount":
                known = {each.nonce for each in self.pool.values()}
                count = self._count(self._at(params[1]))
                while params[1] == "pending" and count in known:
                    count += 1
                return hex(count if params[0] == self.treasury else 0)
            case "eth_estimateGas":
                return hex(60_000)
            case "eth_getBalance":
                return hex(10**20)
            case "eth_maxPriorityFeePerGas":
                return "0x1"
            case "eth_call" if params[0]["data"].startswith(_STATE):
                name = "0x" + params[0]["data"][-64:]
                used = {each.name for each in self.sent_back(self._at(params[1])).values()}
                return f"0x{name in used:064x}"
        return super().answer(method, params)

    def _take(self, raw: str) -> str:
        """Decodes transferWithAuthorization(from, to, value, validAfter, validBefore, nonce, …)."""
        content = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        words = [content["data"][at : at + 32] for at in range(4, len(content["data"]), 32)]
        sent = SentBack(
            payer="0x" + words[1][12:].hex(),
            amount=int.from_bytes(words[2], "big"),
            nonce=content["nonce"],
            name="0x" + words[5].hex(),
            ends_at=int.from_bytes(words[4], "big"),
        )
        tx_hash = "0x" + keccak(HexBytes(raw)).hex()
        if sent.nonce >= self._count(len(self.blocks) - 1):
            self.pool[tx_hash] = sent
        return tx_hash

    def block_at(self, asked: str) -> Any:
        block = super().block_at(asked)
        return block and {
            **block,
            "timestamp": hex(self.times[block["hash"]]),
            "baseFeePerGas": "0x1",
        }

    def logs(self, number: int, tx_hash: str | None) -> list[dict[str, Any]]:
        found = super().logs(number, tx_hash)
        for one, sent in self.back[self.blocks[number].hash].items():
            if tx_hash in (None, one) and one in self.sent_back():
                place = {
                    "address": self.token.key,
                    "transactionHash": one,
                    "blockHash": self.blocks[number].hash,
                    "blockNumber": hex(number),
                }
                payer, treasury = (f"0x{each[2:]:0>64}" for each in (sent.payer, self.treasury))
                used = {"topics": [_USED, treasury, sent.name], "data": "0x"}
                moved = {"topics": [_TRANSFER, treasury, payer], "data": f"0x{sent.amount:064x}"}
                found += [
                    {**place, **log, "logIndex": hex(900 + 2 * sent.nonce + index)}
                    for index, log in enumerate((used, moved))
                ]
        return found

"""A chain that a model may reorganise as it likes, answering what the gateway asks of a node."""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, cast

from moorage.chains.chain import Chain, Token
from moorage.chains.receipt import TRANSFER_TOPIC
from moorage.chains.rpc import Call, RpcClient
from moorage.errors import ChainUnavailable

BLOCK_SECONDS = 2
TAGS = {"latest": 0, "safe": 1, "finalized": 5}
"""How deep a block is that is called so."""

BALANCE_OF = "0x70a08231"


@dataclass(frozen=True)
class Sent:
    """A transfer to the gateway, as a transaction makes it."""

    payer: str
    token: Token
    amount: int


@dataclass
class Block:
    """The transactions of a block, by hash, in order."""

    hash: str
    holds: dict[str, tuple[Sent, ...]] = field(default_factory=dict)


class ChainInMemory:
    """Use `client` where the product wants an RpcClient."""

    def __init__(self, chain: Chain, pay_to: str) -> None:
        self.chain = chain
        self.pay_to = pay_to
        self._numbers = itertools.count(1)
        self.blocks: list[Block] = []
        self._finalized = 0
        for _ in range(8):
            self.mine()

    @property
    def client(self) -> RpcClient:
        return cast("RpcClient", self)

    def fresh_hash(self) -> str:
        return f"0x{next(self._numbers):064x}"

    def mine(self, holds: dict[str, tuple[Sent, ...]] | None = None) -> None:
        """Add a block."""
        self.blocks.append(Block(self.fresh_hash(), dict(holds or {})))
        self._finalized = max(self._finalized, len(self.blocks) - 1 - TAGS["finalized"])

    @property
    def unfinalized(self) -> int:
        """How many of the newest blocks may yet be replaced."""
        return len(self.blocks) - 1 - self._finalized

    def drop(self, depth: int) -> dict[str, tuple[Sent, ...]]:
        """Remove the newest blocks; what they held, oldest first."""
        gone = self.blocks[-depth:]
        del self.blocks[-depth:]
        return {tx_hash: sent for block in gone for tx_hash, sent in block.holds.items()}

    def transaction(self, tx_hash: str) -> tuple[Sent, ...] | None:
        """What a transaction of the chain brings; None when it is nowhere."""
        return next((one.holds[tx_hash] for one in self.blocks if tx_hash in one.holds), None)

    # What the product calls

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        (answer,) = await self.batch([(method, params)])
        return answer

    async def batch(self, calls: Sequence[Call], **_: object) -> list[Any]:
        return [self.answer(method, params) for method, params in calls]

    async def each(self, calls: Sequence[Call]) -> list[list[Any]]:
        return [await self.batch(calls)]

    async def every(self, ask: Callable[[RpcClient], Awaitable[Any]]) -> list[Any]:
        return [await ask(self.client)]

    @property
    def nodes(self) -> tuple[RpcClient, ...]:
        return (self.client,)

    quorum = 1

    def contradiction(self, problem: object) -> ChainUnavailable:
        return ChainUnavailable(str(problem))

    def reading(self) -> AbstractContextManager[None]:
        return RpcClient.reading(self.client)

    def answer(self, method: str, params: Sequence[Any]) -> Any:
        match method:
            case "eth_blockNumber":
                return hex(len(self.blocks) - 1)
            case "eth_getBlockByNumber":
                return self.block_at(params[0])
            case "eth_getTransactionReceipt":
                return self._receipt(params[0])
            case "eth_getTransactionByHash":
                receipt = self._receipt(params[0])
                return receipt and {"hash": params[0], "blockHash": receipt["blockHash"]}
            case "eth_getLogs":
                first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
                return [
                    log
                    for number in range(first, last + 1)
                    for log in self.logs(number, None)
                    if _is_asked_for(log, params[0].get("topics", []))
                ]
            case "eth_getTransactionCount":
                return "0x0"
            case "eth_getCode":
                return "0x"
            case "eth_call":
                return f"0x{self._balance(params[0], params[1]):064x}"
        raise AssertionError(method)

    def _balance(self, call: dict[str, str], at: str) -> int:
        """What `pay_to` has of a token; 0 for whatever else a contract is asked."""
        if not call["data"].startswith(BALANCE_OF):
            return 0
        last = len(self.blocks) - 1 - TAGS[at] if at in TAGS else int(at, 16)
        holds = [one for block in self.blocks[: last + 1] for one in block.holds.values()]
        arrived = [
            sent for transfers in holds for sent in transfers if sent.token.key == call["to"]
        ]
        return sum(sent.amount for sent in arrived)

    def block_at(self, asked: str) -> dict[str, str] | None:
        number = len(self.blocks) - 1 - TAGS[asked] if asked in TAGS else int(asked, 16)
        if not 0 <= number < len(self.blocks):
            return None
        return {
            "number": hex(number),
            "hash": self.blocks[number].hash,
            "timestamp": hex(number * BLOCK_SECONDS),
        }

    def _receipt(self, tx_hash: str) -> dict[str, Any] | None:
        for number, block in enumerate(self.blocks):
            if tx_hash in block.holds:
                return {
                    "transactionHash": tx_hash,
                    "blockHash": block.hash,
                    "blockNumber": hex(number),
                    "status": "0x1",
                    "logs": self.logs(number, tx_hash),
                }
        return None

    def logs(self, number: int, tx_hash: str | None) -> list[dict[str, Any]]:
        """Those of a block, or of one transaction in it; each log's index is its place there."""
        if not 0 <= number < len(self.blocks):
            return []
        block = self.blocks[number]
        every = [(one, sent) for one, transfers in block.holds.items() for sent in transfers]
        return [
            {
                "address": sent.token.key,
                "topics": [TRANSFER_TOPIC, _word(sent.payer), _word(self.pay_to)],
                "data": f"0x{sent.amount:064x}",
                "transactionHash": one,
                "blockHash": block.hash,
                "blockNumber": hex(number),
                "logIndex": hex(index),
            }
            for index, (one, sent) in enumerate(every)
            if tx_hash in (None, one)
        ]


def _word(address: str) -> str:
    return "0x" + address[2:].rjust(64, "0")


def _is_asked_for(log: dict[str, Any], topics: Sequence[Any]) -> bool:
    """Whether a log's topics are those of a filter (EIP-1474): null is any, a list is one of it."""
    return all(
        wanted is None or topic == wanted or (isinstance(wanted, list) and topic in wanted)
        for topic, wanted in zip(log["topics"], topics, strict=False)
    )

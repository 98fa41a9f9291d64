"""Asks a chain's nodes what paying needs: balances, fees, and the state of a transaction."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeVar

from moorage.chains.chain import Chain, Token
from moorage.chains.encoding import parse_quantity
from moorage.chains.erc20 import balance_of_calldata, decode_uint256
from moorage.chains.rpc import Call, OtherChain, RpcClient, RpcError
from moorage.errors import ChainUnavailable
from moorage.money import AtomicUnits
from moorage.sdk.errors import ClientMisconfigured, NodeRefused, NodeUnreachable

_TIMEOUT_SECONDS = 20.0

Value = TypeVar("Value")


class Holdings(NamedTuple):
    """A wallet's balance of a token, and of wei for gas."""

    tokens: AtomicUnits
    wei: int


class SendingTerms(NamedTuple):
    """What the next transaction of a wallet needs. Fees are in wei per gas."""

    nonce: int
    gas: int  # an estimate of what the call uses
    max_fee_per_gas: int
    max_priority_fee_per_gas: int | None  # None: the chain has only legacy transactions
    wei: int  # the wallet's balance for gas


class Node:
    """Asks the nodes of one chain. Use it as an async context.

    Every method raises NodeUnreachable without a credible answer, and NodeRefused when a node
    answers with an error. No message names a URL, because URLs hold API keys.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._client = RpcClient(chain, timeout_seconds=_TIMEOUT_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def check_chain(self) -> None:
        """Raises ClientMisconfigured when the RPC URLs belong to another chain."""
        try:
            await self._client.batch([])  # the client asks for the chain id by itself
        except OtherChain as error:
            raise ClientMisconfigured(
                f"the RPC URL for {self._chain.name} is no node of it ({error.reasons}). "
                "Nothing was paid."
            ) from error
        except ChainUnavailable as error:
            raise self._unreachable(error) from error

    async def holdings(self, wallet: str, token: Token) -> Holdings:
        """Returns what `wallet` holds of `token`, in atomic units, and of wei for gas."""
        balance_of = {"to": token.key, "data": balance_of_calldata(wallet)}
        tokens, wei = await self._ask(
            ("eth_call", [balance_of, "latest"]), ("eth_getBalance", [wallet, "latest"])
        )
        return Holdings(AtomicUnits(self._read(decode_uint256, tokens)), self._quantity(wei))

    async def sending_terms(self, wallet: str, call: dict[str, str]) -> SendingTerms:
        """Returns what sending `call` needs, with fees that suffice until the base fee doubles.

        That takes at least six full blocks: each raises it by an eighth at most (EIP-1559).
        """
        count, gas, block, tip, gas_price, wei = await self._ask(
            ("eth_getTransactionCount", [wallet, "pending"]),
            ("eth_estimateGas", [call]),
            ("eth_getBlockByNumber", ["latest", False]),
            ("eth_maxPriorityFeePerGas", []),
            ("eth_gasPrice", []),
            ("eth_getBalance", [wallet, "latest"]),
        )
        base_fee = block.get("baseFeePerGas") if isinstance(block, dict) else None
        if base_fee is None:
            max_fee, max_tip = self._quantity(gas_price), None
        else:  # not every node can suggest a tip; these chains mine without one
            max_tip = 0 if isinstance(tip, RpcError) else self._quantity(tip)
            max_fee = 2 * self._quantity(base_fee) + max_tip
        return SendingTerms(
            nonce=self._quantity(count),
            gas=self._quantity(gas),
            max_fee_per_gas=max_fee,
            max_priority_fee_per_gas=max_tip,
            wei=self._quantity(wei),
        )

    async def send_raw(self, raw_transaction: str) -> None:
        """Broadcasts a transaction. After NodeUnreachable it is unknown whether it was sent."""
        (answer,) = await self._ask(("eth_sendRawTransaction", [raw_transaction]))
        self._result(answer)

    async def is_replaced(self, wallet: str, *, nonce: int, tx_hash: str) -> bool:
        """Whether another transaction used up the nonce, in a final block.

        The same node answers both questions: one that lags would not have the receipt of a
        transaction that another has counted. False from a node without finality.
        """
        count, receipt = await self._ask(
            ("eth_getTransactionCount", [wallet, "finalized"]),
            ("eth_getTransactionReceipt", [tx_hash]),
        )
        if isinstance(count, RpcError):
            return False
        return self._quantity(count) > nonce and self._result(receipt) is None

    async def succeeded(self, tx_hash: str) -> bool | None:
        """Whether a mined transaction succeeded; None while it is not mined."""
        (answer,) = await self._ask(("eth_getTransactionReceipt", [tx_hash]))
        receipt = self._result(answer)
        return self._quantity(receipt.get("status")) == 1 if isinstance(receipt, dict) else None

    async def knows(self, tx_hash: str) -> bool:
        """Whether the node holds the transaction, mined or waiting."""
        (answer,) = await self._ask(("eth_getTransactionByHash", [tx_hash]))
        return isinstance(self._result(answer), dict)

    async def _ask(self, *calls: Call) -> list[Any]:
        try:
            return await self._client.batch(calls)
        except ChainUnavailable as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: ChainUnavailable) -> NodeUnreachable:
        return NodeUnreachable(f"the chain {self._chain.name} gives no answer: {error.message}")

    def _quantity(self, answer: object) -> int:
        return self._read(parse_quantity, answer)

    def _read(self, parse: Callable[[object], Value], answer: object) -> Value:
        try:
            return parse(self._result(answer))
        except ValueError as error:
            raise NodeUnreachable(f"a node of {self._chain.name} answers oddly: {error}") from error

    def _result(self, answer: Any) -> Any:
        if isinstance(answer, RpcError):
            raise NodeRefused(f"the node refused {answer.method}: {answer.detail}")
        return answer

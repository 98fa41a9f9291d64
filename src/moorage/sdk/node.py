"""A chain's node over JSON-RPC: what paying needs of it."""

import asyncio
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec

from moorage.chains.encoding import parse_quantity
from moorage.chains.erc20 import balance_of_calldata, decode_uint256
from moorage.sdk.errors import NodeRefused, NodeUnreachable

_TIMEOUT = aiohttp.ClientTimeout(total=20, sock_connect=10)


class Node:
    """Calls one RPC URL. Its messages name the host only, for RPC URLs carry API keys.

    Every method raises NodeUnreachable without a readable answer, NodeRefused on an error.
    """

    def __init__(self, rpc_url: str) -> None:
        self._url = rpc_url
        self._host = urlsplit(rpc_url).hostname or "the node"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, *params: Any) -> Any:
        """The `result` of one JSON-RPC call."""
        if self._session is None:
            raise RuntimeError("use the node as an async context")
        question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        try:
            async with self._session.post(self._url, json=question) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NodeUnreachable(
                f"the node at {self._host} gave no answer to {method} ({type(error).__name__})"
            ) from error
        return self._result(method, content)

    async def chain_id(self) -> int:
        """The chain the node is on."""
        return await self._quantity("eth_chainId")

    async def native_balance(self, address: str) -> int:
        """What `address` holds for gas, in wei."""
        return await self._quantity("eth_getBalance", address, "latest")

    async def token_balance(self, token_address: str, owner: str) -> int:
        """What `owner` holds of a token, in atomic units."""
        call = {"to": token_address, "data": balance_of_calldata(owner)}
        answer = await self.call("eth_call", call, "latest")
        try:
            return decode_uint256(answer)
        except ValueError as error:
            raise NodeRefused(f"no token answers at {token_address} on this chain") from error

    async def transaction_count(self, address: str, *, tag: str) -> int:
        """The nonce `address` signs next, as of block `tag`."""
        return await self._quantity("eth_getTransactionCount", address, tag)

    async def estimate_gas(self, call: dict[str, str]) -> int:
        """The gas `call` would use now."""
        return await self._quantity("eth_estimateGas", call)

    async def fees(self) -> dict[str, int]:
        """Fee fields of a transaction that mines soon: EIP-1559 where the chain has a base fee.

        Twice the base fee plus the tip outlasts six full blocks (EIP-1559 moves 12.5 % a block).
        """
        block = await self.call("eth_getBlockByNumber", "latest", False)
        base_fee = block.get("baseFeePerGas") if isinstance(block, dict) else None
        if base_fee is None:
            return {"gasPrice": await self._quantity("eth_gasPrice")}
        tip = await self._tip()
        base = self._number("eth_getBlockByNumber", base_fee)
        return {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip}

    async def send_raw(self, raw_transaction: str) -> None:
        """Broadcasts. NodeUnreachable leaves open whether it was."""
        await self.call("eth_sendRawTransaction", raw_transaction)

    async def succeeded(self, tx_hash: str) -> bool | None:
        """Whether a mined transaction succeeded; None while it is not mined."""
        receipt = await self.call("eth_getTransactionReceipt", tx_hash)
        if not isinstance(receipt, dict):
            return None
        return self._number("eth_getTransactionReceipt", receipt.get("status")) == 1

    async def knows(self, tx_hash: str) -> bool:
        """Whether the node holds the transaction, mined or waiting."""
        return isinstance(await self.call("eth_getTransactionByHash", tx_hash), dict)

    async def payer_facts(self, wallet: str, token_address: str) -> tuple[int, int, int]:
        """Chain id, token balance in atomic units and gas balance in wei, asked at once."""
        return await asyncio.gather(
            self.chain_id(),
            self.token_balance(token_address, wallet),
            self.native_balance(wallet),
        )

    async def _tip(self) -> int:
        try:
            return await self._quantity("eth_maxPriorityFeePerGas")
        except NodeRefused:  # an optional method; these chains mine without a tip
            return 0

    async def _quantity(self, method: str, *params: Any) -> int:
        return self._number(method, await self.call(method, *params))

    def _number(self, method: str, value: object) -> int:
        try:
            return parse_quantity(value)
        except ValueError as error:
            raise NodeUnreachable(f"the node at {self._host} answers {method} oddly") from error

    def _result(self, method: str, content: bytes) -> Any:
        try:
            answer = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NodeUnreachable(f"the node at {self._host} does not speak JSON-RPC") from error
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            raise NodeRefused(f"the node refused {method}: {answer['error'].get('message')}")
        if not isinstance(answer, dict) or "result" not in answer:
            raise NodeUnreachable(f"the node at {self._host} answers {method} oddly")
        return answer["result"]

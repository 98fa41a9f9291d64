"""Transactions on local chains, signed independently of the product: by eth_account."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from eth_account import Account
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.address import to_checksum_address

from support.gateway.waiting import until

GAS_LIMIT = 500_000
WISH = "address,address,uint256,uint256,uint256,bytes32"


@dataclass(frozen=True)
class Authorization:
    """A signed wish to pay (EIP-3009); anybody may send it."""

    kind: str  # "TransferWithAuthorization" or "ReceiveWithAuthorization"
    message: dict[str, Any]  # from, to, value, validAfter, validBefore, nonce
    signature: bytes  # r, s, v

    @property
    def calldata(self) -> str:
        """For the overload that takes v, r and s."""
        r, s, v = self.signature[:32], self.signature[32:64], self.signature[64]
        return calldata(
            f"{self._function}({WISH},uint8,bytes32,bytes32)", *self._words, v, r.hex(), s.hex()
        )

    @property
    def calldata_bytes(self) -> str:
        """For the overload that takes the signature as bytes, as contract wallets need."""
        padded = self.signature.ljust(96, b"\0").hex()
        words: list[int | str] = [
            7 * 32,
            len(self.signature),
            padded[:64],
            padded[64:128],
            padded[128:],
        ]
        return calldata(f"{self._function}({WISH},bytes)", *self._words, *words)

    @property
    def _function(self) -> str:
        return self.kind[0].lower() + self.kind[1:]

    @property
    def _words(self) -> list[int | str]:
        return [
            value.hex() if isinstance(value, bytes) else value for value in self.message.values()
        ]


async def rpc(rpc_url: str, method: str, *params: Any) -> Any:
    """One call's result; an error of the node is an AssertionError."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    async with (
        aiohttp.ClientSession() as session,
        session.post(rpc_url, json=request) as response,
    ):
        answer = await response.json()
    assert "error" not in answer, answer["error"]
    return answer["result"]


def calldata(signature: str, *words: int | str) -> str:
    """Calldata of a function of static arguments: addresses and bytes32 as hex, else integers."""
    encoded = (
        format(word, "064x") if isinstance(word, int) else word.removeprefix("0x").rjust(64, "0")
        for word in words
    )
    return "0x" + function_signature_to_4byte_selector(signature).hex() + "".join(encoded)


async def send_transaction(
    rpc_url: str,
    private_key: str,
    *,
    to: str,
    data: str = "0x",
    value: int = 0,
    gas: int = GAS_LIMIT,
    mined: bool = True,
) -> str:
    """Sign, send, wait until it is mined unless told not to, and say the hash.

    The gas is fixed, so that a transaction that will be reverted is sent as well.
    """
    sender = Account.from_key(private_key).address
    transaction = {
        "type": 2,
        "chainId": int(await rpc(rpc_url, "eth_chainId"), 16),
        "nonce": int(await rpc(rpc_url, "eth_getTransactionCount", sender, "pending"), 16),
        "to": to_checksum_address(to),
        "data": data,
        "value": value,
        "gas": gas,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
    }
    signed = Account.sign_transaction(transaction, private_key)
    method = "eth_sendRawTransactionSync" if mined else "eth_sendRawTransaction"
    answer = await rpc(rpc_url, method, signed.raw_transaction.to_0x_hex())
    return str(answer["transactionHash"] if mined else answer)


async def send_transfer(
    rpc_url: str,
    private_key: str,
    token_address: str,
    to: str,
    amount: int,
    *,
    mined: bool = True,
) -> str:
    """Transfer `amount` atomic units of a token from the key's wallet; the transaction's hash."""
    data = calldata("transfer(address,uint256)", to, amount)
    return await send_transaction(rpc_url, private_key, to=token_address, data=data, mined=mined)


def sign_authorization(
    private_key: str,
    *,
    chain_id: int,
    token_address: str,
    to: str,
    value: int,
    payer: str | None = None,
    kind: str = "TransferWithAuthorization",
    valid_before: int = 2**48,
    nonce: bytes | None = None,
) -> Authorization:
    """An EIP-3009 authorization for USDC; `payer` is a contract wallet, else the key's own."""
    message = {
        "from": to_checksum_address(payer or Account.from_key(private_key).address),
        "to": to_checksum_address(to),
        "value": value,
        "validAfter": 0,
        "validBefore": valid_before,
        "nonce": secrets.token_bytes(32) if nonce is None else nonce,
    }
    kinds = ("address", "address", "uint256", "uint256", "uint256", "bytes32")
    signed = Account.sign_typed_data(
        private_key,
        domain_data=_usdc_domain(chain_id, token_address),
        message_types={
            kind: [
                {"name": name, "type": of_kind}
                for name, of_kind in zip(message, kinds, strict=True)
            ]
        },
        message_data=message,
    )
    return Authorization(kind=kind, message=message, signature=bytes(signed.signature))


def _usdc_domain(chain_id: int, token_address: str) -> dict[str, Any]:
    return {
        "name": "USD Coin",
        "version": "2",
        "chainId": chain_id,
        "verifyingContract": to_checksum_address(token_address),
    }


async def cancel_authorization(
    rpc_url: str, private_key: str, *, chain_id: int, token_address: str, nonce: str
) -> str:
    """Have the payer itself cancel its authorization (EIP-3009); the transaction's hash."""
    payer = Account.from_key(private_key).address
    signed = Account.sign_typed_data(
        private_key,
        domain_data=_usdc_domain(chain_id, token_address),
        message_types={
            "CancelAuthorization": [
                {"name": "authorizer", "type": "address"},
                {"name": "nonce", "type": "bytes32"},
            ]
        },
        message_data={"authorizer": payer, "nonce": bytes.fromhex(nonce[2:])},
    )
    data = calldata(
        "cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)",
        payer,
        nonce,
        signed.v,
        f"{signed.r:064x}",
        f"{signed.s:064x}",
    )
    return await send_transaction(rpc_url, private_key, to=token_address, data=data)


async def token_balance(rpc_url: str, token_address: str, owner: str) -> int:
    """What `owner` holds, in atomic units."""
    call = {"to": token_address, "data": calldata("balanceOf(address)", owner)}
    return int(await rpc(rpc_url, "eth_call", call, "latest"), 16)


async def mine(rpc_url: str, blocks: int = 1, *, apart_seconds: int = 1) -> None:
    """Add blocks; the chain's time goes on by `apart_seconds` for each."""
    await rpc(rpc_url, "anvil_mine", hex(blocks), hex(apart_seconds))


async def until_mined(rpc_url: str) -> None:
    """Wait for the block of what the node has taken: it answers a moment before.

    What waits for a nonce that nobody sent is not waited for.
    """

    async def nothing_waits() -> bool:
        status = await rpc(rpc_url, "txpool_status")
        if status["pending"] != "0x0":
            return False
        return status["queued"] == "0x0" or not await _forgotten_sent_again(rpc_url)

    await until(nothing_waits, seconds=60)


async def _forgotten_sent_again(rpc_url: str) -> bool:
    """Whether the node held something back although it is its sender's turn: sent again, then.

    anvil does so with a transaction that it judges while it mines the one before.
    """
    forgotten = False
    queued = (await rpc(rpc_url, "txpool_content"))["queued"]
    for sender, by_nonce in queued.items():
        nonce = int(await rpc(rpc_url, "eth_getTransactionCount", sender, "latest"), 16)
        if str(nonce) not in by_nonce:
            continue
        hashes = [by_nonce[each]["hash"] for each in sorted(by_nonce, key=int)]
        raws = [await rpc(rpc_url, "eth_getRawTransactionByHash", each) for each in hashes]
        await rpc(rpc_url, "anvil_removePoolTransactions", sender)
        for raw in filter(None, raws):  # none has what was mined meanwhile
            await rpc(rpc_url, "eth_sendRawTransaction", raw)
        forgotten = True
    return forgotten


@asynccontextmanager
async def times_of_blocks(url: str) -> AsyncIterator[None]:
    """Blocks have the times that a test gives them; afterwards the machine's again."""
    try:
        yield
    finally:
        await rpc(url, "evm_setTime", int(time.time()))
        await mine(url)


async def mine_safe_block(url: str, *, at: int) -> None:
    """Mine a block of that time, and one more on it."""
    await rpc(url, "evm_setNextBlockTimestamp", at)
    await mine(url, 2)

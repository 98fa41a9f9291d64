"""The chain account of one of the gateway's keys, as one answer of a node shows it."""

from collections.abc import Sequence

import msgspec

from moorage.chains.encoding import parse_quantity
from moorage.chains.fees import GasPrice, parse_gas_price
from moorage.chains.receipt import Receipt, parse_receipt
from moorage.chains.rpc import Call, RpcClient, RpcError
from moorage.records.payments import RelayTransaction

PRICE_CALLS: tuple[Call, ...] = (
    ("eth_getBlockByNumber", ["latest", False]),
    ("eth_maxPriorityFeePerGas", []),
)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The nonces and receipts of an account, and what gas costs."""

    mined: int  # nonces used up to the newest block
    pending: int  # the same, and those of pending transactions
    safe: int  # nonces used up to the safe block; 0 if the node knows no safe block
    price: GasPrice
    receipts: dict[str, Receipt]  # of mined transactions, by hash


async def read_account(
    client: RpcClient, sender: str, waiting: Sequence[RelayTransaction]
) -> Account:
    """Reads the account, and which of `waiting` are mined. Raises ChainUnavailable."""
    counts = [("eth_getTransactionCount", [sender, at]) for at in ("latest", "pending", "safe")]
    looks = [("eth_getTransactionReceipt", [one.tx_hash]) for one in waiting]
    mined, pending, safe, block, tip, *receipts = await client.batch(
        [*counts, *PRICE_CALLS, *looks]
    )
    for answer in (mined, pending, block, tip, *receipts):
        if isinstance(answer, RpcError):
            raise answer
    try:
        return Account(
            mined=parse_quantity(mined),
            pending=parse_quantity(pending),
            safe=0 if isinstance(safe, RpcError) else parse_quantity(safe),
            price=parse_gas_price(block, tip),
            receipts={
                one.tx_hash: parse_receipt(receipt, tx_hash=one.tx_hash)
                for one, receipt in zip(waiting, receipts, strict=True)
                if receipt is not None
            },
        )
    except ValueError as problem:
        raise client.contradiction(problem) from problem

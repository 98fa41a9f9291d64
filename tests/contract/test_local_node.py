"""What tests rely on of the local node."""

import secrets

from eth_account import Account

from support.chains.chain_fixture import LocalChains
from support.chains.paying import rpc, until_mined


async def test_transaction_that_the_node_held_back_in_its_turn_is_waited_for(
    local_chains: LocalChains,
) -> None:
    """As when it was judged a moment before the one before it was mined."""
    url = local_chains.arbitrum.rpc_urls[0]
    key = "0x" + secrets.token_hex(32)
    sender = Account.from_key(key).address
    await rpc(url, "anvil_setBalance", sender, hex(10**18))
    hashes = []
    for nonce in (2, 1):
        signed = Account.sign_transaction(
            {
                "type": 2,
                "chainId": 42161,
                "nonce": nonce,
                "to": sender,
                "value": 0,
                "gas": 30_000,
                "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 10**9,
            },
            key,
        )
        raw = signed.raw_transaction.to_0x_hex()
        hashes.append(await rpc(url, "eth_sendRawTransaction", raw))
    await until_mined(url)  # it is not their turn: nothing to wait for
    await rpc(url, "anvil_setNonce", sender, "0x1")
    await until_mined(url)
    receipts = [await rpc(url, "eth_getTransactionReceipt", tx_hash) for tx_hash in hashes]
    assert [receipt["status"] for receipt in receipts] == ["0x1", "0x1"]

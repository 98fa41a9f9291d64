"""Money that arrived: one Transfer of a token to the gateway's address, verified on chain."""

import msgspec

from moorage.money import AtomicUnits


class Transfer(msgspec.Struct, frozen=True):
    """A verified transfer to `pay_to`. (chain_id, tx_hash, log_index) names it, once and for all.

    Hashes and addresses are lower-case hex with `0x`.
    """

    chain_id: int
    tx_hash: str
    log_index: int
    token: str  # as clients name it: "usdc"
    token_address: str
    payer: str  # the log's `from`: not who sent the transaction, who parted with the money
    amount: AtomicUnits  # what the log says arrived: never the calldata, never the price; > 0
    decimals: int
    block_number: int
    block_hash: str

"""How far a chain has been searched for payments."""

from enum import StrEnum

import msgspec


class Search(StrEnum):
    """Every block is searched twice."""

    CONFIRMED = "confirmed"  # as soon as it is deep enough: for what may be credited at once
    SAFE = "safe"  # when it is safe: for the rest, and for what the first search did not see


class Cursor(msgspec.Struct, frozen=True):
    """One row of `watch_cursors`: the last block that was searched. (chain_id, search) is unique.

    The block's hash tells whether it is still part of the chain.
    """

    chain_id: int
    search: Search
    block_number: int
    block_hash: str

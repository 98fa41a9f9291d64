"""How far a chain has been searched for payments."""

from enum import StrEnum

import msgspec


class Search(StrEnum):
    """The two searches that each block gets."""

    CONFIRMED = "confirmed"  # when it is deep enough, for payments that may be credited at once
    SAFE = "safe"  # when it is safe, for the others, and for those that the first search missed


class Cursor(msgspec.Struct, frozen=True):
    """One row of `watch_cursors`: the last block that was searched. (chain_id, search) is unique.

    The block's hash tells whether it is still part of the chain.
    """

    chain_id: int
    search: Search
    block_number: int
    block_hash: str

"""Reads the ledger as movements: each posting once, with its amounts by account."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from moorage.storage.database import Transaction
from moorage.storage.money import accounts

_ENTRIES_AT_ONCE = 5_000


class Movement(NamedTuple):
    """One posting: when it was booked, and what it added to which account."""

    at_ms: int
    posting_id: str
    amounts: dict[str, int]  # micro-USD; they sum to zero


async def movements(snapshot: Transaction) -> AsyncIterator[Movement]:
    """Yields the ledger's movements in the order of commits.

    Entries of several writers may lie between each other: a posting comes when it is whole.
    """
    begun: dict[str, Movement] = {}
    place = 0
    while some := await accounts.entries_after(
        snapshot, place, since_ms=0, until_ms=2**62, wallet="", limit=_ENTRIES_AT_ONCE
    ):
        place = some[-1].place
        for entry in some:
            movement = begun.setdefault(
                entry.posting_id, Movement(entry.created_at_ms, entry.posting_id, {})
            )
            movement.amounts[entry.account] = entry.amount_micro_usd
            if len(movement.amounts) > 1 and sum(movement.amounts.values()) == 0:
                yield begun.pop(entry.posting_id)

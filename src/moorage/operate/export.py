"""Exports the ledger as a table: one row for each entry, in the order of commits."""

from collections.abc import AsyncIterator

from moorage.clock import iso_utc
from moorage.money import decimal_text
from moorage.storage.database import Database
from moorage.storage.money import accounts
from moorage.storage.money.accounts import LedgerEntry

COLUMNS = ("time", "posting", "kind", "account", "amount_micro_usd", "amount_usd")

_ENTRIES_AT_ONCE = 5_000
_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def ledger_rows(
    db: Database, *, since_ms: int, until_ms: int, wallet: str
) -> AsyncIterator[tuple[str, ...]]:
    """Yields the cells of each entry from `since_ms` until before `until_ms`, in one snapshot.

    A `wallet` limits them to its entries, including its held payments; "" means all.
    """
    place = 0
    async with db.snapshot() as snapshot:
        while some := await accounts.entries_after(
            snapshot,
            place,
            since_ms=since_ms,
            until_ms=until_ms,
            wallet=wallet,
            limit=_ENTRIES_AT_ONCE,
        ):
            for entry in some:
                yield _cells(entry)
            place = some[-1].place


def _cells(entry: LedgerEntry) -> tuple[str, ...]:
    return (
        iso_utc(entry.created_at_ms),
        spreadsheet_text(entry.posting_id),
        spreadsheet_text(entry.kind),
        spreadsheet_text(entry.account),
        str(entry.amount_micro_usd),
        decimal_text(entry.amount_micro_usd, decimals=6),
    )


def spreadsheet_text(text: str) -> str:
    """Returns `text` as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_STARTS_A_FORMULA) else text

"""What operators did, by commands or on pages: recorded by the transaction that does it."""

from moorage.clock import SystemClock
from moorage.operate.books import open_books
from moorage.settings import Settings
from moorage.storage.database import Transaction
from moorage.storage.operation import acts
from moorage.storage.operation.acts import Act


async def note_act(tx: Transaction, who: str, act: str, subject: str, *, reason: str = "") -> None:
    """Records that the operator `who` does `act` to `subject`, and why."""
    now_ms = SystemClock().now_ms()
    await acts.add(tx, Act(at_ms=now_ms, who=who, act=act, subject=subject, reason=reason))


async def run_acts(settings: Settings, *, since_ms: int) -> list[Act]:
    """Returns what was done from a time on, the oldest first."""
    async with open_books(settings) as books:
        return await acts.since(books.db, since_ms)

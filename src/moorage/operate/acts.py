"""What operators did by commands: each is recorded by the transaction that does it."""

import os
import pwd

from moorage.clock import SystemClock
from moorage.operate.books import open_books
from moorage.settings import Settings
from moorage.storage.database import Transaction
from moorage.storage.operation import acts
from moorage.storage.operation.acts import Act


async def note_act(tx: Transaction, act: str, subject: str, *, reason: str = "") -> None:
    """Records that whoever runs this command does `act` to `subject`, and why."""
    now_ms = SystemClock().now_ms()
    found = Act(at_ms=now_ms, who=operator_name(), act=act, subject=subject, reason=reason)
    await acts.add(tx, found)


def operator_name() -> str:
    """Returns the user who runs this command, and for whom: "root for ann" under sudo."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return f"{user} for {behind}" if behind and behind != user else user


async def run_acts(settings: Settings, *, since_ms: int) -> list[Act]:
    """Returns what was done from a time on, the oldest first."""
    async with open_books(settings) as books:
        return await acts.since(books.db, since_ms)

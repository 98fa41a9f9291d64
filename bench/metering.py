"""A tick of the meter over a hundred thousand running projects, and what it costs everybody else.

The usual tick finds those whose hour is full, a sixtieth of all; the worst, after an outage, all.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from customers import Customers, fill
from measure import Row
from moorage.clock import SystemClock
from moorage.ledger.metering import Metering
from moorage.ledger.running_costs import HOUR_MS
from moorage.storage.database import Database
from moorage.storage.migrate import migrate
from moorage.storage.money import accounts
from moorage.storage.opening import open_database

PROJECTS = 100_000
WALLETS = 10_000
MINUTE_MS = 60_000
_PULSE_SECONDS = 0.001


class _Ahead:
    """The machine's clock, set ahead by a test."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        """Unix time, as set."""
        return SystemClock().now_ms() + self.ahead_ms

    def monotonic_seconds(self) -> float:
        """Monotonic time, as set."""
        return SystemClock().monotonic_seconds() + self.ahead_ms / 1000


def run() -> list[Row]:
    """Ticks over a database of its own."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "moorage.db"
        migrate(path)
        return asyncio.run(_measure(path))


async def _measure(path: Path) -> list[Row]:
    db, clock = open_database(path), _Ahead()
    checkpoints = asyncio.create_task(db.run())
    metering = Metering(db=db, clock=clock)
    made_up = Customers(
        projects=PROJECTS,
        projects_of_wallet=PROJECTS // WALLETS,
        billed_ms=metering.time.now_ms(),
        spread_ms=HOUR_MS,
    )
    await fill(db, made_up)
    clock.ahead_ms = HOUR_MS - 1_000  # so far none has a full hour
    usual = []
    for _ in range(3):
        clock.ahead_ms += MINUTE_MS
        usual.append(await _tick(db, metering, expected=PROJECTS // 60))
    clock.ahead_ms += HOUR_MS
    worst = await _tick(db, metering, expected=PROJECTS)
    checkpoints.cancel()
    db.close()
    seconds, pause = max(usual), max(pause for _, pause in usual)
    return [
        Row(
            f"metering tick over {PROJECTS:,} running projects",
            f"{seconds[0]:.2f} s",
            "< 2 s",
            seconds[0] < 2,
            f"slowest of {len(usual)}; {PROJECTS // 60:,} have a full hour; {WALLETS:,} wallets",
        ),
        Row(
            "the most of the event loop that it takes at once",
            f"{pause * 1000:.1f} ms",
            "< 20 ms",
            pause < 0.02,
            "processor time of its thread between two turns of another task",
        ),
        Row(
            f"the same when all {PROJECTS:,} are due at once, as after an outage",
            f"{worst[0]:.1f} s",
            note=f"at most {worst[1] * 1000:.1f} ms of the loop at once",
        ),
    ]


async def _tick(db: Database, metering: Metering, *, expected: int) -> tuple[float, float]:
    """Seconds that one tick took, and the most of the loop's processor time between two turns."""
    earned = await accounts.sum_of_account(db, "earned")
    longest, done = 0.0, False

    async def pulse() -> None:
        nonlocal longest
        while not done:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)
            await asyncio.sleep(_PULSE_SECONDS)

    pulsing = asyncio.create_task(pulse())
    began = time.perf_counter()
    assert await metering.tick() == []
    took, done = time.perf_counter() - began, True
    await pulsing
    charged = (await accounts.sum_of_account(db, "earned") - earned) // 685
    assert charged >= expected * 0.9, f"{charged} charged, not {expected}"
    return took, longest

"""Until when a wallet's apps run, and what happens then: the headline of its pages."""

from dataclasses import dataclass
from enum import StrEnum

from moorage.money import MicroUsd
from moorage.pages.rendering.written import ms
from moorage.pages.wallet.times import DAY_MS
from moorage.wire.credits import Credits

_SOON_MS = 3 * DAY_MS


class Standing(StrEnum):
    """How it stands with a wallet's apps."""

    RUNS = "runs"  # and lasts
    SOON = "soon"  # credits end within three days
    NOTHING_RUNS = "nothing_runs"  # so nothing burns


@dataclass(frozen=True)
class Runway:
    """Times in Unix milliseconds."""

    standing: Standing
    balance: MicroUsd
    an_hour: MicroUsd
    ends_ms: int | None  # None: nothing burns, or it lasts beyond the calendar
    left_seconds: float | None
    deleted_ms: int | None  # when what is suspended then is deleted


def runway_of(account: Credits, *, now_ms: int, retention_days: int) -> Runway:
    """Returns the runway of a wallet."""
    balance = MicroUsd(account.balance_micro_usd)
    an_hour = MicroUsd(account.burn_per_hour_micro_usd)
    if account.runs_out_at is None:
        standing = Standing.RUNS if an_hour else Standing.NOTHING_RUNS
        return Runway(standing, balance, an_hour, None, None, None)
    ends_ms = ms(account.runs_out_at)
    left_ms = max(0, ends_ms - now_ms)
    return Runway(
        Standing.SOON if left_ms < _SOON_MS else Standing.RUNS,
        balance,
        an_hour,
        ends_ms,
        left_ms / 1000,
        ends_ms + retention_days * DAY_MS,
    )

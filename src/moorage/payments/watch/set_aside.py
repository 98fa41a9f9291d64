"""What the watcher sets aside until screening has a verdict, and how long it asks at a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from moorage.chains.receipt import FoundLog
from moorage.clock import Clock
from moorage.errors import PaymentPending
from moorage.ledger.transfer import Transfer
from moorage.payments.taking.screening import COMMANDS_AT_ONCE, Screen

_ASKING_SECONDS = 10.0  # then what is under way is waited for, and nothing more is asked
AT_ONCE = COMMANDS_AT_ONCE // 2  # the rest is for those who ask for their payment
_FIRST_PAUSE_MS = 5_000
_MAX_PAUSE_MS = 600_000
_MAX_WAITING = 10_000  # transactions
_MAX_DUE = 16

Verdicts = dict[tuple[str, str, int], str | None]
"""Verdicts by payer, token and amount."""


class TimedScreening:
    """Asks `screen` for so long; then whoever is not yet judged has no verdict.

    Verdicts are added to `known` and not asked for again, so that many payers of one transaction
    are judged at several times.
    """

    def __init__(
        self,
        screen: Screen,
        clock: Clock,
        *,
        known: Verdicts | None = None,
        slots: asyncio.Semaphore | None = None,
    ) -> None:
        self._screen = screen
        self._clock = clock
        self._known: Verdicts = {} if known is None else known
        self._slots = slots or asyncio.Semaphore(AT_ONCE)
        self._left_seconds = _ASKING_SECONDS

    async def ask(self, transfer: Transfer) -> str | None:
        """Why it is to be held back, or None. Raises PaymentPending without a verdict."""
        key = (transfer.payer, transfer.token_address, transfer.amount)
        if key in self._known:
            return self._known[key]
        async with self._slots:
            if self._left_seconds <= 0:
                raise PaymentPending
            since = self._clock.monotonic_seconds()
            try:
                self._known[key] = await self._screen(transfer)
            finally:
                self._left_seconds -= self._clock.monotonic_seconds() - since
        return self._known[key]


@dataclass
class WaitingTransaction:
    """A transaction that awaits a verdict: where its logs were found, and what was said so far."""

    logs: Sequence[FoundLog]
    due_ms: int
    pause_ms: int = _FIRST_PAUSE_MS
    verdicts: Verdicts = field(default_factory=dict)


class SetAside:
    """Transactions that await a verdict; each is due at once, then after growing pauses."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, WaitingTransaction] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether there are so many that the search has to wait for them."""
        return len(self) >= _MAX_WAITING

    def add(self, logs: Sequence[FoundLog]) -> None:
        """Set the transaction of these logs aside."""
        self._waiting[logs[0].tx_hash] = WaitingTransaction(logs, self._clock.now_ms())

    def take_due(self) -> list[tuple[str, WaitingTransaction]]:
        """A few of those whose time has come, by hash; each is due again after its next pause.

        What was asked about least comes first.
        """
        now_ms = self._clock.now_ms()
        due = [(tx_hash, one) for tx_hash, one in self._waiting.items() if one.due_ms <= now_ms]
        due = sorted(due, key=lambda item: (item[1].pause_ms, item[1].due_ms))[:_MAX_DUE]
        for _, one in due:
            one.due_ms = now_ms + one.pause_ms
            one.pause_ms = min(2 * one.pause_ms, _MAX_PAUSE_MS)
        return due

    def done(self, tx_hash: str) -> None:
        """It waits no more."""
        self._waiting.pop(tx_hash, None)

    def clear(self) -> None:
        """None waits any more."""
        self._waiting.clear()

"""Transactions that the watcher sets aside until screening has a verdict on them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from moorage.chains.receipt import FoundLog
from moorage.clock import Clock
from moorage.errors import PaymentPending
from moorage.ledger.transfer import Transfer
from moorage.payments.taking.screening import COMMANDS_AT_ONCE, Screen

_ASKING_SECONDS = 10.0  # after that no new question is asked; those under way finish
AT_ONCE = COMMANDS_AT_ONCE // 2  # the other half is for requests that wait for their payment
_FIRST_PAUSE_MS = 5_000
_MAX_PAUSE_MS = 600_000
_MAX_WAITING = 10_000  # transactions
_MAX_DUE = 16

Verdicts = dict[tuple[str, str, int], str | None]
"""Verdicts by payer, token and amount."""


class TimedScreening:
    """Asks `screen` for ten seconds in all; after that a transfer without a verdict gets none.

    Verdicts are added to `known` and not asked for again. So a transaction with many payers can be
    screened over several rounds.
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
        """Returns why the transfer is held back, or None. Raises PaymentPending if unknown yet."""
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
    """A transaction that waits for a verdict: its logs, and the verdicts so far."""

    logs: Sequence[FoundLog]
    due_ms: int
    pause_ms: int = _FIRST_PAUSE_MS
    verdicts: Verdicts = field(default_factory=dict)


class SetAside:
    """The transactions that wait for a verdict; each is due at once, then after growing pauses."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, WaitingTransaction] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether so many wait that the search must stop until some are done."""
        return len(self) >= _MAX_WAITING

    def add(self, logs: Sequence[FoundLog]) -> None:
        """Adds the transaction of these logs."""
        self._waiting[logs[0].tx_hash] = WaitingTransaction(logs, self._clock.now_ms())

    def take_due(self) -> list[tuple[str, WaitingTransaction]]:
        """Returns a few transactions that are due, with their hashes; sets when each is due again.

        Those that were asked about least often come first.
        """
        now_ms = self._clock.now_ms()
        due = [(tx_hash, one) for tx_hash, one in self._waiting.items() if one.due_ms <= now_ms]
        due = sorted(due, key=lambda item: (item[1].pause_ms, item[1].due_ms))[:_MAX_DUE]
        for _, one in due:
            one.due_ms = now_ms + one.pause_ms
            one.pause_ms = min(2 * one.pause_ms, _MAX_PAUSE_MS)
        return due

    def done(self, tx_hash: str) -> None:
        """Removes a transaction."""
        self._waiting.pop(tx_hash, None)

    def clear(self) -> None:
        """Removes all transactions."""
        self._waiting.clear()

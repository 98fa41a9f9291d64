"""Audits that an operator runs from a page: one at a time, in a process of its own."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from moorage.clock import Clock
from moorage.errors import InvalidField
from moorage.operate.audit.report import Report
from moorage.process import output_of

_MAX_ASKED = 4  # reports, the one that is made included


class BooksCommand(NamedTuple):
    """This program, and the options that name the books that the gateway has open."""

    program: str
    where: tuple[str, ...]

    def of(self, *words: str) -> tuple[str, ...]:
        """Returns the argv of one of its commands."""
        return (self.program, "operator", *words, *self.where)


@dataclass
class Reports:
    """Makes reports, one at a time: each reads the whole ledger, in a process of its own."""

    command: BooksCommand
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: int = 0

    async def csv(self, words: Sequence[str]) -> bytes:
        """Returns a report as a table. Raises InvalidField with what the command says instead.

        The command may have failed after it had printed a part.
        """
        if self.asked >= _MAX_ASKED:
            raise InvalidField("report", "others are being made: ask again in a minute")
        self.asked += 1
        try:
            async with self.turn:
                told = await output_of(self.command.of("report", *words, "--csv"))
        except OSError as error:
            problem = f"The report could not be started: {error.strerror}."
            raise InvalidField("report", problem) from error
        finally:
            self.asked -= 1
        if told.code or not told.out:
            ended = f"the command ended with exit code {told.code}, and is not whole"
            raise InvalidField("report", told.errors.strip()[-_MAX_WORDS:] or ended)
        return told.out


_MAX_WORDS = 2_000


class _Answer(msgspec.Struct):
    report: Report


class AuditRun(msgspec.Struct, frozen=True, kw_only=True):
    """One audit: under way, or what it found."""

    who: str
    started_ms: int
    searches: bool  # whether chains are searched for transfers that are not recorded
    ended_ms: int | None = None
    report: Report | None = None
    problem: str = ""  # why there is no report


class Audits:
    """Runs `command`, which audits the books and prints JSON, when an operator asks.

    It reads much, and so is a process of its own, as each day's audit is. The last report is kept
    in memory, by the gateway that ran it.
    """

    def __init__(self, command: Sequence[str], *, clock: Clock) -> None:
        self._command = command
        self._clock = clock
        self._asked = asyncio.Event()
        self.last: AuditRun | None = None

    @property
    def is_running(self) -> bool:
        """Whether an audit is under way."""
        return self._asked.is_set()

    def ask(self, who: str, *, search: bool) -> bool:
        """Has an audit begin; returns False when one is under way already."""
        if self._asked.is_set():
            return False
        self.last = AuditRun(who=who, started_ms=self._clock.now_ms(), searches=search)
        self._asked.set()
        return True

    async def run(self) -> None:
        """Runs each audit that is asked for, until cancelled."""
        while True:
            await self._asked.wait()
            try:
                await self._audit()
            finally:
                self._asked.clear()

    async def _audit(self) -> None:
        begun = self.last
        if begun is None:
            return
        fast = () if begun.searches else ("--fast",)
        try:
            told = await output_of((*self._command, *fast, "--json"))
            found: dict[str, Report | str] = {
                "report": msgspec.json.decode(told.out, type=_Answer).report
            }
        except OSError as error:
            found = {"problem": f"The audit could not be started: {error.strerror}."}
        except msgspec.DecodeError:
            found = {"problem": told.errors.strip()[-_MAX_WORDS:] or "The audit said nothing."}
        self.last = msgspec.structs.replace(begun, ended_ms=self._clock.now_ms(), **found)

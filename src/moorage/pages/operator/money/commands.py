"""Commands that read much, run in a process of their own: this program's, on the same books."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from moorage.errors import InvalidField

_NICE = ("nice", "-n", "10")  # what serves comes first
_MAX_WORDS = 2_000


class BooksCommand(NamedTuple):
    """This program, and the options that name the books that the gateway has open."""

    program: str
    where: tuple[str, ...]

    def of(self, *words: str) -> tuple[str, ...]:
        """Returns the argv of one of its commands."""
        return (self.program, *words, *self.where)


class Output(NamedTuple):
    """What a program printed."""

    out: bytes
    errors: str


async def output_of(command: Sequence[str]) -> Output:
    """Returns what a program printed; ends it when cancelled. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *_NICE,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    return Output(out, errors.decode(errors="replace"))


@dataclass(frozen=True)
class Reports:
    """Makes reports, one at a time: each reads the whole ledger, in a process of its own."""

    command: BooksCommand
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def csv(self, words: Sequence[str]) -> bytes:
        """Returns a report as a table. Raises InvalidField with what the command says instead."""
        async with self.turn:
            try:
                told = await output_of(self.command.of("report", *words, "--csv"))
            except OSError as error:
                problem = f"The report could not be started: {error.strerror}."
                raise InvalidField("report", problem) from error
        if not told.out:
            raise InvalidField("report", told.errors.strip()[-_MAX_WORDS:] or "it said nothing")
        return told.out

"""Commands that read much, run in a process of their own: this program's, on the same books."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from moorage.errors import InvalidField

_NICE = ("nice", "-n", "10")  # what serves comes first
_MAX_WORDS = 2_000
_MAX_ASKED = 4  # reports, the one that is made included


class BooksCommand(NamedTuple):
    """This program, and the options that name the books that the gateway has open."""

    program: str
    where: tuple[str, ...]

    def of(self, *words: str) -> tuple[str, ...]:
        """Returns the argv of one of its commands."""
        return (self.program, *words, *self.where)


class Output(NamedTuple):
    """What a program printed, and how it ended."""

    out: bytes
    errors: str
    code: int  # negative: the signal that ended it


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
    return Output(out, errors.decode(errors="replace"), await process.wait())


@dataclass
class Reports:
    """Makes reports, one at a time: each reads the whole ledger, in a process of its own."""

    command: BooksCommand
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: int = 0

    async def csv(self, words: Sequence[str]) -> bytes:
        """Returns a report as a table. Raises InvalidField with what the command says instead.

        So it does where the command failed after it had printed a part.
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

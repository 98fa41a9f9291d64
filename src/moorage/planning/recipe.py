"""What one stack found: commands, or the sentence that says what keeps it from running."""

from typing import NamedTuple

from moorage.planning.plan import Stack

_QUOTED = 100  # characters of a command repeated in a sentence


class Recipe(NamedTuple):
    """A stack's way to build and start an app; commands run in the app's directory.

    `start` is None when the files belong to this stack but nothing says how to start them; then
    `missing` says what would have.
    """

    stack: Stack
    install: str | None
    build: str | None
    start: str | None
    because: tuple[str, ...]
    run_env: tuple[tuple[str, str], ...] = ()
    missing: str = ""


def quoted(command: str) -> str:
    """A command as it is repeated in a sentence: its first line, cut to a readable length."""
    line, newline, _ = command.partition("\n")
    return f"{line[:_QUOTED]} …" if newline or len(line) > _QUOTED else line

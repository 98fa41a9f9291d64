"""What a command prints: results and JSON on stdout, everything else on stderr."""

import json
import os
import re
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Protocol, TextIO

import msgspec
from msgspec import UNSET

from moorage.money import json_of
from moorage.wire.deployments import DeploymentItem
from moorage.wire.projects import ProjectChanged, ProjectShown
from moorage.wire.shape import Body, CamelBody

# ECMA-48: control sequences (§5.4: colours, the cursor), control strings (§5.6: titles, links;
# terminals take a BEL for their end too) and escapes. A string that does not end on its line stays
# except for its beginning, so that it does not hide what follows.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_NOT_ASCII = re.compile(r"[^\n -~]")


_WHOLE = (DeploymentItem, ProjectChanged, ProjectShown)
"""Shapes whose document always has every member."""


class Colour(IntEnum):
    """Colours of text, as terminals number them (ECMA-48, SGR)."""

    RED = 31
    CYAN = 36


class Progress(Protocol):
    """A line that shows how far something is."""

    def stage(self, text: str) -> None:
        """Replaces the text of the line."""
        ...


class Screen:
    """One command's output. With `json`, stdout holds one document and nothing else.

    Text from a gateway or an app passes `printable` on its way here, for it may hold terminal
    escapes. Colour and spinners are only for a terminal without NO_COLOR (rich sees to both).
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def result(self, text: str, *, colour: Colour | None = None) -> None:
        """A line of the result, for a person; in a colour on a terminal."""
        if self.json:
            return
        if colour is None or not _shows_colour():
            print(printable(text), flush=True)
        else:
            print(f"\x1b[{colour}m{printable(text)}\x1b[0m", flush=True)

    def document(self, value: Any) -> None:
        """The one JSON document, when JSON was asked for."""
        if self.json:
            print(json_text(with_nulls(value), indent=2))

    def document_line(self, value: Any) -> None:
        """One of many JSON documents, each on a line of its own, when JSON was asked for."""
        if self.json:
            print(json_text(value, indent=-1), flush=True)

    def note(self, text: str) -> None:
        """Prints a note on stderr."""
        say(text)

    def warn(self, text: str) -> None:
        """Prints a warning on stderr."""
        self.note(f"warning: {text}")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, none: str = ""
    ) -> None:
        """Rows under headings, columns as wide as they must be; without rows, `none`."""
        if self.json:
            return
        for line in [none] if none and not rows else table_lines(columns, rows):
            print(line)

    def can_ask(self) -> bool:
        """Whether stdin and stderr are a terminal, so that a person can answer."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def confirm(self, question: str) -> bool:
        """Whether the person says yes; no is the default."""
        print(f"{printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    @contextmanager
    def progress(self, text: str) -> Iterator[Progress]:
        """A spinner with the stage on a terminal; elsewhere a line for each new stage."""
        if not sys.stderr.isatty():
            lines = _Lines(self)
            lines.stage(text)
            yield lines
            return
        from rich.console import Console

        with Console(stderr=True).status(_plain(text)) as status:
            yield _Spinner(status)


def _shows_colour() -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


class _Lines:
    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._shown = ""

    def stage(self, text: str) -> None:
        """Prints `text`, unless it is what was printed last."""
        if text != self._shown:
            self._shown = text
            self._screen.note(f"  {text}")


class _Spinner:
    def __init__(self, status: Any) -> None:
        self._status = status

    def stage(self, text: str) -> None:
        """The text beside the spinner."""
        self._status.update(_plain(text))


def say(text: str) -> None:
    """Prints a line on stderr; does nothing once nobody reads stderr any more."""
    try:
        print(printable(text), file=sys.stderr, flush=True)
    except BrokenPipeError:
        discard_output(sys.stderr)


def has_reader(stream: TextIO) -> bool:
    """Whether somebody may still read `stream`."""
    poll = select.poll()
    poll.register(stream, 0)  # what is told without being asked for: POLLERR, POLLHUP
    return not poll.poll(0)


def discard_output(stream: TextIO) -> None:
    """Sends what is still written to `stream` to /dev/null, as its reader has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def printable(text: str) -> str:
    """`text` without a terminal's sequences, and controls other than line ends and tabs."""
    plain = _SEQUENCE.sub("", text)
    return "".join(char for char in plain if char.isprintable() or char in "\n\t")


def with_nulls(value: Any) -> Any:
    """`value` as JSON's types, with null for what the shapes of `_WHOLE` do not have."""
    if isinstance(value, Body | CamelBody):
        members = {
            field.encode_name: getattr(value, field.name) for field in msgspec.structs.fields(value)
        }
        return {
            name: None if each is UNSET else with_nulls(each)
            for name, each in members.items()
            if each is not UNSET or isinstance(value, _WHOLE)
        }
    if isinstance(value, dict):
        return {name: with_nulls(each) for name, each in value.items()}
    return [with_nulls(each) for each in value] if isinstance(value, list) else value


def counted(number: int, thing: str) -> str:
    """Returns a number of things: 1 wallet, 1,200 wallets."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def json_text(value: Any, *, indent: int) -> str:
    """`value` as JSON in ASCII, on one line where `indent` is -1: any terminal can show it."""
    text = msgspec.json.format(json_of(value), indent=indent).decode()
    return _NOT_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text)


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The table as lines, headings first, without trailing blanks."""
    clean = [tuple(columns), *(tuple(_on_one_line(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in clean) for column in range(len(columns))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in clean
    ]


def _on_one_line(cell: str) -> str:
    return printable(cell).replace("\n", " ").replace("\t", " ")


def _plain(text: str) -> Any:
    """`text` for rich, which would read brackets as markup."""
    from rich.text import Text

    return Text(printable(text))

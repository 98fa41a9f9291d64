"""What one stack found: commands, or the sentence that says what keeps it from running."""

from typing import NamedTuple

from moorage.planning.plan import Stack
from moorage.planning.shell import in_place
from moorage.planning.toolbox import Tool

_QUOTED = 100  # characters of a command repeated in a sentence
_ROOT = "/app"  # where builds happen and apps run


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
    build_env: tuple[tuple[str, str], ...] = ()
    tools: tuple[Tool, ...] = ()
    install_inputs: tuple[str, ...] = ()  # from the upload's root
    directory: str | None = None  # where the app is, from the upload's root, if not where looked


def quoted(command: str) -> str:
    """A command as it is repeated in a sentence: its first line, cut to a readable length."""
    line, newline, _ = command.partition("\n")
    return f"{line[:_QUOTED]} …" if newline or len(line) > _QUOTED else line


def with_path(command: str, *directories: str) -> str:
    """The command, which finds the programs of these directories of the app first."""
    return f'PATH="{"".join(f"$PWD/{d}:" for d in directories)}$PATH"\n{in_place(command)}'


def in_app(path: str) -> str:
    """A path of the upload, as programs see it when they build and run."""
    return f"{_ROOT}/{path}".rstrip("/")

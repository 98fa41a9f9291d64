"""What `moorage COMMAND --help` and completion in a shell show."""

from collections.abc import Callable
from importlib import import_module
from inspect import cleandoc
from typing import Any, Literal

from cyclopts import App, Parameter

from moorage import __version__
from moorage.cli.main import OPERATOR, Command, all_commands, exit_code_text
from moorage.cli.screen import Screen


def build_app() -> App:
    """The tree of all commands that are installed; each is imported when it is run."""
    app = App(
        name="moorage",
        help="Deploy an app by paying for it.",
        version=__version__,
        help_epilogue=exit_code_text(),
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative_iterable=(), show_default=default_text),
    )
    group = App(name=OPERATOR, help="Manage a gateway.")
    for command in all_commands():
        *of_group, name = command.name.split()
        (group if of_group else app).command(command.path, name=name, help=None)
    app.command(group)
    return app


def unwrap_help(command: Command) -> None:
    """Joins the lines of a command's help, so that the terminal wraps them."""
    module, _, name = command.path.partition(":")
    function: Callable[..., int] = getattr(import_module(module), name)
    function.__doc__ = unwrapped(function.__doc__ or "")


def unwrapped(docstring: str) -> str:
    """The docstring with each paragraph, and each parameter's text, on one line."""
    lines: list[str] = []
    for line in cleandoc(docstring).splitlines():
        if lines and _goes_on(lines[-1], line):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return "\n".join(lines)


def default_text(default: Any) -> str | None:
    """A default value as help shows it; None for one that tells nothing."""
    if isinstance(default, bool):
        return "yes" if default else None
    return None if default in (None, "", ()) else str(default)


def _goes_on(before: str, line: str) -> bool:
    """Whether `line` belongs to the paragraph of the line `before` it, by its indentation."""
    if not before.strip() or not line.strip() or set(line) == {"-"} or set(before) == {"-"}:
        return False
    return _indentation(before) == _indentation(line)


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a script that completes commands and flags in your shell.

    For bash, for one: moorage completion bash > ~/.local/share/bash-completion/completions/moorage

    Parameters
    ----------
    shell
        Your shell.
    """
    script = build_app().generate_completion(prog_name="moorage", shell=shell)
    Screen(json=False).result(script)

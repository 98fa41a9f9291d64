"""`moorage completion`: the script by which a shell completes commands and flags."""

from importlib import import_module
from typing import Literal

from moorage.cli.commands import Command, all_commands
from moorage.cli.exits import Exit
from moorage.cli.help import build_app
from moorage.cli.screen import Screen


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print a script that completes commands and flags in your shell.

    For bash, for one: moorage completion bash > ~/.local/share/bash-completion/completions/moorage

    Parameters
    ----------
    shell
        Your shell.
    """
    app = build_app(tuple(each for each in all_commands() if _is_installed(each)))
    Screen(json=False).result(app.generate_completion(prog_name="moorage", shell=shell))
    return Exit.OK


def _is_installed(command: Command) -> bool:
    """Whether what the command needs is installed, as far as its module says."""
    try:
        import_module(command.path.partition(":")[0])
    except ImportError:
        return False
    return True

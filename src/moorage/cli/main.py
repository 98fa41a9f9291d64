"""The command `moorage`: picks a command, runs it, and turns its errors into exit codes."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from moorage import __version__
from moorage.cli.commands import (
    CLIENT_COMMANDS,
    exit_code_text,
    left_behind,
    operator_commands,
    overview,
)
from moorage.cli.exits import Exit, exit_code
from moorage.errors import MoorageError

if TYPE_CHECKING:
    from cyclopts import App


def main() -> None:
    """Runs the command line and exits with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; its exit code, also when whoever read its output has left."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        from moorage.cli.screen import forsake, has_reader

        if has_reader(sys.stdout):
            raise
        forsake(sys.stdout)
        return Exit.READER_GONE
    return code


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in {"--help", "-h"}:
        print(overview())
        return Exit.OK if arguments else Exit.INVALID
    if arguments[0] == "--version":
        print(__version__)
        return Exit.OK
    as_json = "--json" in arguments
    try:
        return _run_command(arguments, as_json=as_json)
    except MoorageError as error:
        return _report(error, as_json=as_json)
    except KeyboardInterrupt:
        from moorage.cli.screen import say

        say(f"Interrupted. {left_behind(arguments[0])}".rstrip())
        return Exit.INTERRUPTED


def build_app() -> "App":
    """The command tree; commands are imported when they are run."""
    from cyclopts import App

    app = App(
        name="moorage",
        help="Deploy an app by paying for it.",
        version=__version__,
        help_epilogue=exit_code_text(),
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )
    for command in (*CLIENT_COMMANDS, *operator_commands()):
        app.command(command.path, name=command.name, help=None)
    return app


def error_document(error: MoorageError, code: Exit) -> dict[str, Any]:
    """The JSON document of a failure."""
    from moorage.sdk.errors import ClientError, GatewayError, PaymentKept

    document: dict[str, Any] = {
        "error": error.message,
        "code": error.code if isinstance(error, ClientError) else "error",
        "retryable": isinstance(error, ClientError) and error.retryable,
        "exit_code": int(code),
    }
    if isinstance(error, GatewayError):
        document |= {"http_status": error.status, "body": error.body}
    if isinstance(error, PaymentKept):
        document["payment"] = {"chain": error.chain, "tx_hash": error.tx_hash}
        if error.cause is not None:
            document["cause"] = error_document(error.cause, code)
    return document


def hint(error: MoorageError) -> str | None:
    """The next step, where the error itself names none."""
    from moorage.sdk.errors import GatewayError, GatewayUnreachable

    if isinstance(error, GatewayUnreachable):
        host = urlsplit(error.gateway_url).hostname
        return "Start it with `make dev`." if host in {"127.0.0.1", "::1"} else None
    if isinstance(error, GatewayError):
        actions = error.body.get("next_actions")
        if isinstance(actions, list) and actions:
            return "Next: " + " · ".join(str(action) for action in actions)
    return None


def _run_command(arguments: Sequence[str], *, as_json: bool) -> int:
    from cyclopts import CycloptsError

    try:
        outcome = build_app()(
            arguments, exit_on_error=False, print_error=not as_json, result_action="return_value"
        )
    except CycloptsError as error:
        from moorage.cli.screen import Screen

        document = {"error": str(error), "code": "usage", "retryable": False, "exit_code": 2}
        Screen(json=as_json).document(document)
        return Exit.INVALID
    return outcome if isinstance(outcome, int) else Exit.OK


def _report(error: MoorageError, *, as_json: bool) -> int:
    from moorage.cli.screen import Screen, say

    code = exit_code(error)
    Screen(json=as_json).document(error_document(error, code))
    say(f"error: {error.message}")
    next_step = hint(error)
    if next_step:
        say(next_step)
    return code

"""The command `moorage`: picks a command, runs it, and turns its errors into exit codes."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any
from urllib.parse import urlsplit

from moorage import __version__
from moorage.cli.commands import (
    OPERATOR,
    Command,
    Exit,
    exit_code,
    find_command,
    left_behind,
    named,
    operator_commands,
    operator_overview,
    overview,
)
from moorage.errors import MoorageError


def main() -> None:
    """Runs the command line and exits with its code."""
    if isinstance(sys.stdout, TextIOWrapper):  # rather than fail where it is not UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code, also when the reader of its output has left."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        from moorage.cli.screen import discard_output, has_reader

        if has_reader(sys.stdout):
            raise
        discard_output(sys.stdout)
        return Exit.READER_GONE
    return code


def _run(arguments: Sequence[str]) -> int:
    is_group = operator_commands() and arguments[:1] == [OPERATOR]
    text, asked = (operator_overview, arguments[1:2]) if is_group else (overview, arguments[:1])
    if not asked:
        print(text(), file=sys.stderr)
        return Exit.INVALID
    if asked[0] in {"--help", "-h"}:
        print(text())
        return Exit.OK
    if arguments[0] == "--version":
        print(__version__)
        return Exit.OK
    as_json = "--json" in arguments
    try:
        return _run_command(arguments, as_json=as_json)
    except MoorageError as error:
        return _report(error, as_json=as_json)
    except ImportError as error:
        missing = missing_extra(named(arguments), error)
        if missing is None:
            raise
        return _refuse(missing, None, as_json=as_json)
    except KeyboardInterrupt:
        from moorage.cli.screen import say

        say(f"Interrupted. {left_behind(named(arguments))}".rstrip())
        return Exit.INTERRUPTED


def missing_extra(command: str, error: ImportError) -> str | None:
    """What to install for a command, after `error`; None if that would not help."""
    found = error if isinstance(error, ModuleNotFoundError) else error.__cause__
    name = found.name if isinstance(found, ModuleNotFoundError) else None
    if name is None or name.partition(".")[0] == "moorage":
        return None
    extra = "mcp" if command == "mcp" else "gateway"
    return (
        f"`moorage {command}` needs packages that are not installed here ({name} is the "
        f"first): pip install 'moorage[{extra}]'"
    )


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
        document["payment"] = {"chain": error.chain, "tx_hash": error.tx_hash or None}
        if error.cause is not None:
            document["cause"] = error_document(error.cause, code)
    return document


def hint(error: MoorageError) -> str | None:
    """The next step after an error, if there is one."""
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

    from moorage.cli.help import build_app, unwrap_help

    command = find_command(named(arguments))
    if command is not None and not {"--help", "-h"}.isdisjoint(arguments):
        unwrap_help(command)
    try:
        outcome = build_app()(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        return _refuse(str(error), command, as_json=as_json)
    return outcome if isinstance(outcome, int) else Exit.OK


def _refuse(why: str, command: Command | None, *, as_json: bool) -> int:
    from moorage.cli.screen import Screen, say

    document = {"error": why, "code": "usage", "retryable": False, "exit_code": int(Exit.INVALID)}
    Screen(json=as_json).document(document)
    say(f"error: {why}")
    say(f"See: moorage {command.name} --help" if command else "See: moorage --help")
    return Exit.INVALID


def _report(error: MoorageError, *, as_json: bool) -> int:
    from moorage.cli.flags import in_cli_words
    from moorage.cli.screen import Screen, say

    code = exit_code(error)
    Screen(json=as_json).document(error_document(error, code))
    say(f"error: {in_cli_words(error.message)}")
    next_step = hint(error)
    if next_step:
        say(in_cli_words(next_step))
    return code

"""The command `moorage`: its commands and exit codes; picks one, runs it, reports its errors."""

import gc
import os
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from importlib.util import find_spec
from io import TextIOWrapper
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from moorage import __version__
from moorage.errors import (
    BackupFailed,
    BackupInvalid,
    ChainUnavailable,
    CommitUnknown,
    ConfigurationInvalid,
    DatabaseUnavailable,
    InvalidRequest,
    MoorageError,
    RefundRefused,
    SchemaUnknown,
)


class Exit(IntEnum):
    """The exit codes; scripts and agents branch on these."""

    OK = 0
    FAILED = 1  # the deployment failed, or something went wrong that no code below names
    INVALID = 2  # usage, configuration, or a request the gateway refuses
    DO_NOT_PAY_AGAIN = 3  # a payment's outcome is open, or it was not approved
    TRY_AGAIN = 4  # gateway or node unreachable or busy; nothing was paid
    NOT_YOURS = 5  # no such project or deployment, somebody else's, or not authenticated
    CANNOT_PAY = 6  # the wallet holds too little; nothing was paid
    INTERRUPTED = 130
    READER_GONE = 141  # the reader of the output left; as shells count a SIGPIPE


EXIT_CODES = (
    (Exit.OK, "done"),
    (Exit.FAILED, "failed, or found something wrong; what, is printed"),
    (Exit.INVALID, "wrong usage, configuration or request; change it"),
    (Exit.DO_NOT_PAY_AGAIN, "a payment is uncertain or was not approved; do not pay by hand"),
    (Exit.TRY_AGAIN, "gateway or chain unreachable or busy; nothing was paid, try again"),
    (Exit.NOT_YOURS, "no such project, another wallet's, or the signature was refused"),
    (Exit.CANNOT_PAY, "the wallet holds too little to pay; nothing was paid"),
)


def exit_code(error: MoorageError) -> Exit:
    """The code for `error`."""
    from moorage.sdk import errors as sdk

    families: tuple[tuple[type[MoorageError], Exit], ...] = (
        (InvalidRequest, Exit.INVALID),
        (ConfigurationInvalid, Exit.INVALID),
        (RefundRefused, Exit.INVALID),
        (BackupFailed, Exit.FAILED),
        (BackupInvalid, Exit.INVALID),
        (ChainUnavailable, Exit.TRY_AGAIN),
        (CommitUnknown, Exit.DO_NOT_PAY_AGAIN),
        (SchemaUnknown, Exit.INVALID),
        (DatabaseUnavailable, Exit.TRY_AGAIN),
        (sdk.PaymentKept, Exit.DO_NOT_PAY_AGAIN),
        (sdk.BalanceShort, Exit.CANNOT_PAY),
        (sdk.PaymentReverted, Exit.TRY_AGAIN),
        (sdk.PaymentReplaced, Exit.TRY_AGAIN),
        (sdk.NotPaid, Exit.DO_NOT_PAY_AGAIN),
        (sdk.RequestRefused, Exit.INVALID),
        (sdk.DirectoryInvalid, Exit.INVALID),
        (sdk.ClientMisconfigured, Exit.INVALID),
        (sdk.JournalUnwritable, Exit.INVALID),
        (sdk.AnswerUnreadable, Exit.INVALID),
        (sdk.ReceiptInvalid, Exit.INVALID),
        (sdk.NodeRefused, Exit.TRY_AGAIN),
        (sdk.NotAuthenticated, Exit.NOT_YOURS),
        (sdk.Forbidden, Exit.NOT_YOURS),
        (sdk.NotFound, Exit.NOT_YOURS),
    )
    for family, code in families:
        if isinstance(error, family) and not (
            isinstance(error, sdk.NotAuthenticated) and error.retryable
        ):
            return code
    if isinstance(error, sdk.ClientError) and error.retryable:
        return Exit.TRY_AGAIN
    return Exit.FAILED


class Command(NamedTuple):
    """A command; `path` is `module:function`, imported when the command is run."""

    name: str
    path: str
    help: str


_DEPLOY = "moorage.cli.deploy"
_PROJECTS = "moorage.cli.projects"
_ACCOUNT = "moorage.cli.account"
_RUNS = "moorage.cli.runs"
_HELP = "moorage.cli.help"
_SERVE = "moorage.cli.operator.serve"
_GATEWAY = "moorage.cli.operator.gateway"
_CUSTOMERS = "moorage.cli.operator.customers"
_BOOKS = "moorage.cli.operator.books"


def _command(name: str, module: str, text: str) -> Command:
    """Describes a command by the words that name it; the last is its function's name."""
    return Command(name.replace("_", "-"), f"{module}:{name.rpartition(' ')[2]}", text)


CLIENT_COMMANDS = (
    _command("deploy", _DEPLOY, "Deploy a directory and print its address."),
    _command("projects", _PROJECTS, "List your projects."),
    _command("status", _PROJECTS, "Show where a deployment stands."),
    _command("logs", _DEPLOY, "Show what a build or an app wrote."),
    _command("deployments", _DEPLOY, "List what was deployed."),
    _command("rollback", _DEPLOY, "Serve an earlier release again."),
    _command("cancel", _DEPLOY, "End a deployment that is under way."),
    _command("run", _RUNS, "Run a command once beside an app."),
    _command("runs", _RUNS, "List a project's runs, and how they ended."),
    _command("balance", _ACCOUNT, "Show what a wallet holds on chain."),
    _command("credits", _ACCOUNT, "Show your credits, and how long they last."),
    _command("topup", _ACCOUNT, "Buy credits."),
    _command("receipt", _ACCOUNT, "Show the signed receipt of a payment, or check it."),
    _command("refund", _ACCOUNT, "Have unused credits sent back to who paid."),
    _command("events", _ACCOUNT, "List what happened to your apps and credits."),
    _command("webhook", _ACCOUNT, "Have your events sent to a URL."),
    _command("show", _PROJECTS, "Show a project whole."),
    _command("env", _PROJECTS, "Set a project's variables, or list them."),
    _command("configure", _PROJECTS, "Change its title, health path, …"),
    _command("restart", _PROJECTS, "Start a project's app again."),
    _command("pause", _PROJECTS, "Stop a project's app and what it burns."),
    _command("unpause", _PROJECTS, "Start a paused app again."),
    _command("usage", _PROJECTS, "Show traffic and resource use of a project's app."),
    _command("domains", _PROJECTS, "Have your own domains lead to a project."),
    _command("export", _PROJECTS, "Fetch an archive of a project."),
    _command("delete", _PROJECTS, "Stop a project and remove it for good."),
    _command("purse", _PROJECTS, "Give a project credits of its own, or a limit."),
    _command("adopt", _PROJECTS, "Have a project share your wallet's credits."),
    _command("transfer", _PROJECTS, "Offer a project to another wallet."),
    _command("transfers", _PROJECTS, "List offers of projects; take one, or end it."),
    _command("dashboard", _ACCOUNT, "Print the address of your pages."),
    _command("recovery", _ACCOUNT, "Name who may take your wallet over if its key is lost."),
    _command("links", _ACCOUNT, "Let others look at your pages."),
    _command("delegate", _ACCOUNT, "Let another wallet act for yours."),
    _command("chains", _ACCOUNT, "List the chains and tokens taken."),
    _command("sizes", _ACCOUNT, "List the sizes of apps, and what they cost."),
    _command("completion", _HELP, "Print a script that completes commands in your shell."),
    _command("mcp", _ACCOUNT, "Serve these as tools for an agent (MCP)."),
)

GATEWAY_COMMANDS = (
    _command("dev", _SERVE, "Run everything on this machine, to try it."),
    _command("serve", _SERVE, "Run a gateway."),
    _command("check", _SERVE, "Say what is missing here, and what fixes it."),
    _command("plan", _SERVE, "Show how a directory would be built and run."),
)
"""They try, run or check a gateway; a client's installation lacks these and OPERATOR_COMMANDS."""

OPERATOR = "operator"
"""The group of the commands by which an operator keeps a gateway."""

OPERATOR_COMMANDS = (
    _command("operator stop", _GATEWAY, "End the apps of a gateway that does not run."),
    _command("operator retire", _GATEWAY, "End a gateway for good; its books stay."),
    _command("operator suspend", _CUSTOMERS, "Stop a project, whatever its credits."),
    _command("operator resume", _CUSTOMERS, "Lift a suspension: it runs if it has credits."),
    _command("operator suspended", _CUSTOMERS, "List what you have suspended."),
    _command("operator config", _GATEWAY, "Show what is set, and what a restart would change."),
    _command("operator acts", _GATEWAY, "List what operators did, and why."),
    _command("operator alerts", _GATEWAY, "List what is wrong, or test how you are told."),
    _command("operator recipient", _GATEWAY, "List addresses that were paid, or give one up."),
    _command("operator base_domain", _GATEWAY, "List domains of apps, or give one up."),
    _command("operator engine", _GATEWAY, "List projects by engine, or move them to another."),
    _command("operator bases", _GATEWAY, "List the images that builds begin with, or pin them."),
    _command("operator evict", _CUSTOMERS, "Delete somebody's project, after notice."),
    _command("operator maintenance", _CUSTOMERS, "Refuse new deploys for a while."),
    _command("operator announce", _CUSTOMERS, "Tell all customers something."),
    _command("operator allow", _CUSTOMERS, "List a wallet, or limit its projects."),
    _command(
        "operator prices",
        _CUSTOMERS,
        "Give existing projects the price list's price.",
    ),
    _command("operator link", _CUSTOMERS, "Print a link that opens the operator's pages."),
    _command("operator end", _CUSTOMERS, "End all access to the operator's pages."),
    _command("operator audit", _BOOKS, "Compare the books with the chains."),
    _command("operator ledger", _BOOKS, "Print the ledger as CSV."),
    _command("operator report", _BOOKS, "Report revenue, payments, or a wallet's invoice."),
    _command("operator wallets", _CUSTOMERS, "List wallets: credits, burn, what they paid."),
    _command("operator credit", _CUSTOMERS, "Give a wallet credits by hand."),
    _command("operator payments", _BOOKS, "List or release what screening holds."),
    _command("operator refund", _BOOKS, "Send a payment back to who paid."),
    _command("operator backup", _GATEWAY, "Save a gateway into one file, or off-site."),
    _command("operator drill", _GATEWAY, "Prove that an off-site backup restores."),
    _command(
        "operator migrate_database",
        _GATEWAY,
        "Move the books from their file to a PostgreSQL server.",
    ),
    _command("operator restore", _GATEWAY, "Put a saved gateway back."),
    _command("operator install", _GATEWAY, "Install a gateway's services of systemd."),
)
"""They open a gateway's books, files or cluster; many of them while it runs."""

_PAID = "A payment that was made is recorded: the same command resumes it."
_BEGUN = "What was begun continues: `moorage status PROJECT` says how it ends."
_LEFT_BEHIND = {
    "deploy": _PAID,
    "topup": _PAID,
    "rollback": _BEGUN,
    "run": "What was queued runs: `moorage runs PROJECT` says how it ended.",
    "env": _BEGUN,
    "configure": _BEGUN,
    "restart": _BEGUN,
    "operator refund": "A refund that was sent is recorded: `moorage operator refund --resume` "
    "follows it.",
}


def has_gateway() -> bool:
    """Whether the gateway is installed here, not the client alone."""
    return find_spec("moorage.cli.operator") is not None


def require_gateway(command: str) -> None:
    """Raises ClientMisconfigured for a gateway's command where only the client is installed."""
    from moorage.sdk.errors import ClientMisconfigured

    if not has_gateway():
        raise ClientMisconfigured(
            f"`moorage {command}` is of the gateway, and only the client is installed here: "
            "pip install moorage"
        )


def all_commands() -> tuple[Command, ...]:
    """Every command that this installation has."""
    of_gateway = (*GATEWAY_COMMANDS, *OPERATOR_COMMANDS) if has_gateway() else ()
    return (*CLIENT_COMMANDS, *of_gateway)


def named(arguments: Sequence[str]) -> str:
    """The command that a line names: two words of `moorage operator`, else one."""
    words = 2 if arguments[0] == OPERATOR else 1
    return " ".join(arguments[:words])


def find_command(name: str) -> Command | None:
    """The command of this name, if there is one."""
    return next((each for each in all_commands() if each.name == name), None)


def left_behind(name: str) -> str:
    """What continues after Ctrl-C ends a command; "" if nothing does."""
    return _LEFT_BEHIND.get(name, "")


def exit_code_text() -> str:
    """The table of exit codes, as help shows it."""
    return "Exit codes:\n" + "\n".join(f"  {int(code)}  {text}" for code, text in EXIT_CODES)


def overview() -> str:
    """What `moorage --help` prints. Written by hand, as rich is slow to load."""
    sections = ["Usage: moorage COMMAND [OPTIONS]\n\nDeploy an app by paying for it."]
    sections.append(_section("Commands", CLIENT_COMMANDS))
    if has_gateway():
        group = Command(OPERATOR, "", "Manage a gateway: money, customers, backups, …")
        sections.append(_section("Operators", (*GATEWAY_COMMANDS, group)))
    sections.append(
        "Gateway, key and nodes come from flags, then from the environment\n"
        "(MOORAGE_GATEWAY, MOORAGE_PRIVATE_KEY, MOORAGE_RPC_URL_<CHAIN>), then from\n"
        ".moorage/dev.json, which `moorage dev` writes.\n"
        "`moorage COMMAND --help` says more."
    )
    sections.append(exit_code_text())
    return "\n\n".join(sections)


def operator_overview() -> str:
    """What `moorage operator --help` prints."""
    return "\n\n".join(
        [
            "Usage: moorage operator COMMAND [OPTIONS]\n\nManage a gateway.",
            _section("Commands", OPERATOR_COMMANDS),
            "`moorage operator COMMAND --help` says more.",
            exit_code_text(),
        ]
    )


def _section(title: str, commands: Iterable[Command]) -> str:
    lines = (f"  {each.name.removeprefix(f'{OPERATOR} '):<18}{each.help}" for each in commands)
    return f"{title}:\n" + "\n".join(lines)


def main() -> None:
    """Runs the command line and exits with its code."""
    gc.set_threshold(50_000)  # of 700: what an import makes stays, and is looked at for nothing
    if isinstance(sys.stdout, TextIOWrapper):  # rather than fail where it is not UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    if "obstore" in sys.modules:
        # Its threads may still let go of objects: while Python ends, that is a SIGABRT.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


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
    is_group = has_gateway() and arguments[:1] == [OPERATOR]
    text, asked = (operator_overview, arguments[1:2]) if is_group else (overview, arguments[:1])
    if not asked:
        print(text(), file=sys.stderr)
        return Exit.INVALID
    if asked[0] in {"--help", "-h"}:
        print(text())
        return Exit.OK
    if arguments[0] in {"--version", "version"}:
        print(__version__)
        return Exit.OK
    as_json = "--json" in arguments
    try:
        return _run_command(arguments, as_json=as_json)
    except MoorageError as error:
        return _report(error, as_json=as_json)
    except KeyboardInterrupt:
        from moorage.cli.screen import say

        say(f"Interrupted. {left_behind(named(arguments))}".rstrip())
        return Exit.INTERRUPTED


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
    from cyclopts import CycloptsError, UnusedCliTokensError

    from moorage.cli.help import build_app, unwrap_help

    if arguments[0] in {OPERATOR, *(each.name for each in GATEWAY_COMMANDS)}:
        require_gateway(arguments[0])
    command = find_command(named(arguments))
    if command is not None and not {"--help", "-h"}.isdisjoint(arguments):
        unwrap_help(command)
    try:
        outcome = build_app()(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except UnusedCliTokensError as error:
        why = f"too many arguments: {' '.join(error.unused_tokens or ())}"
        return _refuse(why, command, as_json=as_json)
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

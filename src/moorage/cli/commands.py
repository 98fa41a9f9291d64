"""Every command: its name, its function, one line of help; and the exit codes."""

from enum import IntEnum
from importlib.util import find_spec
from typing import NamedTuple

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
    READER_GONE = 141  # whoever read the output left; as shells count a SIGPIPE


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


CLIENT_COMMANDS = (
    Command("deploy", "moorage.cli.deploy:deploy", "Deploy a directory and print its address."),
    Command("projects", "moorage.cli.projects:projects", "List your projects."),
    Command("status", "moorage.cli.projects:status", "Show where a deployment stands."),
    Command("logs", "moorage.cli.deploy:logs", "Show what a build or an app wrote."),
    Command("deployments", "moorage.cli.deploy:deployments", "List what was deployed."),
    Command("rollback", "moorage.cli.deploy:rollback", "Serve an earlier release again."),
    Command("cancel", "moorage.cli.deploy:cancel", "End a deployment that is under way."),
    Command("balance", "moorage.cli.account:balance", "Show what a wallet holds on chain."),
    Command(
        "credits",
        "moorage.cli.account:credits",
        "Show your credits, and how long they last.",
    ),
    Command("topup", "moorage.cli.account:topup", "Buy credits."),
    Command("events", "moorage.cli.account:events", "List what happened to your apps and credits."),
    Command("webhook", "moorage.cli.account:webhook", "Have your events sent to a URL."),
    Command("show", "moorage.cli.projects:show", "Show a project whole."),
    Command("env", "moorage.cli.projects:env", "Set a project's variables, or list them."),
    Command(
        "configure",
        "moorage.cli.projects:configure",
        "Change its title, health path, …",
    ),
    Command("restart", "moorage.cli.projects:restart", "Start a project's app again."),
    Command("pause", "moorage.cli.projects:pause", "Stop a project's app and what it burns."),
    Command("unpause", "moorage.cli.projects:unpause", "Start a paused app again."),
    Command(
        "usage",
        "moorage.cli.projects:usage",
        "Show traffic and resource use of a project's app.",
    ),
    Command("domains", "moorage.cli.projects:domains", "Have your own domains lead to a project."),
    Command("export", "moorage.cli.projects:export", "Fetch an archive of a project."),
    Command("delete", "moorage.cli.projects:delete", "Stop a project and remove it for good."),
    Command("adopt", "moorage.cli.projects:adopt", "Have a project share your wallet's credits."),
    Command("dashboard", "moorage.cli.account:dashboard", "Print the address of your pages."),
    Command("links", "moorage.cli.account:links", "Let others look at your pages."),
    Command("chains", "moorage.cli.account:chains", "List the chains and tokens taken."),
    Command(
        "completion",
        "moorage.cli.help:completion",
        "Print a script that completes commands in your shell.",
    ),
    Command("mcp", "moorage.cli.account:mcp", "Serve these as tools for an agent (MCP)."),
)

OPERATOR_COMMANDS = (
    Command(
        "dev", "moorage.cli.operator.gateway:dev", "Run everything on this machine, to try it."
    ),
    Command("serve", "moorage.cli.operator.gateway:serve", "Run a gateway."),
    Command(
        "stop",
        "moorage.cli.operator.gateway:stop",
        "End the apps of a gateway that does not run.",
    ),
    Command(
        "retire",
        "moorage.cli.operator.gateway:retire",
        "End a gateway for good: all but its books goes.",
    ),
    Command(
        "check",
        "moorage.cli.operator.gateway:check",
        "Say what is missing here, and what fixes it.",
    ),
    Command(
        "plan", "moorage.cli.operator.gateway:plan", "Show how a directory would be built and run."
    ),
    Command(
        "suspend",
        "moorage.cli.operator.customers:suspend",
        "Stop a project, whatever its credits.",
    ),
    Command(
        "resume",
        "moorage.cli.operator.customers:resume",
        "Lift a suspension: credits decide again.",
    ),
    Command(
        "suspended", "moorage.cli.operator.customers:suspended", "List what you have suspended."
    ),
    Command(
        "config",
        "moorage.cli.operator.gateway:config",
        "Show what is set, and what a restart would change.",
    ),
    Command("acts", "moorage.cli.operator.gateway:acts", "List what operators did, and why."),
    Command(
        "recipient",
        "moorage.cli.operator.gateway:recipient",
        "List addresses that were paid, or give one up.",
    ),
    Command(
        "base-domain",
        "moorage.cli.operator.gateway:base_domain",
        "List domains of apps, or give one up.",
    ),
    Command(
        "engine",
        "moorage.cli.operator.gateway:engine",
        "List projects by engine, or move them to another.",
    ),
    Command(
        "bases",
        "moorage.cli.operator.gateway:bases",
        "List the images that builds begin with, or pin them.",
    ),
    Command(
        "evict",
        "moorage.cli.operator.customers:evict",
        "Delete somebody's project, after notice.",
    ),
    Command(
        "maintenance",
        "moorage.cli.operator.customers:maintenance",
        "Refuse new deploys for a while.",
    ),
    Command("announce", "moorage.cli.operator.customers:announce", "Tell all customers something."),
    Command(
        "allow",
        "moorage.cli.operator.customers:allow",
        "List a wallet, or limit its projects.",
    ),
    Command(
        "prices",
        "moorage.cli.operator.customers:prices",
        "Give projects that there are the price list's price.",
    ),
    Command(
        "operator",
        "moorage.cli.operator.customers:operator",
        "Open the operator's pages, or end access to them.",
    ),
    Command("audit", "moorage.cli.operator.books:audit", "Compare the books with the chains."),
    Command("ledger", "moorage.cli.operator.books:ledger", "Print the ledger as CSV."),
    Command(
        "report",
        "moorage.cli.operator.books:report",
        "Report revenue, payments, or a wallet's invoice.",
    ),
    Command(
        "wallets",
        "moorage.cli.operator.customers:wallets",
        "List wallets: credits, burn, what they paid.",
    ),
    Command("credit", "moorage.cli.operator.customers:credit", "Give a wallet credits by hand."),
    Command(
        "payments", "moorage.cli.operator.books:payments", "List or release what screening holds."
    ),
    Command("refund", "moorage.cli.operator.books:refund", "Send a payment back to who paid."),
    Command("backup", "moorage.cli.operator.gateway:backup", "Save a gateway into one file."),
    Command(
        "migrate-database",
        "moorage.cli.operator.gateway:migrate_database",
        "Move the books from their file to a PostgreSQL server.",
    ),
    Command("restore", "moorage.cli.operator.gateway:restore", "Put a saved gateway back."),
)
"""Of `moorage.cli.operator.gateway` and its neighbours; without these, clients are all."""

_PAID = "A payment that was made is recorded: the same command resumes it."
_BEGUN = "What was begun continues: `moorage status PROJECT` says how it ends."
_LEFT_BEHIND = {
    "deploy": _PAID,
    "topup": _PAID,
    "rollback": _BEGUN,
    "env": _BEGUN,
    "configure": _BEGUN,
    "restart": _BEGUN,
    "refund": "A refund that was sent is recorded: `moorage refund --resume` follows it.",
}


def operator_commands() -> tuple[Command, ...]:
    """The operator's commands, if this installation has them."""
    return OPERATOR_COMMANDS if find_spec("moorage.cli.operator.gateway") else ()


def all_commands() -> tuple[Command, ...]:
    """Every command that this installation has."""
    return (*CLIENT_COMMANDS, *operator_commands())


def find_command(name: str) -> Command | None:
    """The command of this name, if there is one."""
    return next((each for each in all_commands() if each.name == name), None)


def left_behind(name: str) -> str:
    """What goes on after Ctrl-C ends a command; "" if nothing does."""
    return _LEFT_BEHIND.get(name, "")


def exit_code_text() -> str:
    """The table of exit codes, as help shows it."""
    return "Exit codes:\n" + "\n".join(f"  {int(code)}  {text}" for code, text in EXIT_CODES)


def overview() -> str:
    """What `moorage --help` prints. Written by hand, as rich is slow to load."""
    sections = ["Usage: moorage COMMAND [OPTIONS]\n\nDeploy an app by paying for it."]
    for title, commands in (("Commands", CLIENT_COMMANDS), ("Operators", operator_commands())):
        if commands:
            lines = (f"  {each.name:<18}{each.help}" for each in commands)
            sections.append(f"{title}:\n" + "\n".join(lines))
    sections.append(
        "Gateway, key and nodes come from flags, then from the environment\n"
        "(MOORAGE_GATEWAY, MOORAGE_PRIVATE_KEY, MOORAGE_RPC_URL_<CHAIN>), then from\n"
        ".moorage/dev.json, which `moorage dev` writes.\n"
        "`moorage COMMAND --help` says more."
    )
    sections.append(exit_code_text())
    return "\n\n".join(sections)

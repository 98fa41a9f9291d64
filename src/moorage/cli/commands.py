"""Every command: its name, its function, one line of help. Imports nothing heavy."""

from importlib.util import find_spec
from typing import NamedTuple

from moorage.cli.exits import EXIT_CODES


class Command(NamedTuple):
    """A command; `path` is `module:function`, imported when the command is run."""

    name: str
    path: str
    help: str


CLIENT_COMMANDS = (
    Command(
        "deploy", "moorage.cli.wallet.deploy:deploy", "Deploy a directory and print its address."
    ),
    Command("projects", "moorage.cli.wallet.projects:projects", "List your projects."),
    Command("status", "moorage.cli.wallet.projects:status", "Show where a deployment stands."),
    Command("logs", "moorage.cli.wallet.logs:logs", "Show what a build or an app wrote."),
    Command("deployments", "moorage.cli.wallet.deployments:deployments", "List what was deployed."),
    Command(
        "rollback", "moorage.cli.wallet.deployments:rollback", "Serve an earlier release again."
    ),
    Command(
        "cancel", "moorage.cli.wallet.deployments:cancel", "End a deployment that is under way."
    ),
    Command("balance", "moorage.cli.wallet.balances:balance", "Show what a wallet holds on chain."),
    Command(
        "credits",
        "moorage.cli.wallet.credits:credits",
        "Show your credits, and how long they last.",
    ),
    Command("topup", "moorage.cli.wallet.topup:topup", "Buy credits."),
    Command(
        "events", "moorage.cli.wallet.events:events", "List what happened to your apps and credits."
    ),
    Command("webhook", "moorage.cli.wallet.events:webhook", "Have your events sent to a URL."),
    Command("show", "moorage.cli.wallet.configuration:show", "Show a project whole."),
    Command(
        "env", "moorage.cli.wallet.configuration:env", "Set a project's variables, or list them."
    ),
    Command(
        "configure",
        "moorage.cli.wallet.configuration:configure",
        "Change its title, health path, …",
    ),
    Command("restart", "moorage.cli.wallet.configuration:restart", "Start a project's app again."),
    Command(
        "pause", "moorage.cli.wallet.configuration:pause", "Stop a project's app and what it burns."
    ),
    Command("unpause", "moorage.cli.wallet.configuration:unpause", "Start a paused app again."),
    Command(
        "usage",
        "moorage.cli.wallet.usage:usage",
        "Show traffic and resource use of a project's app.",
    ),
    Command(
        "domains", "moorage.cli.wallet.domains:domains", "Have your own domains lead to a project."
    ),
    Command(
        "delete", "moorage.cli.wallet.projects:delete", "Stop a project and remove it for good."
    ),
    Command(
        "adopt", "moorage.cli.wallet.projects:adopt", "Have a project share your wallet's credits."
    ),
    Command("dashboard", "moorage.cli.wallet.links:dashboard", "Print the address of your pages."),
    Command("links", "moorage.cli.wallet.links:links", "Let others look at your pages."),
    Command("chains", "moorage.cli.wallet.balances:chains", "List the chains and tokens taken."),
    Command(
        "completion",
        "moorage.cli.completion:completion",
        "Print a script that completes commands in your shell.",
    ),
    Command("mcp", "moorage.cli.wallet.mcp:mcp", "Serve these as tools for an agent (MCP)."),
)

OPERATOR_COMMANDS = (
    Command(
        "dev", "moorage.cli.operator.operate:dev", "Run everything on this machine, to try it."
    ),
    Command("serve", "moorage.cli.operator.operate:serve", "Run a gateway."),
    Command(
        "stop",
        "moorage.cli.operator.leaving:stop",
        "End the apps of a gateway that does not run.",
    ),
    Command(
        "retire",
        "moorage.cli.operator.leaving:retire",
        "End a gateway for good: all but its books goes.",
    ),
    Command(
        "check",
        "moorage.cli.operator.operate:check",
        "Say what is missing here, and what fixes it.",
    ),
    Command(
        "plan", "moorage.cli.operator.planning:plan", "Show how a directory would be built and run."
    ),
    Command(
        "suspend",
        "moorage.cli.operator.suspension:suspend",
        "Stop a project, whatever its credits.",
    ),
    Command(
        "resume",
        "moorage.cli.operator.suspension:resume",
        "Lift a suspension: credits decide again.",
    ),
    Command(
        "suspended", "moorage.cli.operator.suspension:suspended", "List what you have suspended."
    ),
    Command(
        "config",
        "moorage.cli.operator.configuration:config",
        "Show what is set, and what a restart would change.",
    ),
    Command("acts", "moorage.cli.operator.configuration:acts", "List what operators did, and why."),
    Command(
        "recipient",
        "moorage.cli.operator.configuration:recipient",
        "List addresses that were paid, or give one up.",
    ),
    Command(
        "base-domain",
        "moorage.cli.operator.configuration:base_domain",
        "List domains of apps, or give one up.",
    ),
    Command(
        "engine",
        "moorage.cli.operator.engines:engine",
        "List projects by engine, or move them to another.",
    ),
    Command(
        "bases",
        "moorage.cli.operator.engines:bases",
        "List the images that builds begin with, or pin them.",
    ),
    Command(
        "evict",
        "moorage.cli.operator.evictions:evict",
        "Delete somebody's project, after notice.",
    ),
    Command(
        "maintenance",
        "moorage.cli.operator.house_rules:maintenance",
        "Refuse new deploys for a while.",
    ),
    Command(
        "announce", "moorage.cli.operator.house_rules:announce", "Tell all customers something."
    ),
    Command(
        "allow",
        "moorage.cli.operator.house_rules:allow",
        "List a wallet, or limit its projects.",
    ),
    Command(
        "prices",
        "moorage.cli.operator.prices:prices",
        "Give projects that there are the price list's price.",
    ),
    Command(
        "operator",
        "moorage.cli.operator.access:operator",
        "Open the operator's pages, or end access to them.",
    ),
    Command("audit", "moorage.cli.operator.books:audit", "Compare the books with the chains."),
    Command("ledger", "moorage.cli.operator.books:ledger", "Print the ledger as CSV."),
    Command(
        "report",
        "moorage.cli.operator.reports:report",
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
    Command("backup", "moorage.cli.operator.backup:backup", "Save a gateway into one file."),
    Command(
        "migrate-database",
        "moorage.cli.operator.backup:migrate_database",
        "Move the books from their file to a PostgreSQL server.",
    ),
    Command("restore", "moorage.cli.operator.backup:restore", "Put a saved gateway back."),
)
"""Of `moorage.cli.operator.operate` and its neighbours; without these, clients are all."""

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
    return OPERATOR_COMMANDS if find_spec("moorage.cli.operator.operate") else ()


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

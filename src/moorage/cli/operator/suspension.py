"""The operator's switch against abuse: suspend, resume, and what is suspended."""

import asyncio
from typing import TYPE_CHECKING

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions, reason_option, wallet_option
from moorage.cli.screen import Screen

if TYPE_CHECKING:
    from moorage.operate.customers.suspension import Subject
    from moorage.records.project import Project


def suspend(
    name: str = "",
    /,
    *,
    reason: str = "",
    wallet: str = "",
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Suspend a project whatever its credits: `moorage suspend NAME --reason "…"`.

    A running gateway stops it within seconds and ends its billing. Its name, files and credits are
    kept until its owner deletes it or `moorage resume` lifts this.

    Parameters
    ----------
    name
        The project's name.
    reason
        Why: told to whoever deployed it.
    wallet
        Instead all projects of this wallet, and whatever it would deploy. Its credits stay, and can
        be refunded.
    """
    from moorage.operate.customers.suspension import run_suspend

    settings, subject = options.settings(), _subject(name, wallet)
    found = asyncio.run(run_suspend(settings, subject, reason_option(reason)))
    _tell(options.screen(), "suspended", found)
    return Exit.OK


def resume(
    name: str = "",
    /,
    *,
    wallet: str = "",
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Lift what `moorage suspend` did; from then on credits decide whether an app runs.

    Parameters
    ----------
    name
        The project's name.
    wallet
        Instead everything of this wallet, single projects as well.
    """
    from moorage.operate.customers.suspension import run_unsuspend

    settings, subject = options.settings(), _subject(name, wallet)
    _tell(options.screen(), "resumed", asyncio.run(run_unsuspend(settings, subject)))
    return Exit.OK


def suspended(*, options: OperatorOptions = DEFAULTS) -> int:
    """List the projects and wallets that you have suspended, and why."""
    from moorage.operate.customers.suspension import run_suspended

    found = asyncio.run(run_suspended(options.settings()))
    screen = options.screen()
    screen.document({"suspended": [each._asdict() for each in found]})
    rows = [(each.unique_name or "(all)", each.wallet, each.reason) for each in found]
    screen.table(("NAME", "WALLET", "REASON"), rows, none="Nothing is suspended.")
    return Exit.OK


def _subject(name: str, wallet: str) -> "Subject":
    from moorage.errors import InvalidField
    from moorage.operate.customers.suspension import Subject

    if bool(name) == bool(wallet):
        raise InvalidField("NAME", "name a project, or a wallet with --wallet")
    return Subject(name, wallet_option("--wallet", wallet))


def _tell(screen: Screen, done: str, found: "list[Project]") -> None:
    listed = [{"id": each.id, "name": each.unique_name, "wallet": each.wallet} for each in found]
    screen.document({done: listed})
    for each in found:
        screen.result(f"{each.unique_name} of {each.wallet} is {done}")
    if not found:
        screen.note(f"no project is {done} by this")

"""`moorage stop` and `moorage retire`: end what a gateway runs, and the gateway."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions, reason_option
from moorage.cli.screen import Screen, counted

if TYPE_CHECKING:
    from moorage.operate.closure import Left


def stop(
    *,
    reason: str = "",
    options: OperatorOptions = DEFAULTS,
) -> int:
    """End the apps and the proxy of a gateway that you have stopped: `moorage stop`.

    Nothing of it is left on the machine but its data, and nobody is billed; the next `serve` starts
    all of it again. It refuses while `serve` runs: `systemctl stop moorage` first.

    Parameters
    ----------
    reason
        Why, for `moorage acts`.
    """
    from moorage import logs
    from moorage.operate.stopping import run_stop

    settings = options.settings()
    logs.configure(level="warning")
    stopped = asyncio.run(run_stop(settings, reason=reason.strip()))
    screen = options.screen()
    screen.document({"stopped": stopped})
    screen.result(f"Stopped {counted(stopped.apps, 'app')} and the proxy. All data is kept.")
    return Exit.OK


def retire(
    target: Path,
    /,
    *,
    reason: str = "",
    i_know: Annotated[bool, Parameter(negative=())] = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """End a gateway that you have stopped, for good: `moorage retire /var/backups/moorage-books`.

    Lists who still has credits, held payments or projects, and what money is on its way; as long as
    there is any, nothing else is done. Otherwise writes the ledger into a new directory, ends all
    that runs, and removes apps, volumes, certificates, keys and caches. The database stays.

    Parameters
    ----------
    target
        The directory to make, with ledger.csv and owed.csv.
    reason
        Why, for `moorage acts`.
    i_know
        Retire it although somebody is owed something: their apps and volumes are gone afterwards.
    """
    from moorage import logs
    from moorage.operate.closure import run_retire

    settings, why = options.settings(), reason_option(reason)
    logs.configure(level="warning")
    done = asyncio.run(run_retire(settings, target.absolute(), reason=why, owing=i_know))
    screen = options.screen()
    screen.document({"retired": done.is_retired, "left": done.left, "kept": done.kept})
    _show(screen, done.left)
    if not done.is_retired:
        screen.result("Not retired: settle this first, or say --i-know.")
        return Exit.FAILED
    screen.result(f"Retired. The ledger is in {target}; {settings.data_dir} keeps:")
    for name in done.kept:
        screen.result(f"  {name}")
    return Exit.OK


def _show(screen: Screen, left: "Left") -> None:
    from moorage.money import usd_text

    screen.table(
        ("WALLET", "CREDITS", "HELD", "PROJECTS"),
        [
            (
                each.wallet,
                usd_text(each.credits_micro_usd),
                usd_text(each.held_micro_usd),
                " ".join(each.projects),
            )
            for each in left.owed
        ],
        none="Nobody is owed anything.",
    )
    for what in left.on_its_way:
        screen.result(f"On its way: {what}")

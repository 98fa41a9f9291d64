"""`moorage evict`: delete somebody's project, after its owner was told."""

import asyncio
from typing import Annotated

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions, reason_option


def evict(
    name: str = "",
    /,
    *,
    reason: str = "",
    days: float = 14.0,
    export: bool = True,
    cancel: Annotated[bool, Parameter(negative=())] = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Delete a project of anybody's for good: `moorage evict NAME --reason "…" --days 14`.

    Its owner is told by an event, with the reason and the date, and by another one where to fetch
    what it has; the wallet keeps its credits. A running gateway makes that archive, and deletes the
    project when it is due. Without a name, lists what is to be deleted. To stop a project and keep
    it, see `moorage suspend`.

    Parameters
    ----------
    name
        The project's name.
    reason
        Why: told to its owner.
    days
        How many days it has left; 0 deletes it at once.
    export
        Give its owner an archive of files, volume and logs first.
    cancel
        Keep it after all.
    """
    from moorage.errors import InvalidField
    from moorage.operate.customers.evictions import run_evict, run_evicted, run_keep

    settings = options.settings()
    if not 0 <= days <= 3650:
        raise InvalidField("--days", "must be from 0 to 3650")
    if cancel or reason:
        if not name:
            raise InvalidField("NAME", "name the project")
        if cancel:
            asyncio.run(run_keep(settings, name))
        else:
            told = reason_option(reason)
            asyncio.run(run_evict(settings, name, reason=told, days=days, with_export=export))
    elif name:
        raise InvalidField("--reason", "say why, for its owner")
    found = asyncio.run(run_evicted(settings))
    screen = options.screen()
    screen.document({"evictions": found})
    screen.table(
        ("NAME", "DELETED AT", "WALLET", "REASON"),
        [(each.name, each.at, each.wallet, each.reason) for each in found],
        none="No project is to be deleted.",
    )
    return Exit.OK

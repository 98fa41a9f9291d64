"""`moorage evict`: delete somebody's project, after its owner was told."""

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.operator.books import operator_settings, reason_option
from moorage.cli.screen import Screen


def evict(
    name: str = "",
    /,
    *,
    reason: str = "",
    days: float = 14.0,
    export: bool = True,
    cancel: Annotated[bool, Parameter(negative=())] = False,
    config: Path | None = None,
    data_dir: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
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
    config
        The gateway's settings, as TOML; without it `moorage dev` is meant.
    data_dir
        Where it keeps everything, if not where the settings say.
    json
        Print one JSON document.
    """
    from moorage.errors import InvalidField
    from moorage.operate.customers.evictions import run_evict, run_evicted, run_keep

    settings = operator_settings(config, data_dir)
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
    screen = Screen(json=json)
    screen.document({"evictions": found})
    screen.table(
        ("NAME", "DELETED AT", "WALLET", "REASON"),
        [(each.name, each.at, each.wallet, each.reason) for each in found],
        none="No project is to be deleted.",
    )
    return Exit.OK

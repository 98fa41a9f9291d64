"""`moorage evict`: delete somebody's project, after its owner was told."""

import asyncio
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions, reason_option

if TYPE_CHECKING:
    from moorage.operate.customers.evictions import EvictedProject


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
    project when it is due, but not before there is one. Without a name, lists what is to be
    deleted, what could not be, and why. To stop a project and keep it, see `moorage suspend`.

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
    kept = ""
    if cancel or reason:
        if not name:
            raise InvalidField("NAME", "name the project")
        if cancel:
            kept = asyncio.run(run_keep(settings, name))
        else:
            told = reason_option(reason)
            asyncio.run(run_evict(settings, name, reason=told, days=days, with_export=export))
    elif name:
        raise InvalidField("--reason", "say why, for its owner")
    found = asyncio.run(run_evicted(settings))
    screen = options.screen()
    screen.document({"evictions": found})
    if kept:
        screen.result(f"{kept} is kept: it is not to be deleted any more.")
    if found or not kept:
        screen.table(
            ("NAME", "DELETED AT", "WALLET", "REASON"),
            [(each.name, each.at, each.wallet, each.reason) for each in found],
            none="No project is to be deleted.",
        )
    for line in (line for each in found for line in waits(each)):
        screen.result(line)
    return Exit.OK


def waits(project: "EvictedProject") -> list[str]:
    """Lines on why a deletion waits, what that means, and what to do; none if nothing failed."""
    name, failed = project.name, project.failed
    if failed is None:
        return []
    can_do_without = project.with_export and not project.has_begun
    undone = "exported" if can_do_without else "deleted"
    lines = ["", f"{name} could not be {undone} at {failed.at}: {failed.why}"]
    again = "It is tried again by itself, each hour at least."
    if project.has_begun:
        return [*lines, f"  Its deletion has begun, and can't be cancelled. {again}"]
    lines.append(f"  Nothing of it is deleted. {again} Fix the cause, or:")
    evict = f"  moorage evict {name}"
    if can_do_without:
        lines.append(f'{evict} --reason "…" --days 0 --no-export   deletes it without an archive')
    return [*lines, f"{evict} --cancel   keeps it"]

"""`moorage credits`: what a wallet has with the gateway, and how long it lasts."""

import asyncio
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.screen import Screen
from moorage.wire.credits import CreditEntry, Credits


def credits(  # noqa: A001  (the command's name; the builtin is for the prompt)
    *,
    entries: Annotated[int, Parameter(validator=Number(gte=1, lte=100))] = 10,
    options: Options = DEFAULTS,
) -> int:
    """Show your credits, what burns them and when they run out.

    Parameters
    ----------
    entries
        How many of the last payments and burns to list.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def ask() -> Credits:
        async with connection.signed_client() as client:
            return await client.credits(limit=entries)

    found = asyncio.run(ask())
    screen.document(found)
    screen.result(_summary(found))
    if found.ledger:
        rows = [(each.at, each.kind, f"{each.amount_usd:+.6f}", _of(each)) for each in found.ledger]
        screen.table(("AT", "KIND", "USD", "OF"), rows)
    return Exit.OK


def _summary(found: Credits) -> str:
    lines = [f"${found.balance_usd:.6f} in credits of {found.wallet}"]
    if found.held_usd:
        lines.append(f"${found.held_usd:.6f} held for the operator's review")
    if found.burning:
        lines.append(f"{len(found.burning)} running, ${found.burn_per_hour_usd:.6f} an hour")
    if found.runs_out_at:
        lines.append(f"runs out at {found.runs_out_at}")
    if (builds := found.build_allowance) is not None:
        lines.append(
            f"{builds.left_seconds // 60} minutes of building left, then "
            f"${builds.beyond_per_minute_usd:.6f} a minute"
        )
    return "\n".join(lines)


def _of(entry: CreditEntry) -> str:
    """What an entry is of: a project, or a transaction."""
    return entry.project_id or entry.tx_hash or "-"

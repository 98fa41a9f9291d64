"""`moorage maintenance`, `announce` and `allow`: what the operator tells and allows customers."""

import asyncio
from typing import Annotated, Literal

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions, wallet_option
from moorage.cli.screen import counted

_NOTHING_SAID = "(nothing is said)"


def maintenance(
    what: Literal["on", "off", "show"] = "show",
    words: str = "",
    /,
    *,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Refuse new deploys for a while: `moorage maintenance on "back at 14:00 UTC"`.

    All that runs goes on, as do top-ups, rollbacks, restarts and deployments that were accepted or
    paid for before. It takes effect at once, in all gateways of the database.

    Parameters
    ----------
    what
        `on`, `off`, or `show`.
    words
        What whoever would deploy is told.
    """
    from moorage.operate.customers.house_rules import run_maintenance, run_notices

    settings = options.settings()
    if what != "show":
        asyncio.run(run_maintenance(settings, begin=what == "on", words=words.strip()))
    text = asyncio.run(run_notices(settings)).get("maintenance")
    screen = options.screen()
    screen.document({"maintenance": text is not None, "text": text or ""})
    if text is None:
        screen.result("No maintenance: deploys are taken.")
    else:
        screen.result(f"Maintenance: new deploys are refused. {text or _NOTHING_SAID}")
    return Exit.OK


def announce(
    words: str = "",
    /,
    *,
    end: Annotated[bool, Parameter(negative=())] = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Tell all customers something: `moorage announce "prices change on 1 May"`.

    Each wallet that has a project gets an event (`gateway.announcement`), and so its webhook;
    `GET /agent/credits` shows it until `--end`, or the next one. Without words, shows the current
    one.

    Parameters
    ----------
    words
        What they are told.
    end
        Show it no longer.
    """
    from moorage.operate.customers.house_rules import run_announce, run_notices

    settings = options.settings()
    told = 0
    if words.strip() or end:
        told = asyncio.run(run_announce(settings, "" if end else words.strip()))
    text = asyncio.run(run_notices(settings)).get("announcement", "")
    screen = options.screen()
    screen.document({"announcement": text, "told": told})
    screen.result(text or "Nothing is announced.")
    if told:
        screen.note(f"told to {counted(told, 'wallet')}")
    return Exit.OK


def allow(
    wallet: str = "",
    /,
    *,
    listed: bool | None = None,
    projects: int | None = None,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """List a wallet, or change how many projects it may have: `moorage allow 0x… --listed`.

    With the setting `listed_wallets_only` only listed wallets can deploy and pay. Without a wallet,
    shows what single wallets are allowed. To ban one, see `moorage suspend --wallet`.

    Parameters
    ----------
    wallet
        The wallet.
    listed
        List it, or take it off the list.
    projects
        How many projects it may have, in place of `projects_per_wallet`; -1: as that says.
    """
    from moorage.errors import InvalidField
    from moorage.operate.customers.house_rules import run_allow, run_allowed

    settings = options.settings()
    changes = listed is not None or projects is not None
    if bool(wallet) != changes:
        raise InvalidField(
            "WALLET", "name a wallet and --listed, --no-listed or --projects N; or nothing at all"
        )
    if changes:
        address = wallet_option("WALLET", wallet)
        asyncio.run(run_allow(settings, address, listed=listed, max_projects=projects))
    found = asyncio.run(run_allowed(settings))
    screen = options.screen()
    screen.document({"wallets": found})
    screen.table(
        ("WALLET", "LISTED", "PROJECTS"),
        [
            (
                each.wallet,
                "yes" if each.is_listed else "no",
                "as the setting" if each.max_projects is None else str(each.max_projects),
            )
            for each in found
        ],
        none="Every wallet is allowed the same.",
    )
    return Exit.OK

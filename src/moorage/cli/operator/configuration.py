"""The operator's look at the configuration, and at what operators did."""

import asyncio
from typing import TYPE_CHECKING, Literal

from moorage.cli.exits import Exit
from moorage.cli.operator.options import (
    DEFAULTS,
    OperatorOptions,
    reason_option,
    required,
    time_option,
    wallet_option,
)

if TYPE_CHECKING:
    from moorage.storage.operation.configuration import ConfigurationChange


def config(
    what: Literal["show", "diff", "history"],
    /,
    *,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Show the settings, what a restart would change, or what changed: `moorage config diff`.

    Secrets are told by a fingerprint alone.

    Parameters
    ----------
    what
        `show` prints each setting and where it comes from, `diff` what is different from the last
        start, `history` what starts have changed.
    """
    from moorage.operate.configuration import run_diff, run_history, shown

    settings, screen = options.settings(), options.screen()
    if what == "show":
        listed = shown(settings, file=options.config)
        screen.document({"settings": listed})
        rows = [(each.setting, _text(each.value), each.origin) for each in listed]
        screen.table(("SETTING", "VALUE", "FROM"), rows, none="")
        return Exit.OK
    changes = asyncio.run((run_diff if what == "diff" else run_history)(settings))
    screen.document({"changes": changes})
    for change in changes:
        screen.result(_change_text(change, dated=what == "history"))
    if not changes:
        screen.result("Nothing is different." if what == "diff" else "No start changed anything.")
    return Exit.OK


def acts(
    *,
    since: str | None = None,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """List what operators did by commands, who it was, and why.

    Parameters
    ----------
    since
        From this time on: 2026-04-07 or 2026-04-07T10:00:00Z.
    """
    from moorage.clock import iso_utc
    from moorage.operate.acts import run_acts

    since_ms = time_option("--since", since, default=0)
    found = asyncio.run(run_acts(options.settings(), since_ms=since_ms))
    screen = options.screen()
    screen.document({"acts": found})
    rows = [(iso_utc(it.at_ms), it.who, it.act, it.subject, it.reason) for it in found]
    screen.table(("TIME", "WHO", "ACT", "SUBJECT", "REASON"), rows, none="Nothing was done.")
    return Exit.OK


def recipient(
    what: Literal["list", "retire"],
    address: str = "",
    /,
    *,
    reason: str = "",
    options: OperatorOptions = DEFAULTS,
) -> int:
    """List the addresses that were ever `pay_to`, or give one up: `moorage recipient retire 0x…`.

    One that is retired must hold no token on any chain; payments to it are not credited any more.

    Parameters
    ----------
    what
        `list` lists them with what they hold, `retire` gives one up.
    address
        The address to give up.
    reason
        Why, for the record.
    """
    from moorage.clock import iso_utc
    from moorage.operate.retiring import run_recipients, run_retire_recipient

    settings, screen = options.settings(), options.screen()
    if what == "retire":
        wanted, why = wallet_option("ADDRESS", required("ADDRESS", address)), reason_option(reason)
        asyncio.run(run_retire_recipient(settings, wanted, reason=why))
        screen.document({"retired": wanted})
        screen.result(f"{wanted} is retired. Restart the gateway; keep the key all the same.")
        return Exit.OK
    seen = asyncio.run(run_recipients(settings))
    screen.document({"recipients": seen})
    for each in seen:
        retired = each.recipient.retired_at_ms
        state = "pay_to" if each.is_pay_to else "former"
        state = state if retired is None else f"retired {iso_utc(retired)}"
        holds = ", ".join(f"{it.amount} {it.token} on {it.chain}" for it in each.holds)
        since = iso_utc(each.recipient.since_ms)
        screen.result(f"{each.recipient.address} {state}, since {since}: {holds or 'empty'}")
    return Exit.OK


def base_domain(
    what: Literal["list", "retire"],
    domain: str = "",
    /,
    *,
    reason: str = "",
    options: OperatorOptions = DEFAULTS,
) -> int:
    """List the domains that were ever `base_domain`, or stop serving apps below one.

    Parameters
    ----------
    what
        `list` lists them, `retire` gives one up from the next start on.
    domain
        The domain to give up.
    reason
        Why, for the record.
    """
    from moorage.clock import iso_utc
    from moorage.operate.retiring import run_base_domains, run_retire_base_domain

    settings, screen = options.settings(), options.screen()
    if what == "retire":
        wanted, why = required("DOMAIN", domain), reason_option(reason)
        asyncio.run(run_retire_base_domain(settings, wanted, reason=why))
        screen.document({"retired": wanted})
        screen.result(f"{wanted} is retired: restart the gateway.")
        return Exit.OK
    found = asyncio.run(run_base_domains(settings))
    screen.document({"base_domains": found})
    for each in found:
        retired = "" if each.retired_at_ms is None else f", retired {iso_utc(each.retired_at_ms)}"
        screen.result(f"{each.domain} since {iso_utc(each.since_ms)}{retired}")
    return Exit.OK


def _text(value: object) -> str:
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _change_text(change: "ConfigurationChange", *, dated: bool) -> str:
    from moorage.clock import iso_utc

    when = f"{iso_utc(change.at_ms)} " if dated else ""
    before = "(not recorded)" if change.before is None else change.before
    after = "(taken out)" if change.after is None else change.after
    return f"{when}{change.setting}: {before} → {after}"

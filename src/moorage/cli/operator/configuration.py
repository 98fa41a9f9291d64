"""The operator's look at the configuration, and at what operators did."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.operator.books import (
    operator_settings,
    reason_option,
    time_option,
    wallet_option,
)
from moorage.cli.screen import Screen

if TYPE_CHECKING:
    from moorage.storage.operation.configuration import ConfigurationChange


def config(
    what: Literal["show", "diff", "history"],
    /,
    *,
    config: Path | None = None,
    data_dir: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show the settings, what a restart would change, or what changed: `moorage config diff`.

    Secrets are told by a fingerprint alone.

    Parameters
    ----------
    what
        `show` prints each setting and where it comes from, `diff` what is different from the last
        start, `history` what starts have changed.
    config
        The gateway's settings, as TOML; without it `moorage dev` is meant.
    data_dir
        Where it keeps everything, if not where the settings say.
    json
        Print one JSON document.
    """
    from moorage.operate.configuration import run_diff, run_history, shown

    settings, screen = operator_settings(config, data_dir), Screen(json=json)
    if what == "show":
        listed = shown(settings, file=config)
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
    config: Path | None = None,
    data_dir: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List what operators did by commands, who it was, and why.

    Parameters
    ----------
    since
        From this time on: 2026-04-07 or 2026-04-07T10:00:00Z.
    config
        The gateway's settings, as TOML; without it `moorage dev` is meant.
    data_dir
        Where it keeps everything, if not where the settings say.
    json
        Print one JSON document.
    """
    from moorage.clock import iso_utc
    from moorage.operate.acts import run_acts

    since_ms = time_option("--since", since, default=0)
    found = asyncio.run(run_acts(operator_settings(config, data_dir), since_ms=since_ms))
    screen = Screen(json=json)
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
    config: Path | None = None,
    data_dir: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
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
    config
        The gateway's settings, as TOML; without it `moorage dev` is meant.
    data_dir
        Where it keeps everything, if not where the settings say.
    json
        Print one JSON document.
    """
    from moorage.clock import iso_utc
    from moorage.operate.retiring import run_recipients, run_retire_recipient

    settings, screen = operator_settings(config, data_dir), Screen(json=json)
    if what == "retire":
        wanted, why = wallet_option("ADDRESS", _required("ADDRESS", address)), reason_option(reason)
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
    config: Path | None = None,
    data_dir: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
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
    config
        The gateway's settings, as TOML; without it `moorage dev` is meant.
    data_dir
        Where it keeps everything, if not where the settings say.
    json
        Print one JSON document.
    """
    from moorage.clock import iso_utc
    from moorage.operate.retiring import run_base_domains, run_retire_base_domain

    settings, screen = operator_settings(config, data_dir), Screen(json=json)
    if what == "retire":
        wanted, why = _required("DOMAIN", domain), reason_option(reason)
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


def _required(option: str, text: str) -> str:
    from moorage.errors import InvalidField

    if not text:
        raise InvalidField(option, "name it")
    return text


def _text(value: object) -> str:
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _change_text(change: "ConfigurationChange", *, dated: bool) -> str:
    from moorage.clock import iso_utc

    when = f"{iso_utc(change.at_ms)} " if dated else ""
    before = "(not recorded)" if change.before is None else change.before
    after = "(taken out)" if change.after is None else change.after
    return f"{when}{change.setting}: {before} → {after}"

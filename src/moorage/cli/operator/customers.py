"""`moorage wallets`, `moorage projects --all` and `moorage credit`: the gateway's customers."""

import asyncio
from typing import TYPE_CHECKING

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions, reason_option, wallet_option

if TYPE_CHECKING:
    from moorage.money import MicroUsd
    from moorage.storage.money.grants import Grant

_MIB = 1024 * 1024


def wallets(*, options: OperatorOptions = DEFAULTS) -> int:
    """List every wallet: its credits, what it burns, when they run out, what it paid."""
    from moorage.clock import iso_utc
    from moorage.money import usd_text
    from moorage.operate.customers.overview import run_wallets

    found = asyncio.run(run_wallets(options.settings()))
    screen = options.screen()
    screen.document({"wallets": found})
    screen.table(
        (
            "WALLET",
            "CREDITS",
            "A MONTH",
            "RUN OUT",
            "PAID",
            "GIVEN",
            "ACTIVE",
            "SUSPENDED",
            "SINCE",
        ),
        [
            (
                each.wallet,
                usd_text(each.balance),
                usd_text(each.a_month),
                "-" if each.runs_out_at_ms is None else iso_utc(each.runs_out_at_ms)[:16] + "Z",
                usd_text(each.paid),
                usd_text(each.given),
                str(each.active),
                "all, by you" if each.blocked_reason else str(each.suspended),
                iso_utc(each.since_ms)[:10],
            )
            for each in found
        ],
        none="No wallet has paid yet.",
    )
    return Exit.OK


def every_project(*, hours: int, options: OperatorOptions) -> int:
    """Prints the projects of all wallets; as `moorage projects --all` does."""
    from moorage.money import usd_text
    from moorage.operate.customers.overview import run_projects

    found = asyncio.run(run_projects(options.settings(), hours=hours))
    screen = options.screen()
    screen.document({"projects": [{**each.project._asdict(), "runs": each.runs} for each in found]})
    screen.table(
        ("NAME", "STATUS", "A MONTH", "REQUESTS", "CPU", "MEMORY", "SENT", "WALLET"),
        [
            (
                row.name,
                _status(row.status, row.blocked_reason, row.asleep_since_ms),
                usd_text(row.monthly_price),
                str(row.requests),
                f"{row.cpu_ms / 1000:.1f} s",
                f"{row.memory_peak_bytes // _MIB} MiB",
                f"{row.bytes_out // _MIB} MiB",
                row.wallet,
            )
            for row in (each.project for each in found)
        ],
        none="No projects yet.",
    )
    return Exit.OK


def credit(
    wallet: str = "",
    usd: str = "",
    /,
    *,
    reason: str = "",
    undo: str = "",
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Give a wallet credits without a payment: `moorage credit 0x… 5.00 --reason "…"`.

    Its suspended apps go on as after a payment. Without a wallet, lists what was given.

    Parameters
    ----------
    wallet
        Who gets them.
    usd
        How much, in dollars, with six places at most.
    reason
        Why: recorded, and told to the wallet.
    undo
        The id of credits that were given by mistake: takes them back, if the wallet has as many.
    """
    from moorage.errors import InvalidField
    from moorage.operate.customers.grants import all_grants, run_grant, run_undo_grant

    settings = options.settings()
    screen = options.screen()
    if undo:
        given = [asyncio.run(run_undo_grant(settings, undo))]
    elif wallet:
        address, amount = wallet_option("WALLET", wallet), _amount(usd)
        granted = run_grant(settings, wallet=address, amount=amount, reason=reason_option(reason))
        given = [asyncio.run(granted)]
    elif usd or reason:
        raise InvalidField("WALLET", "name the wallet that gets the credits")
    else:
        given = list(asyncio.run(all_grants(settings)))
    screen.document({"grants": given})
    for each in given:
        screen.result(_grant_text(each))
    if not given:
        screen.result("Nobody was given credits.")
    return Exit.OK


def _grant_text(given: "Grant") -> str:
    from moorage.clock import iso_utc
    from moorage.money import usd_text

    undone = "" if given.undone_at_ms is None else f", taken back {iso_utc(given.undone_at_ms)}"
    return (
        f"{iso_utc(given.created_at_ms)} {usd_text(given.amount_micro_usd)} to {given.wallet}: "
        f"{given.reason} ({given.id}{undone})"
    )


def _amount(text: str) -> "MicroUsd":
    """Returns dollars as micro-USD. Raises InvalidField."""
    from moorage.errors import InvalidField
    from moorage.money import MICRO_USD_PER_USD, micro_usd

    whole, _, fraction = text.removeprefix("$").partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdecimal()) or not whole or len(fraction) > 6:
        raise InvalidField("USD", "must be dollars as a decimal, such as 5 or 0.25")
    amount = int(whole) * MICRO_USD_PER_USD + int(fraction.ljust(6, "0"))
    if not 0 < amount <= 1_000_000 * MICRO_USD_PER_USD:
        raise InvalidField("USD", "must be more than 0, and a million at most")
    return micro_usd(amount)


def _status(status: str, blocked_reason: str | None, asleep_since_ms: int | None) -> str:
    if blocked_reason is not None:
        return f"{status}, by you"
    return "asleep" if asleep_since_ms is not None else status

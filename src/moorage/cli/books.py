"""The operator's commands over the books. The gateway may run meanwhile, or not."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.screen import Screen

if TYPE_CHECKING:
    from moorage.api.audit import Report
    from moorage.settings import Settings


def audit(
    *,
    config: Path | None = None,
    data_dir: str | None = None,
    from_block: int | None = None,
    fast: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Compare the books with themselves and with the chains, and name every row that is wrong.

    Exits with 0 when all is right, 1 when something is wrong, 4 when nothing is but a chain
    could not be read.

    Parameters
    ----------
    config
        The gateway's settings, as TOML; without it the books of `moorage dev` are meant.
    data_dir
        Where they are kept, if not where the settings say.
    from_block
        Search each chain for transfers from this block on, not from where the gateway began.
    fast
        Look up what is recorded, but don't search for transfers that are not.
    json
        Print one JSON document.
    """
    from moorage.api.audit import run_audit

    settings = _settings(config, data_dir)
    report = asyncio.run(run_audit(settings, from_block=from_block, search=not fast))
    screen = Screen(json=json)
    screen.document({"ok": not report.findings and not report.unknown, "report": report})
    for line in _report_lines(report):
        screen.result(line)
    if report.findings:
        return Exit.FAILED
    return Exit.TRY_AGAIN if report.unknown else Exit.OK


def _settings(config: Path | None, data_dir: str | None) -> "Settings":
    from moorage.settings import load_settings

    return load_settings(file=config, data_dir=data_dir)


def _report_lines(report: "Report") -> list[str]:
    from moorage.money import decimal_text

    def usd(amount: int) -> str:
        return f"${decimal_text(amount, decimals=6)}"

    def tokens(amount: str, decimals: int) -> str:
        return decimal_text(int(amount), decimals=decimals)

    return [
        *(f"WRONG    {item.row}: {item.problem}" for item in report.findings),
        *(f"pending  {item.row}: {item.problem}" for item in report.pending),
        *(f"UNKNOWN  chain {name}: {why}" for name, why in report.unknown.items()),
        *(
            f"{total.chain} {total.token}: received {tokens(total.received, total.decimals)}, "
            f"held {tokens(total.held, total.decimals)}, "
            f"sent back {tokens(total.sent_back, total.decimals)}"
            for total in report.totals
        ),
        f"{report.payments} payments",
        f"balances {usd(report.balances_micro_usd)}, burned {usd(report.burned_micro_usd)}",
        _verdict(report),
    ]


def _verdict(report: "Report") -> str:
    if report.findings:
        return f"{len(report.findings)} wrong"
    return "unknown: a chain could not be read" if report.unknown else "ok"
